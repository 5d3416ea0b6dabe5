"""For tests: cheap experts. They are imported by name in the worker processes."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_extraction.extractor import (
    Expert,
    Extracted,
    Frames,
    ModelExpert,
    Preparation,
    Reading,
    Sound,
    VideoInfo,
    features,
)
from feature_extraction.needs import frame_need
from feature_extraction.preparations import FramePreparation
from vtr.extract_config import ExtractConfig
from vtr.types import ExpertSpec


class Mean(Expert):
    """The mean colour of every frame; nothing for dark clips."""

    scaler = "none"
    label = "mean"
    dim = 3

    def __init__(self, config: ExtractConfig, name: str) -> None:
        self.frames = frame_need(config, name)
        self.spec = ExpertSpec(name, self.dim, "image", None, f"{self.label} colour")

    def begin(self, info: VideoInfo) -> Reading:
        del info
        return MeanReading(self)

    def look(self, colour: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what is made of mean colours [N, 3]."""
        return colour


class MeanReading(Reading):
    def __init__(self, expert: Mean) -> None:
        self._expert = expert
        self._values: list[NDArray[np.float64]] = []
        self._seconds: list[float] = []

    def add(self, frames: Frames) -> None:
        time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
        self._values.append(self._expert.look(frames.images.mean(axis=(1, 2))))
        self._seconds += frames.seconds.tolist()

    def finish(self, sound: Sound | None) -> Extracted | None:
        del sound
        if not self._values or np.concatenate(self._values).mean() < 40:
            return None
        return Extracted(features(np.concatenate(self._values), self._seconds, self._seconds))


class Clumsy(Mean):
    """Raises on reddish clips and kills its process on greenish ones."""

    label = "clumsy"

    def look(self, colour: NDArray[np.float64]) -> NDArray[np.float64]:
        red, green, _ = colour.mean(axis=0)
        if red > 150 > green:
            raise RuntimeError("red makes me stumble")
        if green > 150 > red:
            os.kill(os.getpid(), 9)
        return colour


class Liar(Mean):
    """Says that it has five dimensions."""

    label, dim = "liar", 5


class Dizzy(Mean):
    """Answers NaN."""

    label = "dizzy"

    def look(self, colour: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full_like(colour, np.nan)


class Weighted(Mean):
    """Has the weights that FAKE_WEIGHTS names; with weights "b" it is blind to blue."""

    def __init__(self, config: ExtractConfig, name: str) -> None:
        super().__init__(config, name)
        self.spec = replace(self.spec, weights_sha256=os.environ["FAKE_WEIGHTS"])

    def look(self, colour: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.spec.weights_sha256 == "a":
            return colour
        return 200 - colour if colour[:, 2].mean() < 150 else 0 * colour


class MeanModel(ModelExpert):
    """The mean colour of every frame, as a model's answer."""

    scaler = "none"
    label = "model"

    def __init__(self, config: ExtractConfig, name: str) -> None:
        self.batch = config.of(name).batch or 8
        self.frames = frame_need(config, name, exact=(16, 8))
        self.spec = ExpertSpec(name, 3, "image", None, f"{self.label} colour")
        self.device = ""

    def load(self, device: str) -> None:
        self.device = device

    def prepare(self, info: VideoInfo) -> Preparation:
        return FramePreparation(info, np.copy)

    def embed(self, items: NDArray[Any]) -> NDArray[np.float32]:
        assert self.device, "the model is not loaded"
        assert len(items) <= self.batch
        return items.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)


class ClumsyModel(MeanModel):
    """Raises when it sees a reddish picture and kills its process over a greenish one."""

    label = "clumsy model"

    def embed(self, items: NDArray[Any]) -> NDArray[np.float32]:
        values = super().embed(items)
        red, green, _ = values.T
        if ((red > 150) & (green < 150)).any():
            raise RuntimeError("red makes me stumble")
        if ((green > 150) & (red < 150)).any():
            os.kill(os.getpid(), 9)
        return values
