"""For tests: cheap experts. They are imported by name in the worker processes."""

from __future__ import annotations

import os
import time

import numpy as np

from feature_extraction.extractor import Extracted, Media, features
from vtr.config import ExtractConfig
from vtr.types import ExpertSpec


class Mean:
    """The mean colour of every frame; nothing for dark clips."""

    needs_motion = False
    needs_sound = False
    scaler = "none"
    spec = ExpertSpec("mean", 3, "image", None, "mean colour")

    def __init__(self, config: ExtractConfig) -> None:
        del config

    def extract(self, media: Media) -> Extracted | None:
        time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
        values = media.frames.images.mean(axis=(1, 2))
        if values.mean() < 40:
            return None
        return Extracted(features(values, media.frames.seconds, media.frames.seconds))


class Clumsy(Mean):
    """Raises on reddish clips and kills its process on greenish ones."""

    spec = ExpertSpec("clumsy", 3, "image", None, "mean colour, clumsily")

    def extract(self, media: Media) -> Extracted | None:
        red, green, _ = media.frames.images.mean(axis=(0, 1, 2))
        if red > 150 > green:
            raise RuntimeError("red makes me stumble")
        if green > 150 > red:
            os.kill(os.getpid(), 9)
        return super().extract(media)


class Liar(Mean):
    """Says that it has five dimensions."""

    spec = ExpertSpec("liar", 5, "image", None, "mean colour")


class Dizzy(Mean):
    """Answers NaN."""

    spec = ExpertSpec("dizzy", 3, "image", None, "NaN")

    def extract(self, media: Media) -> Extracted | None:
        values = np.full((len(media.frames.images), 3), np.nan)
        return Extracted(features(values, media.frames.seconds, media.frames.seconds))
