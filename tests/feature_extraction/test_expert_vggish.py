"""VGGish: its log-mel patches against plain loops and another library, its network against a plain one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_networks import Weights, plain_vggish
from released_weights import random_weights, save_released
from transformers.audio_utils import mel_filter_bank

from feature_extraction.experts.vggish import VGGishExpert, log_mel, mel_filters
from feature_extraction.extractor import Media, VideoInfo
from vtr.errors import ConfigError, UnavailableError
from vtr.extract_config import ExpertConfig, ExtractConfig

RATE = 16000


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights("vggish")


@pytest.fixture(scope="module")
def path(model_files: Path) -> Path:
    return save_released("vggish", model_files)


@pytest.fixture(scope="module")
def made(path: Path) -> VGGishExpert:
    expert = VGGishExpert(config(path), "vggish")
    expert.load("cpu")
    return expert


def config(path: Path, **settings: object) -> ExtractConfig:
    return ExtractConfig(settings={"vggish": ExpertConfig(model=str(path), **settings)})


def media(sound: np.ndarray | None) -> Media:
    seconds = 0.0 if sound is None else len(sound) / RATE
    return Media(VideoInfo("made by hand", seconds, 64, 64, 25.0, sound is not None), sound=sound)


def noisy_tone(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(2).normal(0, 0.02, len(time))
    return (0.3 * np.sin(2 * np.pi * (300 + 900 * time) * time) + noise).astype(np.float32)


def plain_log_mel(sound: np.ndarray) -> np.ndarray:
    """The log-mel spectrum of Hershey et al. 2017 and AudioSet's page, one number after another."""

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    edges = [mel(125) + (mel(7500) - mel(125)) * index / 65 for index in range(66)]
    rows = []
    for start in range(0, len(sound) - 400 + 1, 160):
        piece = [sound[start + n] * (0.5 - 0.5 * math.cos(2 * math.pi * n / 400)) for n in range(400)]
        magnitudes = [0.0]
        for k in range(1, 257):
            angles = 2 * np.pi * k * np.arange(400) / 512
            magnitudes.append(math.hypot(np.dot(piece, np.cos(angles)), np.dot(piece, np.sin(angles))))
        row = []
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
            total = 0.0
            for k in range(1, 257):
                place = mel(k * RATE / 512)
                total += magnitudes[k] * max(0.0, min((place - low) / (centre - low), (high - place) / (high - centre)))
            row.append(math.log(total + 0.01))
        rows.append(row)
    return np.array(rows)


def test_log_mel_is_what_plain_loops_say() -> None:
    sound = noisy_tone(0.1)
    found = log_mel(sound, mel_filters())
    assert found.shape == (8, 64)  # 1 + (1600 - 400) // 160
    np.testing.assert_allclose(found, plain_log_mel(sound), atol=1e-4)


def test_filters_are_those_of_another_library() -> None:
    theirs = mel_filter_bank(257, 64, 125, 7500, RATE, mel_scale="kaldi", triangularize_in_mel_space=True)
    np.testing.assert_allclose(mel_filters(), theirs, atol=1e-6)


def test_the_network_is_as_published(weights: Weights) -> None:
    assert round(weights.parameters() / 1e6, 1) == 72.1  # AudioSet's page of VGGish: 72.1M weights
    assert len(weights.tensors) == 18  # 6 convolutions and 3 layers, each with weights and offsets


def test_embeddings_are_a_plain_networks(weights: Weights, made: VGGishExpert) -> None:
    sound = noisy_tone(2.5)
    found = made.extract(media(sound)).features
    spectra = log_mel(sound, mel_filters())
    patches = np.stack([spectra[:96], spectra[96:192]])  # as the release cuts them
    expected = plain_vggish(weights, torch.from_numpy(patches)).numpy()
    np.testing.assert_allclose(found.values, expected, rtol=1e-3, atol=1e-3 * expected.max())
    assert np.abs(expected[0] - expected[1]).max() > 0.05 * expected.max()
    np.testing.assert_allclose(found.start_seconds, [0, 0.96], atol=1e-6)
    np.testing.assert_allclose(found.end_seconds, [0.96, 1.92], atol=1e-6)


def test_short_sound_is_filled_up_with_silence(made: VGGishExpert) -> None:
    sound = noisy_tone(0.5)
    short, full = made.extract(media(sound)).features, made.extract(media(np.pad(sound, (0, RATE)))).features
    np.testing.assert_allclose(short.values[0], full.values[0], atol=1e-4 * full.values.max())
    assert (short.start_seconds.tolist(), short.end_seconds.tolist()) == ([0], [0.5])


def test_a_stride_makes_patches_overlap(path: Path) -> None:
    expert = VGGishExpert(config(path, stride_seconds=0.48), "vggish")
    preparation = expert.prepare(media(None).info)
    sound = noisy_tone(2.0)
    items = preparation.finish(sound)
    assert items.shape == (3, 96, 64)
    np.testing.assert_allclose(items[1], log_mel(sound, mel_filters())[48:144], atol=1e-6)
    np.testing.assert_allclose(preparation.times(), [[0, 0.48, 0.96], [0.96, 1.44, 1.92]])


def test_silence_and_no_sound_have_no_features(made: VGGishExpert) -> None:
    for sound in (None, np.zeros(0, np.float32), np.zeros(2 * RATE, np.float32)):
        assert made.extract(media(sound)) is None


def test_low_precision_is_close(path: Path, made: VGGishExpert) -> None:
    expert = VGGishExpert(config(path, precision="bfloat16"), "vggish")
    expert.load("cpu")
    exact, low = (which.extract(media(noisy_tone(1.0))).features.values[0] for which in (made, expert))
    assert exact @ low / np.linalg.norm(exact) / np.linalg.norm(low) > 0.99
    assert not np.array_equal(exact, low)


def test_what_it_cannot_do_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"window_seconds is 2, but VGGish hears 0\.96"):
        VGGishExpert(config(path, window_seconds=2.0), "vggish")
    with pytest.raises(UnavailableError, match=r"harritaylor/torchvggish/releases.*settings\.vggish\.model="):
        VGGishExpert(ExtractConfig(), "vggish")
