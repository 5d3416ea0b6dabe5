"""From frames to clips of pictures of one size, the items of networks that read windows of frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from feature_extraction.extractor import Frames, Preparation, Sound, VideoInfo

Scale = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Frames [N, H, W, 3] to pictures [N, height, width, 3]."""


class ClipPreparation(Preparation):
    """Clips [window, height, width, 3], one every `stride` frames; a clip lasts until the frame after it is shown.

    The end is always covered: where the clips do not come out even, one more ends with the last frame. What a stride
    longer than the window skips is left out. A video with fewer frames than a clip makes one clip in which frames are
    repeated evenly.

    Args:
        info: the video.
        scale: how frames become pictures.
        window: frames of a clip.
        stride: frames from one clip's first to the next one's.
    """

    def __init__(self, info: VideoInfo, scale: Scale, window: int, stride: int) -> None:
        self._info, self._scale, self._window, self._stride = info, scale, window, stride
        self._seconds: list[float] = []
        self._kept: list[NDArray[np.uint8]] = []
        self._spans: list[tuple[int, int]] = []
        self._next = 0

    def add(self, frames: Frames) -> NDArray[np.uint8] | None:
        """Take the next frames; return the clips [n, window, height, width, 3] that are complete now, or None."""
        self._kept.extend(self._scale(frames.images))
        self._seconds.extend(frames.seconds.tolist())
        clips = []
        while self._next + self._window <= len(self._seconds):
            clips.append(self._clip(self._next))
            self._next += self._stride
        # Frames before the next clip are done with, save for those a last clip would need.
        done = min(self._next, len(self._seconds) - self._window) - (len(self._seconds) - len(self._kept))
        del self._kept[: max(0, done)]
        return np.stack(clips) if clips else None

    def finish(self, sound: Sound | None) -> NDArray[np.uint8] | None:
        """Return the clip [1, window, height, width, 3] that covers the rest, or None where nothing is left."""
        del sound
        covered = self._spans[-1][1] if self._spans else 0
        if max(self._next, covered) >= len(self._seconds):
            return None
        return self._clip(max(0, len(self._seconds) - self._window))[None]

    def times(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return when the clips given so far start and end."""
        seconds = np.append(self._seconds, max(self._info.duration_seconds, self._seconds[-1]))
        spans = np.array(self._spans)
        return seconds[spans[:, 0]], seconds[spans[:, 1]]

    def _clip(self, first: int) -> NDArray[np.uint8]:
        frames = min(self._window, len(self._seconds) - first)
        self._spans.append((first, first + frames))
        place = first - (len(self._seconds) - len(self._kept))
        return np.stack([self._kept[place + index * frames // self._window] for index in range(self._window)])


def middle(images: NDArray[np.uint8], height: int, width: int, crop: int) -> NDArray[np.uint8]:
    """Return frames [N, H, W, 3] scaled to `height` and `width` and cut to [N, crop, crop, 3] in the middle.

    Scaling is bilinear with antialiasing, as PIL's, within a grey level.
    """
    own = images if images.flags.writeable else images.copy()  # torch warns of arrays that it could not write into
    pixels = torch.from_numpy(own).permute(0, 3, 1, 2)
    if images.shape[1:3] != (height, width):
        scaled = torch.nn.functional.interpolate(pixels.float(), (height, width), mode="bilinear", antialias=True)
        pixels = scaled.round().clamp(0, 255).byte()
    top, left = (height - crop) // 2, (width - crop) // 2
    cut: NDArray[np.uint8] = pixels[..., top : top + crop, left : left + crop].permute(0, 2, 3, 1).contiguous().numpy()
    return cut
