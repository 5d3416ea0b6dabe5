"""Decoding: frames piece by piece from a child process that can be killed, sound from ffmpeg. All times are in seconds."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import select
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from feature_extraction.decoder import HEADER, Ended, FrameRequest, Opened, Piece, ReaderName, Refused, write_message
from feature_extraction.extractor import Sound
from feature_extraction.frames import FrameNeed, Frames, VideoInfo
from feature_extraction.ledger import Kind
from feature_extraction.memory import peak_bytes
from feature_extraction.probing import probe as probe
from feature_extraction.sound import SoundError, Track, read_sound
from vtr.errors import VtrError

PIPE_BYTES = 2**20


class MediaError(VtrError):
    """A video could not be read.

    Attributes:
        stage: "open", "decode" or "sound".
        kind: the class of reason.
        reason: why, in words.
        decoder: who was at it: "decord", "pyav", "images", "ffmpeg"; "" for none.
    """

    def __init__(self, stage: str, kind: Kind, reason: str, decoder: str = "") -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage, self.kind, self.reason, self.decoder = stage, kind, reason, decoder


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """What to decode.

    Attributes:
        needs: which frames, and how they are to look; all come out of one pass over the video.
        sound: whether the sound is wanted.
        max_seconds: where to stop.
        timeout_seconds: how long the readers may take for one video, and ffmpeg for its sound.
        reader: decord first and PyAV where decord fails or cannot be trusted ("auto"), or only one of them.
        strict: refuse a video of which something is missing or damaged.
        images_per_second: of a folder of images.
        shots: (start, end) of the video's shots, for sampling "shots".
    """

    needs: tuple[FrameNeed, ...] = ()
    sound: bool = False
    max_seconds: float = 600.0
    timeout_seconds: float = 120.0
    reader: Literal["auto", "decord", "pyav"] = "auto"
    strict: bool = False
    images_per_second: float | None = None
    shots: tuple[tuple[float, float], ...] = ()


DECODER_COMMAND = (sys.executable, "-c", "from feature_extraction.decoder import main; main()")


class Decoder:
    """Reads videos through one child process, which is replaced when a reader hangs or crashes.

    Use it as a context manager, or call `close`. It reads one video at a time.

    Args:
        command: starts the child process.
    """

    def __init__(self, command: Sequence[str] = DECODER_COMMAND) -> None:
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None
        self._peak_bytes = 0

    @contextlib.contextmanager
    def open(self, path: str | Path, request: DecodeRequest) -> Iterator[OpenVideo]:
        """Open a video, or a folder of images.

        Raises:
            MediaError: it cannot be read; also while its frames are read.
        """
        absolute = Path(path).absolute()
        if not absolute.exists():
            raise MediaError("open", "unreadable", f"{absolute} is not there")
        if not absolute.is_file() and not absolute.is_dir():
            raise MediaError("open", "unreadable", f"{absolute} is neither a file nor a folder of images")
        if absolute.is_dir() and request.images_per_second is None:
            raise MediaError("open", "unreadable", f"{absolute} is a folder; how many images a second is not known")
        video = OpenVideo(self, str(absolute), request)
        try:
            yield video
        finally:
            if not video.is_read:  # the child still has pieces to send
                self.close()

    def ask(self, request: FrameRequest, timeout_seconds: float) -> Generator[object, None, None]:
        """Yield what the child answers: Opened, then (Piece, pictures), and Ended or Refused at the end.

        A child that takes longer than `timeout_seconds` in all, or dies, is ended and the answer is a `Refused`.
        """
        child = self._running_child()
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            write_message(child.stdin, pickle.dumps(request))
        channel = _Channel(child, timeout_seconds)
        try:
            answer: Any = None
            while not isinstance(answer, Ended | Refused):
                answer = channel.message()
                yield (
                    answer if not isinstance(answer, Piece) else (answer, [channel.pictures(s) for s in answer.shapes])
                )
        except _TooSlowError:
            self.close()
            yield Refused("timeout", "unreadable", f"{request.reader} took longer than {timeout_seconds:g} seconds")
        except EOFError:
            status = child.wait()
            self.close()
            yield Refused("crash", "unreadable", f"{request.reader} ended the decoder with status {status}")
        except KeyboardInterrupt:  # leave no child behind
            self.close()
            raise

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                process_group=0,  # a terminal's Ctrl-C is for the parent, which decides what becomes of the video
            )
            with contextlib.suppress(OSError, AttributeError):  # a wider pipe is only faster
                assert self._child.stdout is not None
                fcntl.fcntl(self._child.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return self._child

    def peak_bytes(self) -> int:
        """Return the most memory that a child has held."""
        if self._child is not None:
            self._peak_bytes = max(self._peak_bytes, peak_bytes(self._child.pid))
        return self._peak_bytes

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
            self.peak_bytes()
            self._child.kill()
            self._child.wait()
            for stream in (self._child.stdin, self._child.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OpenVideo:
    """A video that is being read. Made by `Decoder.open`.

    Attributes:
        info: the container's facts, with the exact duration.
        decoder: who reads it: "decord", "pyav" or "images".
        damage: what of it is missing or damaged, in words; None when nothing is. Final once the pieces have been read.
        is_read: whether all pieces have been taken.
    """

    info: VideoInfo
    decoder: ReaderName

    def __init__(self, decoder: Decoder, path: str, request: DecodeRequest) -> None:
        self._by, self._path, self._request = decoder, path, request
        self._left_seconds = request.timeout_seconds
        self._readers: list[ReaderName] = ["decord", "pyav"] if request.reader == "auto" else [request.reader]
        if Path(path).is_dir():
            self._readers = ["images"]
        self._last = -1
        self.damage: str | None = None
        self.is_read = False
        self._begin()

    def _begin(self) -> None:
        """Open the video with the next reader that can.

        Raises:
            MediaError: none can.
        """
        while True:
            self.decoder = self._readers.pop(0)
            request = FrameRequest(
                self._path,
                self.decoder,
                self._request.needs,
                self._request.max_seconds,
                self._request.shots,
                self._request.images_per_second or 0.0,
                self._last,
            )
            self._answers = self._by.ask(request, self._request.timeout_seconds)
            answer = next(self._answers)
            if isinstance(answer, Opened):
                self._opened, self.info = answer, answer.info
                return
            assert isinstance(answer, Refused)
            self._give_up_unless_another(answer)

    def _give_up_unless_another(self, refused: Refused) -> None:
        self._answers.close()
        if self._readers and refused.stage != "open":
            return
        self.is_read = True
        kinds: dict[str, Kind] = {"timeout": "timeout", "crash": "crash"}
        stage = "open" if refused.stage == "open" else "decode"
        raise MediaError(stage, kinds.get(refused.stage, refused.kind), refused.reason, self.decoder)

    def chunks(self) -> Iterator[tuple[Frames, ...]]:
        """Yield the next frames of each need, some of them without any; at most some 50 MB of pictures at a time.

        When a reader fails in the middle, the other goes on with the frames not yet given.

        Raises:
            MediaError: no more frames can be read and none have been; or something is missing and `strict` is set.
        """
        while not self.is_read:
            for answer in self._answers:
                if isinstance(answer, tuple):
                    piece, pictures = answer
                    self._last = piece.last
                    yield tuple(_frames(piece, pictures, need) for need in range(len(piece.looks)))
                elif isinstance(answer, Ended):
                    self.damage, self.is_read = answer.damage, True
                elif isinstance(answer, Refused):
                    self._recover(answer)
                    break
        self._judge()

    def _recover(self, refused: Refused) -> None:
        """Go on with another reader; without one, keep what has been read."""
        try:
            self._give_up_unless_another(refused)
        except MediaError:
            if self._last < 0:
                raise
            self.damage = f"the file cannot be read on after {self._last + 1} frames ({refused.reason})"
        else:
            self._begin()

    def _judge(self) -> None:
        if self._request.sound and self.info.has_sound and self._sound[1]:
            self.damage = "; ".join(filter(None, (self.damage, self._sound[1])))
        if self._request.strict and self.damage:
            raise MediaError("decode", "truncated", self.damage, self.decoder)
        if self._request.needs and self._last < 0:
            raise MediaError("decode", "unreadable", self.damage or "no frame can be decoded", self.decoder)

    @property
    def sound(self) -> Sound | None:
        """The sound, [S] mono samples at 16 kHz; None when there is none, or it cannot be read."""
        return self._sound[0]

    @property
    def sound_error(self) -> MediaError | None:
        """Why a sound track that is there cannot be read."""
        return self._sound[2]

    @cached_property
    def _sound(self) -> tuple[Sound | None, str | None, MediaError | None]:
        """The sound, what of it is missing, and why there is none."""
        if self._opened.sound_track is None:
            return None, None, None
        opened = self._opened
        track = Track(self._path, opened.sound_track or 0, opened.sound_seconds, opened.start_seconds)
        try:
            return *read_sound(track, self._request.max_seconds, self._request.timeout_seconds), None
        except SoundError as error:
            return None, None, MediaError("sound", error.kind, str(error), "ffmpeg")


@dataclass(frozen=True, slots=True)
class Decoded:
    """One whole decoded video.

    Attributes:
        info: the container's facts.
        frames: of each need.
        sound: [S] mono samples at 16 kHz; None when the video has none, or it was not asked for or cannot be read.
        sound_error: why a sound track that is there could not be read.
        decoder: who read it.
        damage: what of it is missing or damaged.
    """

    info: VideoInfo
    frames: tuple[Frames, ...]
    sound: Sound | None
    sound_error: MediaError | None
    decoder: str
    damage: str | None


def decode(path: str | Path, request: DecodeRequest, decoder: Decoder | None = None) -> Decoded:
    """Read one short video whole; long ones are better read piece by piece with `Decoder.open`.

    Raises:
        MediaError: see `Decoder.open`.
    """
    with contextlib.ExitStack() as stack:
        by = decoder or stack.enter_context(Decoder())
        video = stack.enter_context(by.open(path, request))
        pieces = list(video.chunks())
        frames = tuple(
            Frames(np.concatenate([p.images for p in each]), np.concatenate([p.seconds for p in each]))
            for each in zip(*pieces, strict=True)
        )
        sound, error = (video.sound, video.sound_error) if request.sound else (None, None)
        return Decoded(video.info, frames, sound, error, video.decoder, video.damage)


class _TooSlowError(Exception):
    """The child has used up its time."""


class _Channel:
    """What a child sends, and how long we have waited for it."""

    def __init__(self, child: subprocess.Popen[bytes], timeout_seconds: float) -> None:
        assert child.stdout is not None
        self._descriptor, self._left = child.stdout.fileno(), timeout_seconds

    def message(self) -> Any:
        """Return the next message.

        Raises:
            EOFError: the child has died.
            _TooSlowError: the time is used up.
        """
        (size,) = HEADER.unpack(self._read(bytearray(HEADER.size)))
        return pickle.loads(self._read(bytearray(size)))

    def pictures(self, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return the array of pictures that follows a message; raises as `message`."""
        array = np.empty(shape, np.uint8)
        if array.size:
            self._read(array.data.cast("B"))
        return array

    def _read(self, into: Any) -> Any:
        left = memoryview(into)
        while left:
            started = time.monotonic()
            ready, _, _ = select.select([self._descriptor], [], [], max(self._left, 0))
            self._left -= time.monotonic() - started
            if not ready:
                raise _TooSlowError
            count = os.readv(self._descriptor, [left])
            if not count:
                raise EOFError
            left = left[count:]
        return into


def _frames(piece: Piece, pictures: Sequence[Any], need: int) -> Frames:
    images, places = pictures[piece.looks[need]], piece.places[need]
    return Frames(images if len(places) == len(images) else images[places], piece.seconds[need])
