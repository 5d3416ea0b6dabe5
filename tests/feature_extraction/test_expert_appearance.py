"""Appearance features against the package's own model, run plainly."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from painted_clips import media
from PIL import Image

from vtr.packaged import efficientnet_folder


@pytest.fixture(scope="module")
def plain() -> EfficientNet:
    weights = next(efficientnet_folder().glob("*.pth"))
    with contextlib.redirect_stdout(None):
        return EfficientNet.from_pretrained("efficientnet-lite2", weights_path=str(weights)).eval()


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """Five frames with edges, gradients and texture."""
    rng = np.random.default_rng(3)
    small = rng.integers(0, 255, (5, 12, 16, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((320, 240))) for image in small])


@torch.inference_mode()
def test_features_are_what_the_plain_model_pools_before_its_classifier(extractor, plain, photographs) -> None:
    found = extractor("appearance").extract(media(photographs)).features.values
    resized = [np.asarray(Image.fromarray(image).resize((260, 260), Image.BILINEAR)) for image in photographs]
    pixels = torch.from_numpy((np.stack(resized).astype(np.float32) / 255 - 0.498) / 0.502).permute(0, 3, 1, 2)
    pooled = plain.extract_features(pixels).mean((2, 3)).numpy()
    cosine = (found * pooled).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(pooled, axis=1)
    assert cosine.min() > 0.99  # PIL rounds resized pixels to whole grey levels, which the network notices
    unlike = found[0] @ pooled[1:].T / np.linalg.norm(found[0]) / np.linalg.norm(pooled[1:], axis=1)
    assert unlike.max() < cosine.min()


@torch.inference_mode()
def test_folding_batch_norms_changes_no_number(extractor, plain, photographs) -> None:
    pixels = torch.nn.functional.interpolate(
        torch.from_numpy(photographs).permute(0, 3, 1, 2).float(), (260, 260), mode="bilinear", antialias=True
    )
    pixels = (pixels / 255 - 0.498) / 0.502
    expected = plain.extract_features(pixels).mean((2, 3)).numpy()
    found = extractor("appearance").extract(media(photographs)).features.values
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(plain._fc(torch.from_numpy(found)), plain(pixels), atol=1e-3)


def test_frames_do_not_depend_on_their_neighbours(extractor, photographs) -> None:
    together = extractor("appearance").extract(media(photographs)).features.values
    alone = [extractor("appearance").extract(media(image[None])).features.values[0] for image in photographs]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_a_frame_covers_the_time_until_the_next(extractor, photographs) -> None:
    seconds = np.array([0.2, 1.0, 2.5, 3.0, 4.0])
    found = extractor("appearance").extract(media(photographs, seconds, duration_seconds=4.7)).features
    np.testing.assert_allclose(found.start_seconds, seconds, rtol=1e-6)
    np.testing.assert_allclose(found.end_seconds, [1.0, 2.5, 3.0, 4.0, 4.7], rtol=1e-6)
