"""The decoder's child process (`main`): it reads requests and answers with frames.

It is small (no torch), so it starts fast and can be killed at no loss when a reader hangs or crashes.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import struct
import sys
from dataclasses import dataclass
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from feature_extraction.frames import Frames, VideoInfo
from feature_extraction.probing import inspect
from feature_extraction.readers import READERS
from feature_extraction.sampling import fit, grid_indices

MOTION_FRAMES_PER_SECOND = 12.5
MOTION_SIDE = 112
HEADER = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """What to read from one video. See `vtr.config.ExtractConfig` for the fields."""

    path: str
    reader: Literal["decord", "pyav"]
    frames_per_second: float
    max_frames: int
    frame_side: int
    max_seconds: float
    motion: bool


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """The frames of one video, or the reason why there are none.

    Attributes:
        info, frames, motion: see `feature_extraction.extractor.Media`.
        video_start_seconds: when the first frame appears after the container's first packet of any stream.
        stage, reason: what went wrong, if anything did.
    """

    info: VideoInfo | None = None
    frames: Frames | None = None
    motion: Frames | None = None
    video_start_seconds: float = 0.0
    stage: str = ""
    reason: str = ""


def read_message(stream: IO[bytes]) -> bytes:
    """Return the next length-prefixed message; empty at the end of the stream."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return b""
    (size,) = HEADER.unpack(header)
    return stream.read(size)


def write_message(stream: IO[bytes], message: bytes) -> None:
    """Write one length-prefixed message."""
    stream.write(HEADER.pack(len(message)))
    stream.write(message)
    stream.flush()


def read_frames(request: FrameRequest) -> FrameAnswer:
    """Decode a video once and return its colour frames and, if asked for, its motion frames."""
    try:
        contents = inspect(request.path)
    except Exception as error:
        return FrameAnswer(stage="open", reason=_reason(error))
    try:
        info = contents.info
        reader = READERS[request.reader](contents, fit(info.width, info.height, request.frame_side))
        end = min(info.duration_seconds, request.max_seconds)
        seconds = contents.frame_seconds[contents.frame_seconds <= end]
        colour = grid_indices(seconds, end, request.frames_per_second, request.max_frames)
        motion = grid_indices(seconds, end, MOTION_FRAMES_PER_SECOND, None) if request.motion else colour[:0]
        frames, small = _collect(reader.frames(np.union1d(colour, motion)), colour, motion)
        return FrameAnswer(
            info,
            Frames(frames, seconds[colour]),
            Frames(small, seconds[motion]) if request.motion else None,
            contents.video_start_seconds,
        )
    except Exception as error:
        return FrameAnswer(stage="decode", reason=_reason(error))


def _collect(
    images: object, colour: NDArray[np.int64], motion: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    in_colour, in_motion = set(colour.tolist()), set(motion.tolist())
    frames, small = [], []
    for index, image in zip(np.union1d(colour, motion).tolist(), images, strict=True):  # type: ignore[call-overload]
        if index in in_colour:
            frames.append(image)
        if index in in_motion:
            size = fit(image.shape[1], image.shape[0], MOTION_SIDE)
            small.append(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR).convert("L")))
    return np.stack(frames), np.stack(small) if small else np.zeros((0, 2, 2), np.uint8)


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, even when it hangs in a C library."""
    parent_death_signal = 1  # PR_SET_PDEATHSIG
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def main() -> None:
    """Answer requests from standard input until it ends."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the messages
    while message := read_message(sys.stdin.buffer):
        answer = read_frames(pickle.loads(message))
        write_message(answers, pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL))
