"""DenseNet-161 Places: the network against a plain one, the published size, and the file as Python 2 wrote it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plain_networks import Weights, plain_densenet
from released_weights import random_weights, save_released

from feature_extraction.experts.densenet import DenseNetPlacesExpert
from feature_extraction.extractor import Frames, Media, VideoInfo
from vtr.errors import UnavailableError
from vtr.extract_config import ExpertConfig, ExtractConfig

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights("densenet")


@pytest.fixture(scope="module")
def path(model_files: Path) -> Path:
    return save_released("densenet", model_files)


def expert(path: Path, **settings: object) -> DenseNetPlacesExpert:
    own = ExpertConfig(model=str(path), **settings)
    made = DenseNetPlacesExpert(ExtractConfig(settings={"densenet": own}), "densenet")
    made.load("cpu")
    return made


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    small = np.random.default_rng(3).integers(0, 255, (3, 12, 16, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((320, 240))) for image in small])


def media(images: np.ndarray) -> Media:
    info = VideoInfo("made by hand", 3.5, images.shape[2], images.shape[1], None, False)
    return Media(info, Frames(images, np.arange(len(images), dtype=np.float64)))


def test_the_network_is_as_published() -> None:
    made = Weights()
    plain_densenet(made, torch.zeros(1, 3, 32, 32), classes=1000)
    assert made.parameters() == 28_681_000  # torchvision's page of its DenseNet-161


def test_features_are_what_a_plain_network_pools(weights: Weights, path: Path) -> None:
    pictures = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 4 - 2
    expected, logits = plain_densenet(weights, pictures, classes=365)
    with torch.inference_mode():
        found = expert(path)._network(pictures)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    again = found @ weights.tensors["classifier.weight"].T + weights.tensors["classifier.bias"]
    torch.testing.assert_close(again, logits, rtol=1e-3, atol=1e-3)


def test_frames_are_scaled_and_cut_as_the_release_does(weights: Weights, path: Path, photographs: np.ndarray) -> None:
    found = expert(path).extract(media(photographs)).features
    cut = [np.asarray(Image.fromarray(i).resize((256, 256), Image.BILINEAR))[16:240, 16:240] for i in photographs]
    pixels = ((np.stack(cut) / 255 - MEAN) / STD).astype(np.float32)
    expected, _ = plain_densenet(weights, torch.from_numpy(pixels).permute(0, 3, 1, 2), classes=365)
    cosine = torch.nn.functional.cosine_similarity(torch.from_numpy(found.values), expected)
    assert cosine.min() > 0.9999
    unlike = torch.nn.functional.cosine_similarity(torch.from_numpy(found.values[:1]), expected[1:])
    assert unlike.max() < cosine.min()
    assert found.start_seconds.tolist() == [0, 1, 2]
    assert found.end_seconds.tolist() == [1, 2, 3.5]
    assert found.dim == 2208


def test_low_precision_is_close_and_batches_do_not_matter(path: Path, photographs: np.ndarray) -> None:
    exact = expert(path, batch=1).extract(media(photographs)).features.values
    together = expert(path, batch=7).extract(media(photographs)).features.values
    np.testing.assert_allclose(exact, together, atol=1e-4 * np.abs(exact).max())
    low = expert(path, precision="bfloat16").extract(media(photographs)).features.values
    assert ((exact * low).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(low, axis=1)).min() > 0.99


def test_a_plain_state_dict_of_todays_names_is_read_too(weights: Weights, path: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.pth"
    torch.save(weights.tensors, plain)
    frame = media(np.full((1, 64, 64, 3), 90, np.uint8))
    found, expected = (expert(where).extract(frame).features.values for where in (plain, path))
    np.testing.assert_array_equal(found, expected)


def test_a_missing_file_says_where_it_is_to_be_had() -> None:
    with pytest.raises(UnavailableError, match=r"http://places2\.csail\.mit\.edu/models_places365/densenet161"):
        DenseNetPlacesExpert(ExtractConfig(), "densenet")


def test_the_release_of_a_whole_model_is_refused_as_it_would_run_code(tmp_path: Path) -> None:
    whole = tmp_path / "whole_densenet161_places365.pth.tar"
    stream = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), stream)
    whole.write_bytes(stream.getvalue())
    with pytest.raises(UnavailableError, match=r"expert densenet.*whole_densenet161.*Tensors and plain containers"):
        expert(whole)
