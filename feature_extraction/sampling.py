"""Which frames of a video are read: a regular grid in time, whatever the frame rate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ROUNDING_SECONDS = 1e-3
"""Containers round times, some to milliseconds: a frame that starts so soon after a grid point counts as on screen."""


def grid_indices(
    frame_seconds: NDArray[np.float64], end_seconds: float, per_second: float, most: int | None
) -> NDArray[np.int64]:
    """Return the indices of the frames on screen in the middle of each of n equal spans of the video.

    n is `per_second` times the duration, at least 1 and at most `most`. A frame is never taken twice, so a video with
    fewer frames than that gives each of its frames once.

    Args:
        frame_seconds: [N] ascending times at which frames appear, the first one 0.
        end_seconds: when the last frame ends.
        per_second: frames wanted per second.
        most: largest n; None for no limit.
    """
    wanted = max(1, math.ceil(end_seconds * per_second - 1e-6))
    wanted = min(wanted, len(frame_seconds), most or wanted)
    middles = (np.arange(wanted) + 0.5) * end_seconds / wanted
    return np.unique(np.searchsorted(frame_seconds, middles + ROUNDING_SECONDS, side="right") - 1).clip(0)


def fit(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """Return (width, height), even, scaled down (never up) so that the shorter side is at most `shorter_side`."""
    scale = min(1.0, shorter_side / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
