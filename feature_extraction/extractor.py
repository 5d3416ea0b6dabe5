"""The `Extractor` protocol: what an expert is given, what it answers, and what it needs decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feature_extraction.frames import Frames as Frames
from feature_extraction.frames import VideoInfo as VideoInfo
from vtr.types import ExpertFeatures, ExpertSpec

SOUND_RATE = 16_000
"""Samples per second of the sound that experts are given."""


@dataclass(frozen=True, slots=True)
class Media:
    """One decoded video, shared by all experts; nobody writes into it.

    Attributes:
        info: the container's facts.
        frames: colour frames at the configured rate.
        motion: grey, small frames at up to 12.5 a second for optical flow; None when no expert asked for them.
        sound: [S] float32 mono samples at 16 kHz in [-1, 1]; None when the video has no sound or nobody asked.
        sound_error: why a sound track that is there could not be read; the frames are good all the same.
    """

    info: VideoInfo
    frames: Frames
    motion: Frames | None
    sound: NDArray[np.float32] | None
    sound_error: str | None = None


@dataclass(frozen=True, slots=True)
class Extracted:
    """What an expert found: features, and for text experts the text of each feature.

    Attributes:
        features: [T, D] with times.
        texts: T strings for ocr and speech, None for the others.
    """

    features: ExpertFeatures
    texts: tuple[str, ...] | None = None


class Extractor(Protocol):
    """One expert. Made once per worker process (models load here), then called for every video.

    Attributes:
        spec: what the features are; written into the store.
        needs_motion, needs_sound: what must be decoded beyond the colour frames.
        scaler: how frames are resized or sound is scaled, in words, for the store's metadata.
    """

    spec: ExpertSpec
    needs_motion: bool
    needs_sound: bool
    scaler: str

    def extract(self, media: Media) -> Extracted | None:
        """Return the video's features, or None when the expert finds nothing in it (absence is not zeros).

        Raises:
            Exception: anything; the pipeline records it in the failure ledger and goes on with the next expert.
        """


def features(values: Any, start_seconds: Any, end_seconds: Any) -> ExpertFeatures:
    """Return `ExpertFeatures` from array-likes, as float32."""
    return ExpertFeatures(
        np.asarray(values, np.float32),
        np.asarray(start_seconds, np.float32),
        np.asarray(end_seconds, np.float32),
    )
