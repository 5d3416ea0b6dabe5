"""Cutting a video or its sound into windows, each of which becomes one feature."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

SILENCE = 1e-4
"""A track whose loudest sample is below this (-80 dB) holds no sound: it has no features, like one that is missing."""
SMALL_REST = 0.1
"""A rest of the sound shorter than this share of a window makes no window of its own."""


class FrameWindows:
    """Windows of `window` frames, one every `stride` frames, as the frames come in.

    The last frames are always covered: where the windows do not come out even, one more ends with the last frame. A
    video with fewer frames than a window has one window in which frames are repeated evenly.
    """

    def __init__(self, window: int, stride: int) -> None:
        self._window, self._stride = window, stride
        self._kept: deque[tuple[int, NDArray[np.uint8], float]] = deque()
        self._seen = self._next = self._covered = 0
        self._times: list[tuple[float, float]] = []

    def add(self, pictures: NDArray[np.uint8], seconds: NDArray[np.float64]) -> NDArray[np.uint8] | None:
        """Take the next pictures [N, ...]; return the windows [n, window, ...] that are complete now, or None."""
        windows = []
        for picture, second in zip(pictures, seconds.tolist(), strict=True):
            self._kept.append((self._seen, picture, second))
            self._seen += 1
            if self._seen == self._next + self._window:
                windows.append(self._last())
                self._covered, self._next = self._seen, self._next + self._stride
            while self._kept[0][0] < min(self._next, self._seen - self._window):
                self._kept.popleft()
        return np.stack(windows) if windows else None

    def finish(self) -> NDArray[np.uint8] | None:
        """Return the window that covers the rest, [1, window, ...], or None where there is no rest."""
        if max(self._next, self._covered) >= self._seen:
            return None
        return self._last()[None]

    def times(self, duration_seconds: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return when the windows given so far start and end: a window ends one frame's time after its last frame."""
        starts, ends = np.array(self._times, np.float64).reshape(-1, 2).T
        return starts, np.maximum(starts, np.minimum(ends, duration_seconds))

    def _last(self) -> NDArray[np.uint8]:
        frames = list(self._kept)[-self._window :]
        seconds = [second for _, _, second in frames]
        step = (seconds[-1] - seconds[0]) / (len(frames) - 1) if len(frames) > 1 else np.inf
        self._times.append((seconds[0], seconds[-1] + step))
        return np.stack([frames[place * len(frames) // self._window][1] for place in range(self._window)])


def sound_windows(samples: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Return where the windows of a sound of `samples` samples start and end.

    As `FrameWindows` does, one more window ends with the sound where they do not come out even, save for a small rest.
    Sound shorter than a window is one window.
    """
    if samples <= window:
        return [(0, samples)]
    spans = [(start, start + window) for start in range(0, samples - window + 1, stride)]
    following = max(spans[-1][1], spans[-1][0] + stride)
    if samples - following >= SMALL_REST * window:
        spans.append((samples - window, samples))
    return spans


def is_silent(sound: NDArray[np.float32]) -> bool:
    """Return whether a track holds no sound."""
    return not len(sound) or bool(np.abs(sound).max() < SILENCE)
