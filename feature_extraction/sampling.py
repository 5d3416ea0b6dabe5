"""Which frames of a video are read. All of it is in seconds, whatever the frame rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feature_extraction.frames import Sampling

ROUNDING_SECONDS = 1e-3
"""Containers round times, some to milliseconds: a frame that starts so soon after a grid point counts as on screen."""

Indices = NDArray[np.int64]


def sample(
    sampling: Sampling,
    frame_seconds: NDArray[np.float64],
    end_seconds: float,
    shots: Sequence[tuple[float, float]] = (),
) -> Indices:
    """Return the indices of the frames a sampling chooses, ascending, none twice.

    Args:
        sampling: see `feature_extraction.frames.Sampling`.
        frame_seconds: [N] ascending times at which frames appear, the first one 0.
        end_seconds: when the last frame ends.
        shots: (start, end) seconds of each shot, for sampling "shots".
    """
    if sampling.kind == "all":
        most = min(sampling.most or len(frame_seconds), len(frame_seconds))
        return np.unique(((np.arange(most) + 0.5) * len(frame_seconds) / most).astype(np.int64))
    if sampling.kind == "uniform":
        return spread(frame_seconds, 0.0, end_seconds, sampling.most or len(frame_seconds))
    if sampling.kind == "shots":
        inside = [(start, min(end, end_seconds)) for start, end in shots if start < end_seconds]
        chosen = [spread(frame_seconds, start, end, sampling.per_shot) for start, end in inside]
        return np.unique(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
    wanted = max(1, math.ceil(end_seconds * sampling.per_second - 1e-6))
    return spread(frame_seconds, 0.0, end_seconds, min(wanted, sampling.most or wanted))


def spread(frame_seconds: NDArray[np.float64], start_seconds: float, end_seconds: float, number: int) -> Indices:
    """Return the frames on screen in the middle of each of `number` equal spans between two times.

    A frame is never taken twice, so where there are fewer frames than that each is given once.
    """
    inside = int(np.count_nonzero((frame_seconds >= start_seconds) & (frame_seconds < end_seconds)))
    number = max(1, min(number, inside))
    middles = start_seconds + (np.arange(number) + 0.5) * (end_seconds - start_seconds) / number
    return np.unique(np.searchsorted(frame_seconds, middles + ROUNDING_SECONDS, side="right") - 1).clip(0)


def fit(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """Return (width, height), even, scaled down (never up) so that the shorter side is at most `shorter_side`."""
    scale = min(1.0, shorter_side / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
