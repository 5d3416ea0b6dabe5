"""The decoder's child process (`main`): it reads requests and answers with frames, some at a time.

It is small (no torch), so it starts fast and can be killed at no loss when a reader hangs or crashes. To a request it
answers `Trying` for each reader, `Opened` once, then `Chunk`s, and `Ended`; or at any time `Failed`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import av.logging
import numpy as np
from numpy.typing import NDArray

from feature_extraction.images import inspect_images
from feature_extraction.probing import LOSES_COUNT, Contents, NoVideoError, inspect
from feature_extraction.readers import READERS, Picture, Reader, frames_at_a_time, readers_in_order
from feature_extraction.sampling import sample, size_of
from feature_extraction.wire import (
    HEADER,
    PIPE_BYTES,
    Chunk,
    Ended,
    Failed,
    FrameRequest,
    Message,
    Opened,
    Part,
    Reason,
    Trying,
    without_addresses,
)
from vtr.parent import die_with_parent

Send = Callable[[Message, list[NDArray[np.uint8]]], None]


class Complaints:
    """What FFmpeg prints about damage, which decord and PyAV do not pass on.

    Standard error goes to a file that has no name, and FFmpeg prints only errors.
    """

    def __init__(self) -> None:
        av.logging.restore_default_callback()
        av.logging.set_libav_level(av.logging.ERROR)
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the process
        os.dup2(self._file.fileno(), 2)

    def take(self) -> str:
        """Return the first line printed since the last call, without FFmpeg's addresses; empty when there is none."""
        if not os.fstat(2).st_size:
            return ""
        os.lseek(2, 0, os.SEEK_SET)
        text = os.read(2, 4096).decode(errors="replace")
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
        lines = [line for line in text.splitlines() if line.strip()]
        return without_addresses(lines[0]) if lines else ""


class _Collector:
    """Makes the pictures of each need from the frames read, and sends them off some at a time."""

    def __init__(self, request: FrameRequest, contents: Contents, send: Send) -> None:
        info = contents.info
        end = min(info.duration_seconds, request.max_seconds)
        self._seconds = contents.frame_seconds[contents.frame_seconds < end]
        self._send = send
        self.sizes = [size_of(need, info.width, info.height) for need in request.needs]
        taken = [sample(need.sampling, self._seconds, end, request.shots) for need in request.needs]
        self.indices = np.unique(np.concatenate([np.zeros(0, np.int64), *taken]))
        self._takers = [set(indices.tolist()) for indices in taken]
        self._most = frames_at_a_time(self.sizes)
        looks = [(size, need.grey) for size, need in zip(self.sizes, request.needs, strict=True)]
        self._looks = tuple(dict.fromkeys(looks))
        self._look_of = [self._looks.index(look) for look in looks]
        self._pictures: list[dict[int, NDArray[np.uint8]]] = [{} for _ in self._looks]
        self._held: list[list[int]] = [[] for _ in request.needs]
        self._count = 0
        self.done = request.done

    def take(self, place: int, picture: Picture) -> None:
        """Keep one frame for the needs that ask for it."""
        index = int(self.indices[place])
        for look, takers, held in zip(self._look_of, self._takers, self._held, strict=True):
            if index not in takers:
                continue
            held.append(index)
            if index not in self._pictures[look]:
                self._pictures[look][index] = picture.at(*self._looks[look])
        self.done, self._count = place + 1, self._count + 1
        if self._count >= self._most:
            self.flush()

    def flush(self) -> None:
        """Send what is kept."""
        if not self._count:
            return
        rows = [{index: row for row, index in enumerate(pictures)} for pictures in self._pictures]
        parts = tuple(
            Part(look, tuple(rows[look][index] for index in held), self._seconds[held]) if held else None
            for look, held in zip(self._look_of, self._held, strict=True)
        )
        images = [list(pictures.values()) for pictures in self._pictures]
        shapes = tuple((len(some), *some[0].shape) if some else (0,) for some in images)
        self._held = [[] for _ in self._held]
        self._pictures = [{} for _ in self._pictures]
        self._count = 0
        self._send(Chunk(self.done, shapes, parts), [image for some in images for image in some])


class _TruncatedError(ValueError):
    """The video is damaged and the request is strict."""


def answer(request: FrameRequest, send: Send, complaints: Complaints) -> None:
    """Read one video and send what is asked for, and what went wrong.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """  # noqa: DOC501 (_TruncatedError is sent)
    complaints.take()
    try:
        folder = Path(request.path).is_dir()
        contents = inspect_images(request.path, request.images_per_second) if folder else inspect(request.path)
        if (complaint := complaints.take()) and not contents.damage:
            contents = replace(contents, damage=f"the file has errors: {complaint}", not_for_decord=LOSES_COUNT)
        if request.strict and contents.damage:
            raise _TruncatedError(contents.damage)
        collector = _Collector(request, contents, send)
    except Exception as error:
        send(_failed("open", error, "images" if Path(request.path).is_dir() else ""), [])
        return
    opened = Opened(contents.info, contents.video_start_seconds, contents.sound_track)
    if not len(collector.indices):
        send(opened, [])
        send(Ended(contents.damage), [])
        return
    failed: dict[str, Failed] = {}
    names = readers_in_order(request.reader, contents, collector.sizes, collector.indices)
    for place, name in enumerate(names):
        try:
            send(Trying(name, names[place + 1 :]), [])
            reader = READERS[name](contents, collector.sizes, complaints.take)
            send(opened, [])
            damage = _read(reader, collector, contents, request.strict)
            send(Ended(damage), [])
            return
        except BrokenPipeError:
            raise
        except Exception as error:
            failed[name] = _failed("decode", error, name)
            if isinstance(error, _TruncatedError):  # another reader cannot mend that
                break
    send(failed.get("pyav") or failed[name], [])  # who alone can tell what is wrong with the file


def _read(reader: Reader, collector: _Collector, contents: Contents, strict: bool) -> str | None:
    """Read the frames that have not been given yet; return what is damaged, in words."""
    first = collector.done
    for place, picture in reader.pictures(collector.indices[first:]):
        collector.take(first + place, picture)
    collector.flush()
    damage = "; ".join(filter(None, (contents.damage, reader.damage))) or None
    if not collector.done:
        raise ValueError(damage or "no frame could be decoded")
    if strict and damage:
        raise _TruncatedError(damage)
    return damage


def _failed(stage: str, error: Exception, decoder: str) -> Failed:
    text = str(error).strip().splitlines()
    known = isinstance(error, (NoVideoError, _TruncatedError))
    reason = text[0] if known else f"{type(error).__name__}: {text[0] if text else 'no message'}"
    if isinstance(error, av.error.InvalidDataError):
        reason = "it is damaged, or no video (FFmpeg: invalid data)"
    kind: Reason = "unreadable"
    if isinstance(error, NoVideoError):
        kind = "no_video"
    elif isinstance(error, _TruncatedError):
        kind = "truncated"
    elif isinstance(error, MemoryError):
        kind = "out_of_memory"
    return Failed(stage, kind, reason, decoder)


def _requests(stream: IO[bytes]) -> Iterator[FrameRequest]:
    while len(header := stream.read(HEADER.size)) == HEADER.size:
        yield pickle.loads(stream.read(*HEADER.unpack(header)))


def main() -> None:
    """Answer requests from standard input until it ends."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    answers = os.fdopen(os.dup(1), "wb")
    with contextlib.suppress(OSError, AttributeError):  # a smaller pipe does too
        fcntl.fcntl(answers.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    complaints = Complaints()
    os.dup2(2, 1)  # what libraries print must not get between the messages

    def send(message: Message, images: list[NDArray[np.uint8]]) -> None:
        pickled = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        answers.write(HEADER.pack(len(pickled)))
        answers.write(pickled)
        for image in images:
            answers.write(np.ascontiguousarray(image).data)
        answers.flush()

    for request in _requests(sys.stdin.buffer):
        answer(request, send, complaints)
