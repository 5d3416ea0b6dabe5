"""OCR: words on screen, read by PP-OCR (rapidocr, onnxruntime) and embedded by a sentence encoder."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from feature_extraction.extractor import Expert, Extracted, Frames, Reading, Sound, VideoInfo, features
from feature_extraction.needs import frame_need
from feature_extraction.text_embedding import sentence_encoder
from vtr.extract_config import ExtractConfig
from vtr.store.texts import FoundText
from vtr.types import ExpertSpec

MIN_CONFIDENCE = 0.6
MIN_LETTERS = 2
DETECTOR_SIDE = 320
"""The text detector sees frames with their longer side scaled down to this many pixels, a multiple of 32."""
SAME_FRAME = 2.0
"""Frames whose thumbnails differ by less than this (mean absolute grey level of 255) are read once."""


class Line(NamedTuple):
    """One line of text in a picture, with its box as shares of the picture's width and height."""

    text: str
    confidence: float
    box: tuple[float, float, float, float]


class OCRExtractor(Expert):
    """One feature per distinct text, from when it is first read until it is last read; every single reading is kept.

    It reads `text_frames_per_second` of the frames that all frame experts share, or all of its own where
    `settings.ocr` says which those are.

    Attributes:
        encoder: embeds the texts.
        apart_seconds: frames that follow sooner are passed over.
        shown_seconds: how long a text stays on screen after a frame shows it.
    """

    scaler = f"frames to a longer side of at most {DETECTOR_SIDE} for detection"

    def __init__(self, config: ExtractConfig, name: str = "ocr") -> None:
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
        self.encoder = sentence_encoder(config.sentence_model)
        own = config.of(name)
        self.frames = frame_need(config, name)
        self.shown_seconds = 1 / (own.frames_per_second or config.text_frames_per_second)
        self.apart_seconds = 0.0 if own.sampling or own.frames_per_second else self.shown_seconds
        self.spec = ExpertSpec(
            name=name,
            dim=self.encoder.dim,
            modality="text",
            window_seconds=None,
            model_id=f"rapidocr PP-OCR + {self.encoder.model_id}",
            weights_sha256=self.encoder.weights_sha256,
            pretrained_on="PP-OCR's text images; sentence pairs",
        )

    def begin(self, info: VideoInfo) -> Reading:
        """Start on a video."""
        return _OCRReading(self, info.duration_seconds)

    def read(self, image: NDArray[np.uint8]) -> list[Line]:
        """Return the text lines of a picture [H, W, 3], from top to bottom."""
        found: Any = self._reader(np.ascontiguousarray(image[:, :, ::-1]))
        if found.txts is None or found.boxes is None:
            return []
        lines = [
            (float(np.min(box[:, 1])), text.strip(), float(score), _shares(box, image))
            for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
            if score >= MIN_CONFIDENCE and sum(c.isalnum() for c in text) >= MIN_LETTERS
        ]
        return [Line(*line[1:]) for line in sorted(lines)]


def _shares(corners: NDArray[np.floating[Any]], image: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Return the upright box around four corners [4, 2] as shares of a picture's width and height."""
    shares = np.clip(corners / (image.shape[1], image.shape[0]), 0, 1)
    (left, top), (right, bottom) = shares.min(axis=0).tolist(), shares.max(axis=0).tolist()
    return left, top, right, bottom


@dataclass(slots=True)
class _Text:
    """A distinct text of a video: which feature it is, as first read, and from when until when."""

    feature: int
    text: str
    start_seconds: float
    end_seconds: float


class _OCRReading(Reading):
    """Keeps what was read and the last frame's thumbnail, no frames."""

    def __init__(self, expert: OCRExtractor, duration_seconds: float) -> None:
        self._expert, self._duration = expert, duration_seconds
        self._texts: dict[str, _Text] = {}
        self._gone: list[FoundText] = []
        self._on_screen: list[FoundText] = []
        self._last_seconds = -np.inf
        self._last_thumbnail: NDArray[np.float32] | None = None

    def add(self, frames: Frames) -> None:
        for image, seconds in zip(frames.images, frames.seconds.tolist(), strict=True):
            if seconds - self._last_seconds >= self._expert.apart_seconds - 1e-6:
                self._see(image, seconds)

    def _see(self, image: NDArray[np.uint8], seconds: float) -> None:
        end = min(seconds + self._expert.shown_seconds, self._duration)
        thumbnail = np.asarray(Image.fromarray(image).convert("L").resize((64, 64)), np.float32)
        if self._last_thumbnail is None or np.abs(thumbnail - self._last_thumbnail).mean() >= SAME_FRAME:
            self._gone += self._on_screen
            self._on_screen = [self._found(line, seconds, end) for line in self._expert.read(image)]
        else:
            self._on_screen = [replace(found, end_seconds=end) for found in self._on_screen]
        self._last_seconds, self._last_thumbnail = seconds, thumbnail
        for found in self._on_screen:
            self._texts[found.text.casefold()].end_seconds = end

    def _found(self, line: Line, seconds: float, end_seconds: float) -> FoundText:
        new = _Text(len(self._texts), line.text, seconds, end_seconds)
        feature = self._texts.setdefault(line.text.casefold(), new).feature
        return FoundText(line.text, feature, seconds, end_seconds, line.confidence, line.box)

    def finish(self, sound: Sound | None) -> Extracted | None:
        del sound
        if not self._texts:
            return None
        held = self._texts.values()
        texts = tuple(text.text for text in held)
        start, end = [text.start_seconds for text in held], [text.end_seconds for text in held]
        found = (*self._gone, *self._on_screen)
        return Extracted(features(self._expert.encoder.encode(texts), start, end), texts, found)
