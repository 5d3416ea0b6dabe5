"""What the decoder's child process and its parent say to each other.

A message is its length, itself pickled, and behind a `Chunk` the pixels of its pictures as they lie in memory.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from feature_extraction.frames import FrameNeed, VideoInfo

HEADER = struct.Struct("<Q")
PIPE_BYTES = 1 << 20
"""The pipe's buffer where the system allows: with the usual 64 KiB each picture takes several turns."""
ReaderName = Literal["auto", "decord", "pyav", "images"]
"""Who reads. "images" reads folders of images, unasked, and nothing else."""
Reason = Literal["unreadable", "truncated", "no_video", "out_of_memory"]
"""The kinds of `feature_extraction.ledger.Kind` that the child can tell."""


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """What to read from one video; see `feature_extraction.media.DecodeRequest`.

    Attributes:
        done: how many of the frames asked for, those of all needs together in order, were given by an earlier child.
    """

    path: str
    needs: tuple[FrameNeed, ...]
    shots: tuple[tuple[float, float], ...]
    max_seconds: float
    reader: ReaderName
    strict: bool
    images_per_second: float | None
    done: int = 0


@dataclass(frozen=True, slots=True)
class Trying:
    """A reader begins: if the child dies or hangs now, it is to blame, and `others` are left to be tried."""

    decoder: str
    others: tuple[ReaderName, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """The video can be read."""

    info: VideoInfo
    video_start_seconds: float
    sound_track: int | None


@dataclass(frozen=True, slots=True)
class Part:
    """What a chunk holds for one need.

    Attributes:
        look: which of the chunk's arrays has its pictures.
        rows: which pictures of that array are its own.
        seconds: their times.
    """

    look: int
    rows: tuple[int, ...]
    seconds: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some frames; the pixels follow, one array for each look, so that needs of the same look share its pictures.

    Attributes:
        done: how many of the frames asked for have been given now.
        shapes: of the arrays.
        parts: one a need; None where none of these frames is for it.
    """

    done: int
    shapes: tuple[tuple[int, ...], ...]
    parts: tuple[Part | None, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """All that can be read has been given; `damage` says what cannot."""

    damage: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The video cannot be read."""

    stage: str
    kind: Reason
    reason: str
    decoder: str


Message = Trying | Opened | Chunk | Ended | Failed


def without_addresses(line: str) -> str:
    """Return a line that FFmpeg printed without the addresses in it, so that the same error reads the same."""
    return re.sub(r" @ 0x[0-9a-f]+", "", line).strip()
