"""For tests: clips rendered on the fly with an index painted into each frame, and media made by hand."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from feature_extraction.extractor import Media
from feature_extraction.frames import Frames, VideoInfo

BITS = 8
FAST_START = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "10", "-movflags", "+faststart")
"""Encodes so that a file that is cut short can be read up to there."""


def ffmpeg(*arguments: object, data: bytes | None = None) -> None:
    """Run the wheel's ffmpeg."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, arguments)]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def render(path: Path, images: Iterable[NDArray[np.uint8]], *output: object, rate: object = 25) -> Path:
    """Encode RGB images of one size."""
    frames = list(images)
    height, width = frames[0].shape[:2]
    head = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", "-")
    ffmpeg(*head, *(output or ("-c:v", "libx264", "-pix_fmt", "yuv420p")), path, data=b"".join(map(bytes, frames)))
    return path


def painted(index: int, width: int = 128, height: int = 64, bits: int = BITS) -> NDArray[np.uint8]:
    """Return a frame that shows `index` as upright bars, one a bit, the lowest on the left."""
    shown = (index >> np.arange(width) * bits // width) & 1
    return np.ascontiguousarray(np.broadcast_to(np.where(shown, 230, 20)[None, :, None], (height, width, 3)), np.uint8)


def read_painted(image: NDArray[np.uint8], bits: int = BITS) -> int:
    """Return the index that a frame shows."""
    bars = np.array_split(image[image.shape[0] // 4 : -image.shape[0] // 4], bits, axis=1)
    means = [bar[:, bar.shape[1] // 4 : -bar.shape[1] // 4].mean() for bar in bars]
    return sum(int(mean > 128) << bit for bit, mean in enumerate(means))


def shown_by(frames: Frames, bits: int = BITS) -> list[int]:
    """Return the indices that frames show."""
    return [read_painted(image, bits) for image in frames.images]


def media(
    images: NDArray[np.uint8] | None = None,
    seconds: NDArray[np.float64] | None = None,
    motion: Frames | None = None,
    sound: NDArray[np.float32] | None = None,
    duration_seconds: float | None = None,
) -> Media:
    """Return decoded media made by hand; frames are one second apart unless `seconds` says otherwise.

    An expert sees one kind of frames: `motion`, where given, in place of those made of `images`.
    """
    frames = motion
    if frames is None and images is not None:
        frames = Frames(images, np.arange(len(images), dtype=np.float64) if seconds is None else seconds)
    assert frames is not None
    height, width = frames.images.shape[1:3]
    duration = duration_seconds
    if duration is None:
        duration = float(frames.seconds[-1]) + 1 if len(frames.seconds) else 1.0
    info = VideoInfo("made by hand", duration, width, height, None, sound is not None)
    return Media(info, frames, sound)
