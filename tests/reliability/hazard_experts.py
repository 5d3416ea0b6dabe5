"""For tests: cheap experts, and experts that hang, crash or eat memory. They are imported by name in the workers."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from pathlib import Path

import deadly_moments
import numpy as np
from numpy.typing import NDArray

from feature_extraction.extractor import Expert, Extracted, Frames, Reading, Sound, VideoInfo, features
from feature_extraction.frames import FrameNeed, Sampling
from feature_extraction.needs import frame_need
from vtr.extract_config import ExtractConfig
from vtr.store.texts import FoundText
from vtr.types import ExpertSpec

deadly_moments.die_as("worker")

HAZARD = "hazard"
"""Experts that misbehave do so over videos that have this word in their file's name."""


class Mean(Expert):
    """The mean colour of every frame. Waits while the file TEST_GATE names is absent, then TEST_SECONDS a piece."""

    scaler = "none"

    def __init__(self, config: ExtractConfig, name: str) -> None:
        self.frames = frame_need(config, name)
        self.spec = ExpertSpec(name, 3, "image", None, "mean colour")

    def begin(self, info: VideoInfo) -> Reading:
        return MeanReading(self, HAZARD in Path(info.path).name)

    def misbehave(self) -> None:
        """Do what the expert does over a hazard."""


class MeanReading(Reading):
    """Collects the mean colours."""

    def __init__(self, expert: Mean, hazard: bool) -> None:
        self._expert, self._hazard = expert, hazard
        self._values: list[NDArray[np.float64]] = []
        self._seconds: list[float] = []

    def add(self, frames: Frames) -> None:
        if self._hazard:
            self._expert.misbehave()
        gate = os.environ.get("TEST_GATE")
        while gate and not Path(gate).exists():
            time.sleep(0.02)
        time.sleep(float(os.environ.get("TEST_SECONDS", "0")))
        self._values.append(frames.images.mean(axis=(1, 2), dtype=np.float64))
        self._seconds += frames.seconds.tolist()

    def finish(self, sound: Sound | None) -> Extracted | None:
        del sound
        return Extracted(features(np.concatenate(self._values), self._seconds, self._seconds)) if self._values else None


class EveryFrame(Mean):
    """The mean colour of all frames of the video, however long it is, and how many there are: one feature."""

    def __init__(self, config: ExtractConfig, name: str) -> None:
        super().__init__(config, name)
        self.frames = FrameNeed(Sampling("all", most=None))
        self.spec = ExpertSpec(name, 4, "video", None, "mean colour and a thousandth of the number of frames")

    def begin(self, info: VideoInfo) -> Reading:
        return EveryFrameReading(info)


class EveryFrameReading(Reading):
    """Adds up; holds no frame."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._sum, self._count = np.zeros(3), 0

    def add(self, frames: Frames) -> None:
        self._sum += frames.images.mean(axis=(1, 2), dtype=np.float64).sum(axis=0)
        self._count += len(frames.images)

    def finish(self, sound: Sound | None) -> Extracted | None:
        del sound
        counted = [*self._sum / self._count, self._count / 1000]
        return Extracted(features([counted], [0.0], [self._info.duration_seconds]))


class Hang(Mean):
    """Never answers."""

    def misbehave(self) -> None:
        while True:
            time.sleep(60)


class Segfault(Mean):
    """Reads address 0."""

    def misbehave(self) -> None:
        ctypes.string_at(0)


class Killed(Mean):
    """Dies as the kernel's out-of-memory killer would have it."""

    def misbehave(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Hog(Mean):
    """Takes memory without end, and is allowed 300 MB more than the worker holds."""

    def misbehave(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_AS)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + 300 * 2**20, before[1]))
        hoard = []
        try:
            while True:
                hoard.append(np.ones(10 * 2**20, np.uint8))
        finally:
            hoard.clear()
            resource.setrlimit(resource.RLIMIT_AS, before)


class Loud(Expert):
    """The loudness of every half second of sound."""

    sound = True
    scaler = "none"

    def __init__(self, config: ExtractConfig, name: str) -> None:
        del config
        self.spec = ExpertSpec(name, 1, "audio", 0.5, "loudness")

    def begin(self, info: VideoInfo) -> Reading:
        del info
        return LoudReading()


class LoudReading(Reading):
    """Reads the sound at the end."""

    def finish(self, sound: Sound | None) -> Extracted | None:
        if sound is None or len(sound) < 8000:
            return None
        halves = sound[: len(sound) // 8000 * 8000].reshape(-1, 8000)
        start = 0.5 * np.arange(len(halves))
        return Extracted(features(np.abs(halves).mean(axis=1)[:, None], start, start + 0.5))


class Words(Mean):
    """Names the strongest colour of every frame, as if it were read there."""

    def begin(self, info: VideoInfo) -> Reading:
        return WordsReading(self, HAZARD in Path(info.path).name)


class WordsReading(MeanReading):
    """Turns mean colours into words."""

    def finish(self, sound: Sound | None) -> Extracted | None:
        extracted = super().finish(sound)
        if extracted is None:
            return None
        words = tuple(("red", "green", "blue")[int(colour.argmax())] for colour in extracted.features.values)
        found = tuple(
            FoundText(text=word, feature=feature, start_seconds=float(start), end_seconds=float(end), confidence=1.0)
            for feature, (word, start, end) in enumerate(
                zip(words, extracted.features.start_seconds, extracted.features.end_seconds, strict=True)
            )
        )
        return Extracted(extracted.features, words, found)


class Wide(Mean):
    """1000 numbers a frame that cannot be compressed: a few videos fill a small disk."""

    def __init__(self, config: ExtractConfig, name: str) -> None:
        super().__init__(config, name)
        self.spec = ExpertSpec(name, 1000, "image", None, "noise by colour")

    def begin(self, info: VideoInfo) -> Reading:
        del info
        return WideReading(self, hazard=False)


class WideReading(MeanReading):
    """Turns mean colours into noise that depends on them only."""

    def finish(self, sound: Sound | None) -> Extracted | None:
        extracted = super().finish(sound)
        if extracted is None:
            return None
        means = extracted.features.values
        noise = np.stack([np.random.default_rng(row.astype(np.uint64)).random(1000) for row in means])
        return Extracted(features(noise, extracted.features.start_seconds, extracted.features.end_seconds))


EXTRACTORS = {
    kind.__name__.lower(): f"hazard_experts:{kind.__name__}"
    for kind in (Mean, EveryFrame, Hang, Segfault, Killed, Hog, Loud, Words, Wide)
}
