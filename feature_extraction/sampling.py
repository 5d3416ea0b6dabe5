"""Which frames of a video are read, by the times at which the container shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feature_extraction.frames import FrameNeed, Sampling

ROUNDING_SECONDS = 1e-3
"""Containers round times, some to milliseconds: a frame that starts so soon after a grid point counts as on screen."""


def sample(
    sampling: Sampling,
    frame_seconds: NDArray[np.float64],
    end_seconds: float,
    shots: Sequence[tuple[float, float]] = (),
) -> NDArray[np.int64]:
    """Return the indices of the frames that a sampling takes, ascending, none twice.

    "fps" takes the frame on screen in the middle of each of n equal spans of the video, n being `per_second` times the
    duration, at least 1 and at most `most`. "uniform" does the same with n = `most`, and takes
    every frame of a video with no more than that. "all" takes every frame; when there are more than `most`, those in
    the middle of `most` equal runs of frames. "shots" takes the frames on screen in the middle of `per_shot` equal
    spans of each shot, thinned like "all".

    Args:
        sampling: see `feature_extraction.frames.Sampling`.
        frame_seconds: [N] ascending times at which frames appear, the first one 0.
        end_seconds: when the last frame ends.
        shots: (start, end) seconds of each shot, for "shots"; without any the video is one shot.
    """
    frames = np.arange(len(frame_seconds))
    if sampling.kind == "all":
        return _thin(frames, sampling.most)
    if sampling.kind == "uniform":
        if sampling.most is None or len(frames) <= sampling.most:
            return frames
        return _on_screen(frame_seconds, 0.0, end_seconds, sampling.most)
    if sampling.kind == "shots":
        taken = [
            _on_screen(frame_seconds, start, min(end, end_seconds), sampling.per_shot)
            for start, end in shots or ((0.0, end_seconds),)
            if start < end_seconds
        ]
        return _thin(np.unique(np.concatenate([frames[:0], *taken])), sampling.most)
    wanted = max(1, math.ceil(end_seconds * sampling.per_second - 1e-6))
    return _on_screen(frame_seconds, 0.0, end_seconds, min(wanted, sampling.most or wanted))


def _on_screen(frame_seconds: NDArray[np.float64], start: float, end: float, count: int) -> NDArray[np.int64]:
    """Return the frames shown in the middle of each of `count` equal spans, each frame once."""
    middles = start + (np.arange(count) + 0.5) * (end - start) / count
    return np.unique((np.searchsorted(frame_seconds, middles + ROUNDING_SECONDS, side="right") - 1).clip(0))


def _thin(indices: NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    if most is None or len(indices) <= most:
        return indices
    return indices[((np.arange(most) + 0.5) * len(indices) / most).astype(np.int64)]


def fit(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """Return (width, height), even, scaled down (never up) so that the shorter side is at most `shorter_side`."""
    scale = min(1.0, shorter_side / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def size_of(need: FrameNeed, width: int, height: int) -> tuple[int, int]:
    """Return the (width, height) of the pictures that a need asks for of a video of this size."""
    return need.exact or fit(width, height, need.side)


def common_size(sizes: Sequence[tuple[int, int]], width: int, height: int) -> tuple[int, int]:
    """Return the (width, height) from which pictures of all `sizes` are made.

    It is the size asked for where all are alike. Otherwise it is the largest width and the largest height asked for,
    but no more than the video's own: nothing is enlarged only to be made small again.
    """
    if len(set(sizes)) == 1:
        return sizes[0]
    return min(width, max(size[0] for size in sizes)), min(height, max(size[1] for size in sizes))
