"""What an expert is: what it needs decoded, how it reads one video piece by piece, and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_extraction.frames import FrameNeed as FrameNeed
from feature_extraction.frames import Frames as Frames
from feature_extraction.frames import VideoInfo as VideoInfo
from vtr.store.texts import FoundText as FoundText
from vtr.types import ExpertFeatures, ExpertSpec

SOUND_RATE = 16_000
"""Samples per second of the sound that experts are given."""

Sound = NDArray[np.float32]
"""[S] mono samples at 16 kHz in [-1, 1]; sample 0 is heard with the first frame."""


@dataclass(frozen=True, slots=True)
class Media:
    """One whole decoded video as one expert sees it; for short videos and tests.

    Attributes:
        info: the container's facts.
        frames: what the expert's `FrameNeed` asked for; None when it asked for none.
        sound: the sound; None when the video has none or the expert did not ask.
    """

    info: VideoInfo
    frames: Frames | None = None
    sound: Sound | None = None


@dataclass(frozen=True, slots=True)
class Extracted:
    """What an expert found: features, and for text experts what was read or heard.

    Attributes:
        features: [T, D] with times.
        texts: for text experts one string a feature; None for the others.
        found: for text experts every single find with its time, place and confidence; each says which feature it is
            part of.
    """

    features: ExpertFeatures
    texts: tuple[str, ...] | None = None
    found: tuple[FoundText, ...] = ()


class Reading(ABC):
    """One expert reading one video: pieces of it come in order, the features at the end."""

    too_little: str = ""
    """Once `finish` has returned None for want of input and not of findings: what was too little, in words."""

    def add(self, frames: Frames) -> None:
        """Take the next frames, N >= 1. They are shared with other experts: never write into them."""
        del frames

    @abstractmethod
    def finish(self, sound: Sound | None) -> Extracted | None:
        """Return the video's features, or None when the expert finds nothing in it (absence is not zeros)."""


class Expert(ABC):
    """One expert. Made once per process (models load here or in `ModelExpert.load`), then it reads every video.

    Attributes:
        spec: what the features are; written into the store.
        frames: which frames it reads; None when it reads none.
        sound: whether it reads the sound.
        scaler: how frames are resized or sound is scaled, in words, for the store's metadata.
    """

    spec: ExpertSpec
    frames: FrameNeed | None = None
    sound: bool = False
    scaler: str = ""

    @abstractmethod
    def begin(self, info: VideoInfo) -> Reading:
        """Start on a video. Anything raised here or by the reading is entered in the failure ledger."""

    def extract(self, media: Media) -> Extracted | None:
        """Return the features of a whole video."""
        reading = self.begin(media.info)
        if self.frames is not None and media.frames is not None and len(media.frames.images):
            reading.add(media.frames)
        return reading.finish(media.sound if self.sound else None)


class Preparation(ABC):
    """One video's way to a model: frames and sound become items, the model's inputs."""

    def add(self, frames: Frames) -> NDArray[Any] | None:
        """Take the next frames; return the items [n, ...] that are complete now, or None. Copies, no views."""
        del frames
        return None

    def finish(self, sound: Sound | None) -> NDArray[Any] | None:
        """Return the last items [n, ...], or None."""
        del sound
        return None

    @abstractmethod
    def times(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return when all the items given so far start and end, [n] and [n] seconds."""


WAITING_BYTES = 64 << 20
"""Items wait for a whole batch up to this size, so that large ones do not fill the memory."""
Embed = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Items [n, ...] to features [n, D], n >= 1."""


class ModelExpert(Expert):
    """An expert whose features are a model's answers to items: the model may sit on a GPU and serve many videos.

    A worker that leaves the model to another process never calls `load`; it sets `embed_with` instead. What `__init__`
    does (sizes, preprocessing, `spec`) is needed in both places, so the model itself loads in `load` only.

    Attributes:
        batch: items given to the model at a time. No feature depends on what else is in the batch.
        embed_with: what turns items into features in place of this object's own model.
    """

    batch: int = 16
    embed_with: Embed | None = None

    @abstractmethod
    def load(self, device: str) -> None:
        """Load the model onto "cpu", "cuda" or "cuda:1".

        Raises:
            UnavailableError: weights or packages are missing; the message holds the line that mends it.
        """

    @abstractmethod
    def embed(self, items: NDArray[Any]) -> NDArray[np.float32]:
        """Return the features [n, D] of at most `batch` items [n, ...] (the model's answer, on its device)."""

    @abstractmethod
    def prepare(self, info: VideoInfo) -> Preparation:
        """Start on a video."""

    def begin(self, info: VideoInfo) -> Reading:
        """Start on a video."""
        return _ModelReading(self.prepare(info), self.embed_with or self.embed_all, self.batch)

    def embed_all(self, items: NDArray[Any]) -> NDArray[np.float32]:
        """Return the features [n, D] of any number of items, `batch` at a time."""
        parts = [self.embed(items[at : at + self.batch]) for at in range(0, len(items), self.batch)]
        return np.concatenate(parts)


class _ModelReading(Reading):
    """Prepare, embed in whole batches, collect."""

    def __init__(self, preparation: Preparation, embed: Embed, batch: int) -> None:
        self._preparation, self._embed, self._batch = preparation, embed, batch
        self._waiting: list[NDArray[Any]] = []
        self._values: list[NDArray[np.float32]] = []

    def add(self, frames: Frames) -> None:
        self._take(self._preparation.add(frames))
        count, size = sum(map(len, self._waiting)), sum(items.nbytes for items in self._waiting)
        if count >= self._batch or size > WAITING_BYTES:
            items = np.concatenate(self._waiting)
            whole = count // self._batch * self._batch or count
            self._waiting = [items[whole:]]
            self._values.append(self._embed(items[:whole]))

    def finish(self, sound: Sound | None) -> Extracted | None:
        self._take(self._preparation.finish(sound))
        if self._waiting and len(items := np.concatenate(self._waiting)):
            self._values.append(self._embed(items))
        if not self._values:
            return None
        return Extracted(features(np.concatenate(self._values), *self._preparation.times()))

    def _take(self, items: NDArray[Any] | None) -> None:
        if items is not None:
            self._waiting.append(items)


def features(values: Any, start_seconds: Any, end_seconds: Any) -> ExpertFeatures:
    """Return `ExpertFeatures` from array-likes, as float32."""
    return ExpertFeatures(
        np.asarray(values, np.float32),
        np.asarray(start_seconds, np.float32),
        np.asarray(end_seconds, np.float32),
    )
