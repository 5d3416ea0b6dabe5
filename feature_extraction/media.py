"""Decoding: frames from a child process that can be killed, sound from ffmpeg. All times are in seconds."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from feature_extraction.child import Child, DiedError, TimedOutError
from feature_extraction.extractor import Sound
from feature_extraction.facts import decoder_facts as decoder_facts
from feature_extraction.frames import FrameNeed, Frames, VideoInfo
from feature_extraction.media_error import MediaError as MediaError
from feature_extraction.memory import peak_bytes
from feature_extraction.probing import probe as probe
from feature_extraction.sampling import size_of
from feature_extraction.sound import Heard, hear
from feature_extraction.sound import ffmpeg_binary as ffmpeg_binary
from feature_extraction.wire import Chunk, Ended, Failed, FrameRequest, Message, Opened, ReaderName, Trying

DECODER_COMMAND = (sys.executable, "-c", "from feature_extraction.decoder import main; main()")


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """What to decode. Times in seconds.

    Attributes:
        needs: which frames, and how they look. Equal needs are given the same arrays.
        sound: whether `OpenVideo.sound` is wanted.
        max_seconds: where reading stops.
        timeout_seconds: how long all waiting for a reader may take, and how long ffmpeg may take over the sound.
        reader: "auto" asks the faster of decord and PyAV first and the other one where that fails, and decord never
            where it would show wrong frames; or only one of them.
        strict: refuse a file of which a part cannot be read.
        images_per_second: how many images of a folder make a second.
        shots: (start, end) of each shot, for needs with the sampling "shots".
    """

    needs: tuple[FrameNeed, ...] = ()
    sound: bool = False
    max_seconds: float = 600.0
    timeout_seconds: float = 120.0
    reader: ReaderName = "auto"
    strict: bool = False
    images_per_second: float | None = None
    shots: tuple[tuple[float, float], ...] = ()


class Decoder:
    """Reads videos, one at a time, through one child process, which is replaced when a reader hangs or crashes.

    Use it as a context manager, or call `close`.

    Args:
        command: starts the child process.

    Attributes:
        idle: whether the child has answered all it was asked.
    """

    def __init__(self, command: Sequence[str] = DECODER_COMMAND) -> None:
        self._command = command
        self._child: Child | None = None
        self._peak_bytes = 0
        self.idle = True

    @contextlib.contextmanager
    def open(self, path: str | Path, request: DecodeRequest) -> Iterator[OpenVideo]:
        """Open a video; its frames come from `OpenVideo.chunks` within the context.

        Raises:
            MediaError: the file cannot be read, or not within `timeout_seconds`.
        """
        absolute = Path(path).absolute()
        if not absolute.is_file() and not absolute.is_dir():
            there = "is no ordinary file" if absolute.exists() else "is not there"
            raise MediaError("open", "unreadable", f"{absolute} {there}")
        try:
            yield OpenVideo(self, str(absolute), request)
        finally:
            if not self.idle:  # nobody waits for the rest of the video any more
                self.close()

    def running_child(self) -> Child:
        """Return the child process, started if there is none."""
        if self._child is None or not self._child.runs():
            self.close()
            self._child = Child(self._command)
        return self._child

    def peak_bytes(self) -> int:
        """Return the most memory that a child process has held, as far as seen."""
        if self._child is not None:
            self._peak_bytes = max(self._peak_bytes, peak_bytes(self._child.pid))
        return self._peak_bytes

    def close(self) -> None:
        """End the child process."""
        self.idle = True
        if self._child is not None:
            self.peak_bytes()
            self._child.close()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OpenVideo:
    """A video whose frames can be read once, in order. Made by `Decoder.open`.

    Attributes:
        info: the container's facts; the duration is that of what can be read.
        decoder: the reader at work: "decord", "pyav" or "images"; empty when no frames are asked for.
    """

    info: VideoInfo
    decoder: str = ""

    def __init__(self, owner: Decoder, path: str, request: DecodeRequest) -> None:
        self._owner, self._path, self._request = owner, path, request
        self._needs = tuple(dict.fromkeys(request.needs))
        self._done = 0
        self._damage: str | None = None
        self._others: tuple[ReaderName, ...] = ()
        self._pyav_error: MediaError | None = None
        self._heard: Heard | None = None
        self._sound_error: MediaError | None = None
        self._ask(request.reader)
        opened, _ = self._receive()
        assert isinstance(opened, Opened)
        self.info = opened.info
        self._video_start_seconds, self._sound_track = opened.video_start_seconds, opened.sound_track
        self._sound_is_due = request.sound and opened.sound_track is not None
        if not self._needs:
            self._end()

    def chunks(self) -> Iterator[tuple[Frames | None, ...]]:
        """Yield some frames at a time, at most 16 and about 16 MB in all: for each need its own, None when it has none.

        All chunks together hold for each need the frames of its sampling in order, less those that cannot be decoded.

        Raises:
            MediaError: reading fails or takes too long; no frame can be decoded; under `strict`, a part is damaged.
        """
        while not self._owner.idle:
            message, images = self._receive()
            if isinstance(message, Chunk):
                self._done = message.done
                yield self._frames(message, images)
            elif isinstance(message, Ended):
                self._end(message)

    @property
    def damage(self) -> str | None:
        """What could not be read, in words: of the frames once `chunks` has ended, of the sound once it was read."""
        heard = self._heard.damage if self._heard else None
        return "; ".join(filter(None, (self._damage, heard))) or None

    @property
    def sound(self) -> Sound | None:
        """The sound, read by ffmpeg when first asked for; None when there is none or it was not asked for.

        Of several tracks it is the one that the container marks as the default, else the first.
        """
        self._listen()
        return self._heard.samples if self._heard else None

    @property
    def sound_error(self) -> MediaError | None:
        """Why there is no sound though the container promises some."""
        self._listen()
        return self._sound_error

    def _listen(self) -> None:
        if not self._sound_is_due:
            return
        self._sound_is_due = False
        request = self._request
        try:
            heard = hear(
                self._path,
                request.max_seconds,
                request.timeout_seconds,
                self._video_start_seconds,
                self._sound_track or 0,
            )
            if request.strict and heard.damage:
                raise MediaError("sound", "truncated", heard.damage, "ffmpeg")
            self._heard = heard
        except MediaError as error:
            self._sound_error = error

    def _ask(self, reader: ReaderName) -> None:
        request = self._request
        self._child = self._owner.running_child()
        self._owner.idle = False
        self._child.ask(
            FrameRequest(
                self._path,
                self._needs,
                request.shots,
                request.max_seconds,
                reader,
                request.strict,
                request.images_per_second,
                self._done,
            ),
            request.timeout_seconds,
        )

    def _receive(self) -> tuple[Message, list[NDArray[np.uint8]]]:
        """Return the next message that is not about the readers; ask another reader in place of one that fails.

        Where both fail PyAV's error counts: decord also refuses files that are whole.
        """
        while True:
            try:
                message, images = self._child.receive()
            except (TimedOutError, DiedError) as error:
                self._owner.close()
                if not self._others:
                    raise self._pyav_error or self._why(error) from error
                self._pyav_error = self._why(error) if self.decoder == "pyav" else None
                self._ask(self._others[0])
                continue
            if isinstance(message, Failed):
                self._owner.idle = True
                raise self._pyav_error or MediaError(message.stage, message.kind, message.reason, message.decoder)
            if not isinstance(message, Trying):
                return message, images
            self.decoder, self._others = message.decoder, message.others

    def _why(self, error: TimedOutError | DiedError) -> MediaError:
        stage, reader = "decode" if self.decoder else "open", self.decoder or "pyav"
        if isinstance(error, DiedError):
            return MediaError(stage, "crash", f"{reader} ended the decoder with status {error.status}", reader)
        seconds = self._request.timeout_seconds
        return MediaError(stage, "timeout", f"{reader} took longer than {seconds:g} seconds", reader)

    def _frames(self, chunk: Chunk, images: list[NDArray[np.uint8]]) -> tuple[Frames | None, ...]:
        parts = {
            need: Frames(_rows(images[part.look], part.rows), part.seconds) if part else None
            for need, part in zip(self._needs, chunk.parts, strict=True)
        }
        return tuple(parts[need] for need in self._request.needs)

    def _end(self, message: Message | None = None) -> None:
        ended = message or self._receive()[0]
        assert isinstance(ended, Ended)
        self._damage = ended.damage
        self._owner.idle = True


def _rows(images: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.uint8]:
    return images if len(rows) == len(images) else images[list(rows)]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A whole decoded video; see `OpenVideo`.

    Attributes:
        frames: one a need; with no pictures when none of its frames could be decoded.
    """

    info: VideoInfo
    decoder: str
    frames: tuple[Frames, ...]
    damage: str | None
    sound: Sound | None
    sound_error: MediaError | None


def decode(path: str | Path, request: DecodeRequest, decoder: Decoder | None = None) -> Decoded:
    """Read one whole video into memory, for short videos and tests.

    Args:
        path: the file.
        request: what to decode.
        decoder: by default one of its own, which takes a moment to start.

    Raises:
        MediaError: see `Decoder.open` and `OpenVideo.chunks`.
    """
    with contextlib.ExitStack() as stack:
        decoder = decoder or stack.enter_context(Decoder())
        video = stack.enter_context(decoder.open(path, request))
        chunks = list(video.chunks())
        frames = tuple(
            _joined([chunk[place] for chunk in chunks], need, video.info) for place, need in enumerate(request.needs)
        )
        sound, sound_error = video.sound, video.sound_error
        return Decoded(video.info, video.decoder, frames, video.damage, sound, sound_error)


def _joined(chunks: Sequence[Frames | None], need: FrameNeed, info: VideoInfo) -> Frames:
    there = [frames for frames in chunks if frames is not None]
    if not there:
        width, height = size_of(need, info.width, info.height)
        return Frames(np.zeros((0, height, width) if need.grey else (0, height, width, 3), np.uint8), np.zeros(0))
    return Frames(np.concatenate([f.images for f in there]), np.concatenate([f.seconds for f in there]))
