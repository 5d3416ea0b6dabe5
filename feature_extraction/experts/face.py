"""Faces: dlib's HOG detector and 128-d face descriptors (King 2009; ResNet trained on about 3 million faces)."""

from __future__ import annotations

import numpy as np

from feature_extraction.extractor import Extracted, Media, features
from vtr.config import ExtractConfig
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


class FaceExtractor:
    """One feature a face and frame."""

    needs_motion = False
    needs_sound = False
    scaler = f"grey frames, doubled for detection where the shorter side is below {DOUBLED_BELOW}"

    def __init__(self, config: ExtractConfig) -> None:
        import dlib

        del config
        weights = dlib_model("dlib_face_recognition_resnet_model_v1.dat")
        self._detector = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(str(dlib_model("shape_predictor_5_face_landmarks.dat")))
        self._describe = dlib.face_recognition_model_v1(str(weights))
        self.spec = ExpertSpec(
            name="face",
            dim=128,
            modality="image",
            window_seconds=None,
            model_id="dlib face recognition resnet v1",
            weights_sha256=sha256_file(weights),
            pretrained_on="about 3 million faces (face scrub, VGG faces, web)",
        )

    def extract(self, media: Media) -> Extracted | None:
        """Return one feature a face, or None when no face is found."""
        found = []
        for image, seconds in zip(media.frames.images, media.frames.seconds.tolist(), strict=True):
            grey = np.ascontiguousarray(image.astype(np.uint16) @ LUMA >> 8, np.uint8)
            boxes, _, _ = self._detector.run(grey, int(min(grey.shape) < DOUBLED_BELOW), MIN_SCORE)
            for box in boxes:
                shape = self._landmarks(image, box)
                found.append((np.array(self._describe.compute_face_descriptor(image, shape)), seconds))
        if not found:
            return None
        values, start = zip(*found, strict=True)
        return Extracted(features(values, start, start))
