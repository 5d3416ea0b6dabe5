"""Motion: histograms of dense optical flow. Hand-made: pretrained on nothing.

Flow is DIS (Kroeger et al. 2016) between grey frames at up to 12.5 a second; histograms of oriented flow follow
Dalal et al. 2006.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_extraction.extractor import Expert, Extracted, Frames, Reading, Sound, VideoInfo, features
from feature_extraction.frames import FrameNeed, Sampling
from vtr.extract_config import ExtractConfig
from vtr.types import ExpertSpec

GRID = 3
DIRECTIONS = 8
WINDOW_SECONDS = 1.0
FRAMES_PER_SECOND = 12.5
SIDE = 112
MOVING = 0.05
"""Flow below this many frame heights per second is standing still."""
MIN_FRAMES_PER_SECOND = 4.0
"""Between frames further apart than this, flow means nothing."""
DIM = GRID * GRID * (DIRECTIONS + 1) + 14


class MotionExtractor(Expert):
    """One feature a second: where in the picture what moves in which direction, and how the whole picture moves.

    The 95 numbers are, per cell of a 3 x 3 grid, the share of flow in 8 directions (weighted by speed) and of standing
    pixels; then for the moving pixels the mean and deviation of horizontal and vertical velocity, mean and largest
    speed, divergence (approach and retreat), curl (rotation), and where the motion is and how it spreads; and how
    often the mean direction turns round, left and right, up and down (bouncing, shaking).
    """

    frames = FrameNeed(Sampling("fps", FRAMES_PER_SECOND, most=None), side=SIDE, grey=True)
    scaler = f"grey, shorter side {SIDE} px"

    def __init__(self, config: ExtractConfig, name: str = "motion") -> None:
        import cv2

        del config
        cv2.setNumThreads(1)
        flow: Any = cv2
        self._flow = flow.DISOpticalFlow_create(flow.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.spec = ExpertSpec(
            name, DIM, "video", WINDOW_SECONDS, "DIS optical-flow histograms", pretrained_on="nothing"
        )

    def begin(self, info: VideoInfo) -> Reading:
        """Start on a video."""
        return _MotionReading(self, info.duration_seconds)

    def velocity(self, first: NDArray[np.uint8], second: NDArray[np.uint8], seconds: float) -> NDArray[np.float32]:
        """Return [H, W, 2] flow between two grey frames `seconds` apart, in frame heights per second."""
        flow: NDArray[np.float32] = self._flow.calc(first, second, None)
        flow /= max(seconds, 1e-3) * first.shape[0]
        return flow


class _MotionReading(Reading):
    """Keeps the last frame and the flow of the present window, whatever pieces the frames come in."""

    def __init__(self, expert: MotionExtractor, duration_seconds: float) -> None:
        self._expert, self._duration_seconds = expert, duration_seconds
        self._last: NDArray[np.uint8] | None = None
        self._first_seconds = self._last_seconds = 0.0
        self._pairs = 0
        self._window, self._flow = 0, list[NDArray[np.float32]]()
        self._windows: list[int] = []
        self._values: list[NDArray[np.float32]] = []

    def add(self, frames: Frames) -> None:
        for image, seconds in zip(frames.images, frames.seconds.tolist(), strict=True):
            if self._last is None:
                self._first_seconds = seconds
            else:
                window = int(self._last_seconds // WINDOW_SECONDS)
                if window != self._window:
                    self._close_window()
                    self._window = window
                self._flow.append(self._expert.velocity(self._last, image, seconds - self._last_seconds))
                self._pairs += 1
            self._last, self._last_seconds = image.copy(), seconds

    def finish(self, sound: Sound | None) -> Extracted | None:
        """Return one feature a second, or None when the frames are too far apart for motion to be seen."""
        del sound
        self._close_window()
        span = self._last_seconds - self._first_seconds
        rate = self._pairs / span if self._values else 0.0
        if rate < MIN_FRAMES_PER_SECOND:
            self.too_little = f"{rate:.2g} frames a second, motion is seen from {MIN_FRAMES_PER_SECOND:g} on"
            return None
        start = np.asarray(self._windows) * WINDOW_SECONDS
        return Extracted(features(self._values, start, np.minimum(start + WINDOW_SECONDS, self._duration_seconds)))

    def _close_window(self) -> None:
        if self._flow:
            self._windows.append(self._window)
            self._values.append(describe(np.stack(self._flow)))
            self._flow = []


def describe(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the DIM numbers that describe a window of flow [N, H, W, 2], x to the right and y down."""
    x, y = flow[..., 0], flow[..., 1]
    speed = np.hypot(x, y)
    moving = speed > MOVING
    return np.concatenate((_histograms(x, y, speed, moving), _global(x, y, speed, moving))).astype(np.float32)


def _histograms(
    x: NDArray[np.float32], y: NDArray[np.float32], speed: NDArray[np.float32], moving: NDArray[np.bool_]
) -> NDArray[np.float64]:
    direction = np.round(np.arctan2(y, x) / (2 * np.pi) * DIRECTIONS).astype(int) % DIRECTIONS
    height, width = speed.shape[1:]
    cell = (np.arange(height) * GRID // height)[:, None] * GRID + np.arange(width) * GRID // width
    bins = np.where(moving, direction, DIRECTIONS) + cell * (DIRECTIONS + 1)
    weights = np.where(moving, np.sqrt(speed), 0.3)
    counts = np.bincount(bins.ravel(), weights.ravel(), GRID * GRID * (DIRECTIONS + 1))
    cells = counts.reshape(GRID * GRID, DIRECTIONS + 1)
    shares: NDArray[np.float64] = np.sqrt(cells / np.maximum(cells.sum(axis=1, keepdims=True), 1e-9))
    return shares.ravel()


def _global(
    x: NDArray[np.float32], y: NDArray[np.float32], speed: NDArray[np.float32], moving: NDArray[np.bool_]
) -> NDArray[np.float64]:
    if not moving.any():
        return np.zeros(14)
    height, width = speed.shape[1:]
    frame, row, column = np.nonzero(moving)
    u, v = x[moving], y[moving]
    across, down = column / width - 0.5, row / height - 0.5
    from_centre = (across - across.mean(), down - down.mean())
    spread = max(float(np.mean(from_centre[0] ** 2 + from_centre[1] ** 2)), 1e-4)
    divergence = np.mean(from_centre[0] * u + from_centre[1] * v) / spread
    curl = np.mean(from_centre[0] * v - from_centre[1] * u) / spread
    counts = np.maximum(np.bincount(frame, minlength=len(speed)), 1)
    mean_u = np.bincount(frame, u, len(speed)) / counts
    mean_v = np.bincount(frame, v, len(speed)) / counts
    turns = [_turning(mean) for mean in (mean_u, mean_v)]
    fast = np.percentile(speed[moving], 95)
    numbers = [u.mean(), v.mean(), u.std(), v.std(), speed[moving].mean(), fast, divergence, curl]
    return np.array([*numbers, across.mean(), down.mean(), np.sqrt(spread), moving.mean(), *turns])


def _turning(means: NDArray[np.float64]) -> float:
    """Return the share of steps between which a mean velocity turns round; what stands still does not turn."""
    if len(means) < 2:
        return 0.0
    before, after = means[:-1], means[1:]
    return float(np.mean((before * after < 0) & (np.minimum(abs(before), abs(after)) > MOVING)))
