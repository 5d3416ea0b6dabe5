"""What several model experts share: single frames as items, and arithmetic of reduced precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_extraction.extractor import Frames, Preparation, VideoInfo
from vtr.extract_config import Precision

if TYPE_CHECKING:
    import torch


class FramePreparation(Preparation):
    """One item a frame; each covers the time to the next frame, the last one to the end of the video.

    Args:
        info: the video.
        scale: pictures [N, H, W, 3] to items [N, ...], new arrays.
    """

    def __init__(self, info: VideoInfo, scale: Callable[[NDArray[np.uint8]], NDArray[Any]]) -> None:
        self._info, self._scale = info, scale
        self._seconds: list[float] = []

    def add(self, frames: Frames) -> NDArray[Any]:
        """Return the items of some frames."""
        self._seconds.extend(frames.seconds.tolist())
        return self._scale(frames.images)

    def times(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return when each frame appears and when the next one does."""
        start = np.asarray(self._seconds)
        return start, np.append(start[1:], max(self._info.duration_seconds, start[-1]))


def reduced(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which a model computes with `precision`; float32 changes nothing."""
    import torch  # it takes seconds, and experts without a network need none of it

    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    return torch.autocast(device.type, dtype=dtype if precision != "float32" else None, enabled=precision != "float32")
