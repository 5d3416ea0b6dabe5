"""What the decoder's child process and everybody else share. Imports no torch, so that the child starts fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SamplingKind = Literal["fps", "uniform", "all", "shots"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames of a video are read. Times come from the container, never from index / rate.

    Attributes:
        kind: "fps", a regular grid in time of `per_second` frames a second, but at most `most` over the whole video;
            "uniform", `most` frames evenly over the video; "all", every frame (thinned evenly to `most`);
            "shots", `per_shot` frames evenly in each shot.
        per_second: for "fps".
        most: see `kind`; None for no limit.
        per_shot: for "shots".
    """

    kind: SamplingKind = "fps"
    per_second: float = 2.0
    most: int | None = 64
    per_shot: int = 1


@dataclass(frozen=True, slots=True)
class FrameNeed:
    """Which frames an expert reads and how they look. Experts with equal needs share the same decoded pictures.

    Attributes:
        sampling: which frames.
        side: the shorter side is scaled down (never up) to at most so many pixels, aspect kept.
        exact: (width, height) the frames are scaled to instead, aspect not kept.
        grey: [N, H, W] grey instead of [N, H, W, 3] RGB.
    """

    sampling: Sampling = Sampling()
    side: int = 480
    exact: tuple[int, int] | None = None
    grey: bool = False


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a container says about its streams.

    Attributes:
        path: the file.
        duration_seconds: length of the video stream.
        width, height: pixels, as displayed: turned as the container asks, and with square pixels.
        frames_per_second: mean rate; None when the container does not tell.
        has_sound: whether there is an audio stream.
    """

    path: str
    duration_seconds: float
    width: int
    height: int
    frames_per_second: float | None
    has_sound: bool


@dataclass(frozen=True, slots=True)
class Frames:
    """Decoded frames with their times.

    Attributes:
        images: [N, H, W, 3] uint8 RGB, or [N, H, W] uint8 grey.
        seconds: [N] float64 presentation times, ascending.
    """

    images: NDArray[np.uint8]
    seconds: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.images.ndim not in (3, 4) or self.seconds.shape != self.images.shape[:1]:
            raise ValueError(
                f"images {self.images.shape} and seconds {self.seconds.shape}: [N, H, W(, 3)] and [N] expected"
            )
