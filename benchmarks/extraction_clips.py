"""Clips for benchmarks/extraction.py: 320x240, 15 s, H.264, each frame with its index painted in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, RATE, SECONDS = 320, 240, 30, 15
TIMES = 20
"""How often a clip is shown in the long one, 5 minutes."""
BITS, BAND = 10, 48
"""The index is painted as so many bars across the upper rows."""


def make_clips(folder: Path, number: int) -> list[Path]:
    """Return `number` clips, no two alike, with a 440 Hz tone."""
    return [_render(folder / f"clip{index:03d}.mp4", index) for index in range(number)]


def make_long_clip(folder: Path, clip: Path) -> Path:
    """Return a clip shown TIMES over, as one file; key frames are as far apart as in `clip`."""
    path = folder / "long.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-stream_loop", str(TIMES - 1)]
    subprocess.run([*command, "-i", str(clip), "-c", "copy", str(path)], check=True)
    return path


def painted_index(image: NDArray[np.uint8]) -> int:
    """Return the index that a frame [H, W, 3] of any size shows."""
    rows = image.shape[0] * BAND // HEIGHT
    bars = np.array_split(image[rows // 4 : -(-rows * 3 // 4)], BITS, axis=1)
    return sum(int(bar[:, bar.shape[1] // 4 : -bar.shape[1] // 4].mean() > 128) << bit for bit, bar in enumerate(bars))


def _render(path: Path, seed: int) -> Path:
    """A texture that drifts and turns brighter and darker, with fine noise: it costs a decoder what real clips do."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 215, (18, 24, 3), dtype=np.uint8)
    texture = np.kron(coarse, np.ones((40, 40, 1), np.uint8))
    noise = random.integers(0, 12, texture.shape, dtype=np.uint8)
    frames = (_frame(texture + noise, index) for index in range(RATE * SECONDS))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{WIDTH}x{HEIGHT}", "-r", str(RATE), "-i", "-", "-f", "lavfi", "-i", f"sine=440:d={SECONDS}"]
    command += ["-c:v", "libx264", "-preset", "fast", "-pix_fmt", "yuv420p", "-c:a", "aac", str(path)]
    subprocess.run(command, input=b"".join(frames), check=True)
    return path


def _frame(texture: NDArray[np.uint8], index: int) -> bytes:
    down, across = index * 2 % (texture.shape[0] - HEIGHT), index * 3 % (texture.shape[1] - WIDTH)
    image = texture[down : down + HEIGHT, across : across + WIDTH].copy()
    bits = (index >> np.arange(WIDTH) * BITS // WIDTH) & 1
    image[:BAND] = np.where(bits, 235, 16)[None, :, None]
    return image.tobytes()
