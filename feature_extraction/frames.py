"""What the decoder's child process and everybody else share. Imports no torch, so that the child starts fast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
