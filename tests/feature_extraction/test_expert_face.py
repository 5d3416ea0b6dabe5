"""Faces on real frames: found where they are, alike for one person, unlike for two."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from painted_clips import media
from PIL import Image

from vtr.packaged import dlib_model


@pytest.fixture(scope="module")
def frames(shared: Path) -> dict[str, np.ndarray]:
    """Frames of clips in which one person faces the camera."""
    found = {}
    for name in ("video6909", "video2857"):
        with av.open(str(shared / "msrvtt" / "videos" / f"{name}.mp4")) as container:
            found[name] = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return found


def test_one_person_is_alike_and_another_is_not(extractor, frames: dict[str, np.ndarray]) -> None:
    first, second = (extractor("face").extract(media(images)).features for images in frames.values())
    assert first.dim == 128
    within = np.linalg.norm(first.values[0] - first.values[1:], axis=1)
    between = np.linalg.norm(first.values[:, None] - second.values[None], axis=2)
    assert within.max() < 0.6 < between.min()  # 0.6 is the distance dlib's author gives for "the same person"
    assert set(first.start_seconds) <= set(range(len(frames["video6909"])))
    assert (first.start_seconds == first.end_seconds).all()


def test_descriptors_are_dlibs_of_the_aligned_face(extractor, frames: dict[str, np.ndarray]) -> None:
    import dlib

    image = frames["video6909"][0]
    boxes = dlib.get_frontal_face_detector()(image, 1)  # in colour, as dlib's examples do
    shape = dlib.shape_predictor(str(dlib_model("shape_predictor_5_face_landmarks.dat")))(image, boxes[0])
    model = dlib.face_recognition_model_v1(str(dlib_model("dlib_face_recognition_resnet_model_v1.dat")))
    expected = np.array(model.compute_face_descriptor(dlib.get_face_chip(image, shape)))
    found = extractor("face").extract(media(image[None])).features.values
    assert np.linalg.norm(found - expected, axis=1).min() < 0.1


def test_large_frames_give_the_same_faces(extractor, frames: dict[str, np.ndarray]) -> None:
    image = frames["video6909"][0]
    large = np.asarray(
        Image.fromarray(image).resize((image.shape[1] * 2, image.shape[0] * 2), Image.Resampling.BICUBIC)
    )
    small_found, large_found = (extractor("face").extract(media(i[None])).features.values for i in (image, large))
    assert len(small_found) == len(large_found)
    assert np.linalg.norm(small_found - large_found, axis=1).max() < 0.3
