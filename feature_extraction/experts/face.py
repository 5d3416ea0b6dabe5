"""Faces: dlib's HOG detector and 128-d face descriptors (King 2009; ResNet trained on about 3 million faces)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_extraction.extractor import Expert, Extracted, Frames, Reading, Sound, VideoInfo, features
from feature_extraction.needs import frame_need
from vtr.extract_config import ExtractConfig
from vtr.files import sha256_file
from vtr.packaged import dlib_model
from vtr.types import ExpertSpec

DOUBLED_BELOW = 400
"""Frames whose shorter side is less are doubled before looking for faces. The detector finds faces from 80 pixels on:
about a sixth of the frame in either case, in a quarter of the time that doubling larger frames would take."""
LUMA = np.array([77, 150, 29], np.uint16)
"""How much red, green and blue make grey (BT.601), of 256."""
MIN_SCORE = 0.1
"""The detector's score below which a find is dropped; false finds cluster near 0."""


class FaceExtractor(Expert):
    """One feature a face and frame."""

    scaler = f"grey frames, doubled for detection where the shorter side is below {DOUBLED_BELOW}"

    def __init__(self, config: ExtractConfig, name: str = "face") -> None:
        import dlib

        weights = dlib_model("dlib_face_recognition_resnet_model_v1.dat")
        self._detector = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(str(dlib_model("shape_predictor_5_face_landmarks.dat")))
        self._describe = dlib.face_recognition_model_v1(str(weights))
        self.frames = frame_need(config, name)
        self.spec = ExpertSpec(
            name=name,
            dim=128,
            modality="image",
            window_seconds=None,
            model_id="dlib face recognition resnet v1",
            weights_sha256=sha256_file(weights),
            pretrained_on="about 3 million faces (face scrub, VGG faces, web)",
        )

    def begin(self, info: VideoInfo) -> Reading:
        """Start on a video."""
        del info
        return _FaceReading(self)

    def faces(self, image: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Return the descriptor [128] of each face in a picture [H, W, 3]."""
        grey = np.ascontiguousarray(image.astype(np.uint16) @ LUMA >> 8, np.uint8)
        boxes, _, _ = self._detector.run(grey, int(min(grey.shape) < DOUBLED_BELOW), MIN_SCORE)
        shapes: list[Any] = [self._landmarks(image, box) for box in boxes]
        return [np.array(self._describe.compute_face_descriptor(image, shape)) for shape in shapes]


class _FaceReading(Reading):
    def __init__(self, expert: FaceExtractor) -> None:
        self._expert = expert
        self._values: list[NDArray[np.float64]] = []
        self._seconds: list[float] = []

    def add(self, frames: Frames) -> None:
        for image, seconds in zip(frames.images, frames.seconds.tolist(), strict=True):
            faces = self._expert.faces(image)
            self._values += faces
            self._seconds += [seconds] * len(faces)

    def finish(self, sound: Sound | None) -> Extracted | None:
        del sound
        if not self._values:
            return None
        return Extracted(features(self._values, self._seconds, self._seconds))
