"""OCR: words on screen, read by PP-OCR (rapidocr, onnxruntime) and embedded by a sentence encoder."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from feature_extraction.extractor import Extracted, Media, features
from feature_extraction.text_embedding import sentence_encoder
from vtr.config import ExtractConfig
from vtr.types import ExpertSpec

MIN_CONFIDENCE = 0.6
MIN_LETTERS = 2
DETECTOR_SIDE = 320
"""The text detector sees frames with their longer side scaled down to this many pixels, a multiple of 32."""
SAME_FRAME = 2.0
"""Frames whose thumbnails differ by less than this (mean absolute grey level of 255) are read once."""


class OCRExtractor:
    """One feature per distinct text, from when it is first read until it is last read; the text is kept."""

    needs_motion = False
    needs_sound = False
    scaler = f"frames to a longer side of at most {DETECTOR_SIDE} for detection"

    def __init__(self, config: ExtractConfig) -> None:
        from rapidocr import RapidOCR

        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        self._reader = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,
                "Global.max_side_len": DETECTOR_SIDE * 2,
                "Det.limit_side_len": DETECTOR_SIDE,
                "Det.limit_type": "max",
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        self._encoder = sentence_encoder(config.sentence_model)
        self._gap_seconds = 1 / config.text_frames_per_second
        self.spec = ExpertSpec(
            name="ocr",
            dim=self._encoder.dim,
            modality="text",
            window_seconds=None,
            model_id=f"rapidocr PP-OCR + {self._encoder.model_id}",
            weights_sha256=self._encoder.weights_sha256,
            pretrained_on="PP-OCR's text images; sentence pairs",
        )

    def extract(self, media: Media) -> Extracted | None:
        """Return one feature per distinct text, or None when nothing can be read."""
        spans: dict[str, tuple[float, float]] = {}
        wording: dict[str, str] = {}
        last_seconds, last_thumbnail, lines = -np.inf, None, []
        for image, seconds in zip(media.frames.images, media.frames.seconds.tolist(), strict=True):
            if seconds - last_seconds < self._gap_seconds - 1e-6:
                continue
            thumbnail = np.asarray(Image.fromarray(image).convert("L").resize((64, 64)), np.float32)
            if last_thumbnail is None or np.abs(thumbnail - last_thumbnail).mean() >= SAME_FRAME:
                lines = self._read(image)
            last_seconds, last_thumbnail = seconds, thumbnail
            for line in lines:
                key = line.casefold()
                wording.setdefault(key, line)
                first, _ = spans.get(key, (seconds, seconds))
                spans[key] = (first, min(seconds + self._gap_seconds, media.info.duration_seconds))
        if not spans:
            return None
        texts = tuple(wording[key] for key in spans)
        start, end = zip(*spans.values(), strict=True)
        return Extracted(features(self._encoder.encode(texts), start, end), texts)

    def _read(self, image: NDArray[np.uint8]) -> list[str]:
        """Return the frame's text lines, from top to bottom."""
        found: Any = self._reader(np.ascontiguousarray(image[:, :, ::-1]))
        if found.txts is None or found.boxes is None:
            return []
        lines = [
            (float(np.min(box[:, 1])), text.strip())
            for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
            if score >= MIN_CONFIDENCE and sum(c.isalnum() for c in text) >= MIN_LETTERS
        ]
        return [text for _, text in sorted(lines)]
