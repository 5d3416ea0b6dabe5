"""Files that are videos, or begin like one."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(range(256)) * 40
"""Begins like an MP4, and is none."""


def write_clip(path: Path, seconds: int = 8, rate: int = 5) -> Path:
    """Write a clip whose brightness tells the second: 20 more each."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(seconds * rate):
            image = np.full((64, 96, 3), 20 * (number // rate) + 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
