"""The decoder's child process (`main`): it reads requests and answers with frames, piece by piece.

It is small (no torch), so it starts fast and can be killed at no loss when a reader hangs or crashes. Every message is a
length and a pickle; the pictures of a `Piece` follow it as they are in memory.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from feature_extraction.frames import FrameNeed, VideoInfo
from feature_extraction.probing import Heading, NoVideoError, read_heading
from feature_extraction.readers import DecordReader, ImagesReader, Picture, PyAVReader, Reader
from feature_extraction.sampling import fit, sample

PIECE_BYTES = 48 * 2**20
"""Pictures are sent once they fill so much memory, and at the latest every PIECE_FRAMES."""
PIECE_FRAMES = 64
HEADER = struct.Struct("<Q")

ReaderName = Literal["decord", "pyav", "images"]
Look = tuple[tuple[int, int], bool]
"""(width, height) of pictures, and whether they are grey."""


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """What to read from one video; see `feature_extraction.media.DecodeRequest`.

    Attributes:
        after: the last frame that another reader gave already; -1 for none.
    """

    path: str
    reader: ReaderName
    needs: tuple[FrameNeed, ...]
    max_seconds: float
    shots: tuple[tuple[float, float], ...] = ()
    images_per_second: float = 0.0
    after: int = -1


@dataclass(frozen=True, slots=True)
class Opened:
    """A video is open.

    Attributes:
        info: the container's facts.
        start_seconds, sound_track, sound_seconds: see `feature_extraction.probing.Heading`.
    """

    info: VideoInfo
    start_seconds: float = 0.0
    sound_track: int | None = None
    sound_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Piece:
    """The next frames.

    Attributes:
        last: the index of the last frame.
        shapes: of the arrays of pictures that follow this message, one a look.
        looks: for each need, which of these arrays it looks at.
        places: for each need, which pictures of that array are its.
        seconds: for each need, when they appear.
    """

    last: int
    shapes: tuple[tuple[int, ...], ...]
    looks: tuple[int, ...]
    places: tuple[NDArray[np.int64], ...]
    seconds: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The video has been read, or no more of it can be.

    Attributes:
        damage: what of the file is missing; None when all is there.
    """

    damage: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A video cannot be read by this reader.

    Attributes:
        stage: "open" when the file is at fault, so that another reader cannot help; else "decode".
        kind: a `feature_extraction.ledger.Kind`.
        reason: in words.
    """

    stage: str
    kind: Literal["unreadable", "no_video", "out_of_memory"]
    reason: str


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


def answers(request: FrameRequest) -> Iterator[tuple[object, list[Picture]]]:
    """Yield the messages that answer a request, each with the pictures that follow it."""
    try:
        heading, reader = _open(request)
    except NoVideoError as error:
        yield Refused("open", "no_video", str(error)), []
        return
    except _NotForReader as error:
        yield Refused("decode", "unreadable", str(error)), []
        return
    except Exception as error:
        yield Refused("open", "out_of_memory" if isinstance(error, MemoryError) else "unreadable", _reason(error)), []
        return
    if heading is None:
        yield Opened(reader.info), []
    else:
        yield Opened(reader.info, heading.start_seconds, heading.sound_track, heading.sound_seconds), []
    try:
        yield from ((piece, pictures) for piece, pictures in _pieces(request, reader))
        yield Ended(reader.damage), []
    except Exception as error:
        yield Refused("decode", "out_of_memory" if isinstance(error, MemoryError) else "unreadable", _reason(error)), []


class _NotForReader(Exception):
    """This reader cannot read the file, or not rightly; another may."""


def _open(request: FrameRequest) -> tuple[Heading | None, Reader]:
    def size_of(info: VideoInfo) -> tuple[int, int]:
        """The largest size asked for; the others are scaled from it."""
        sizes = [_look(need, info)[0] for need in request.needs] or [(info.width, info.height)]
        return max(sizes, key=lambda size: (min(size), max(size)))

    if request.reader == "images":
        return None, ImagesReader(request.path, request.images_per_second, size_of)
    heading = read_heading(request.path)
    if request.reader == "pyav":
        return heading, PyAVReader(heading, size_of)
    try:
        return heading, DecordReader(heading, size_of)
    except Exception as error:
        raise _NotForReader(_reason(error)) from error


def _pieces(request: FrameRequest, reader: Reader) -> Iterator[tuple[Piece, list[Picture]]]:
    """Read the frames of all needs in one pass and yield them, rendered once for each look that is asked for."""
    end = min(reader.info.duration_seconds, request.max_seconds)
    seconds = reader.seconds[reader.seconds <= end]
    wanted = [sample(need.sampling, seconds, end, request.shots) for need in request.needs]
    wanted = [indices[indices > request.after] for indices in wanted]
    every = np.unique(np.concatenate(wanted)) if wanted else np.zeros(0, np.int64)
    if not len(every):
        return
    looks = [_look(need, reader.info) for need in request.needs]
    builder = _Builder(wanted, looks, seconds)
    for index, image in reader.frames(every.tolist()):
        builder.add(index, image)
        if builder.is_full:
            yield builder.take()
    if builder.holds_any:
        yield builder.take()


class _Builder:
    """Collects frames until they make a piece."""

    def __init__(
        self, wanted: Sequence[NDArray[np.int64]], looks: Sequence[Look], seconds: NDArray[np.float64]
    ) -> None:
        self._sets = [frozenset(indices.tolist()) for indices in wanted]
        self._looks = list(dict.fromkeys(looks))
        self._look_of = tuple(self._looks.index(look) for look in looks)
        self._seconds = seconds
        self._clear()

    def _clear(self) -> None:
        self._pictures: list[list[Picture]] = [[] for _ in self._looks]
        self._places: list[list[int]] = [[] for _ in self._sets]
        self._indices: list[list[int]] = [[] for _ in self._sets]
        self._last, self._frames, self._bytes = -1, 0, 0

    @property
    def holds_any(self) -> bool:
        """Whether there are frames."""
        return self._frames > 0

    @property
    def is_full(self) -> bool:
        """Whether the frames make a piece."""
        return self._frames >= PIECE_FRAMES or self._bytes >= PIECE_BYTES

    def add(self, index: int, image: Picture) -> None:
        """Take a frame and render it for each look that wants it."""
        asking = [need for need, indices in enumerate(self._sets) if index in indices]
        for look in {self._look_of[need] for need in asking}:
            picture = render(image, self._looks[look])
            self._pictures[look].append(picture)
            self._bytes += picture.nbytes
        for need in asking:
            self._places[need].append(len(self._pictures[self._look_of[need]]) - 1)
            self._indices[need].append(index)
        self._last, self._frames = index, self._frames + 1

    def take(self) -> tuple[Piece, list[Picture]]:
        """Return the piece with its pictures, and begin another."""
        arrays = [
            np.stack(each) if each else _none(look) for each, look in zip(self._pictures, self._looks, strict=True)
        ]
        piece = Piece(
            last=self._last,
            shapes=tuple(array.shape for array in arrays),
            looks=self._look_of,
            places=tuple(np.asarray(places, np.int64) for places in self._places),
            seconds=tuple(self._seconds[np.asarray(indices, np.int64)] for indices in self._indices),
        )
        self._clear()
        return piece, arrays


def _none(look: Look) -> Picture:
    (width, height), grey = look
    return np.zeros((0, height, width) if grey else (0, height, width, 3), np.uint8)


def _look(need: FrameNeed, info: VideoInfo) -> Look:
    return need.exact or fit(info.width, info.height, need.side), need.grey


def render(image: Picture, look: Look) -> Picture:
    """Return a picture in the size asked for (bilinear with antialiasing where it must be scaled again), or grey."""
    size, grey = look
    if (image.shape[1], image.shape[0]) == size and not grey:
        return image
    picture = Image.fromarray(image)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture.convert("L") if grey else picture)


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
    stream: Any = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print must not get between the messages
    while message := read_message(sys.stdin.buffer):
        for answer, pictures in answers(pickle.loads(message)):
            body = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
            _write_all(stream, HEADER.pack(len(body)) + body)
            for array in pictures:
                _write_all(stream, array)


def _write_all(stream: Any, data: Any) -> None:
    left = memoryview(data if isinstance(data, bytes) else data.data.cast("B") if data.size else b"")
    while left:
        left = left[stream.write(left) :]
