"""Frames scaled for models, against the library's own processors; windows of sound against plain lists."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf

from feature_extraction.pictures import read_scaler
from feature_extraction.windows import sound_windows

SQUARE = {"height": 40, "width": 40}
PROCESSORS = {
    "clip": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 40}, "crop_size": SQUARE},
    "clip, old style": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 40, "crop_size": 40},
    "dinov2": {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 48}, "crop_size": SQUARE},
    "siglip": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 40, "width": 40}},
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 48, "width": 40}, "resample": 0},
    "vit, unscaled": {"image_processor_type": "ViTImageProcessor", "size": SQUARE, "do_rescale": False},
    "vit, unnormalised": {"image_processor_type": "ViTImageProcessor", "size": SQUARE, "do_normalize": False},
    "crop only": {"image_processor_type": "CLIPImageProcessor", "do_resize": False, "crop_size": SQUARE},
    "videomae": {"image_processor_type": "VideoMAEImageProcessor", "size": {"shortest_edge": 44}, "crop_size": SQUARE},
}


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("size", [(48, 64), (97, 53), (40, 41), (33, 57), (57, 20)])
def test_pictures_are_those_of_the_library(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[name]))
    images = np.random.default_rng(0).integers(0, 255, (2, *size, 3), dtype=np.uint8)
    processor = tf.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    expected = processor(list(images), return_tensors="pt")["pixel_values"].reshape(2, 3, -1)
    scaler = read_scaler(tmp_path, "clip")
    pictures = scaler.scale_all(images)
    assert pictures.dtype == np.uint8
    assert pictures.shape == (2, *scaler.size, 3)
    found = scaler.normalise(torch.from_numpy(pictures))
    np.testing.assert_allclose(found.reshape(2, 3, -1).numpy(), expected.float().numpy(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "window", "stride", "expected"),
    [
        (5, 10, 10, [(0, 5)]),
        (10, 10, 10, [(0, 10)]),
        (20, 10, 10, [(0, 10), (10, 20)]),
        (27, 10, 10, [(0, 10), (10, 20), (17, 27)]),
        (205, 100, 100, [(0, 100), (100, 200)]),  # a rest of a twentieth of a window
        (25, 10, 5, [(0, 10), (5, 15), (10, 20), (15, 25)]),
        (39, 10, 20, [(0, 10), (20, 30)]),  # the rest lies where no window starts
        (42, 10, 20, [(0, 10), (20, 30), (32, 42)]),
    ],
)
def test_windows_of_sound(samples: int, window: int, stride: int, expected: list[tuple[int, int]]) -> None:
    assert sound_windows(samples, window, stride) == expected
