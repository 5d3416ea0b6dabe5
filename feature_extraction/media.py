"""Decoding: frames from a child process that can be killed, sound from ffmpeg. All times are in seconds."""

from __future__ import annotations

import contextlib
import pickle
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from feature_extraction.decoder import FrameAnswer, FrameRequest, read_message, write_message
from feature_extraction.extractor import SOUND_RATE, Media
from feature_extraction.probing import probe as probe
from vtr.errors import VtrError


class MediaError(VtrError):
    """A video could not be read.

    Attributes:
        stage: "open", "decode", "timeout", "crash" or "sound".
        reason: why, in words.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage, self.reason = stage, reason


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """What to decode. Rates per second, sides in pixels; see `vtr.config.ExtractConfig`."""

    frames_per_second: float = 2.0
    max_frames: int = 64
    frame_side: int = 480
    max_seconds: float = 600.0
    timeout_seconds: float = 120.0
    reader: Literal["auto", "decord", "pyav"] = "auto"
    motion: bool = False
    sound: bool = False


def ffmpeg_binary() -> str:
    """Return the ffmpeg on PATH, or the one the wheel imageio-ffmpeg carries."""
    return shutil.which("ffmpeg") or str(imageio_ffmpeg.get_ffmpeg_exe())


DECODER_COMMAND = (sys.executable, "-c", "from feature_extraction.decoder import main; main()")


class Decoder:
    """Reads videos through one child process, which is replaced when a reader hangs or crashes.

    Use it as a context manager, or call `close`.

    Args:
        command: starts the child process.
    """

    def __init__(self, command: Sequence[str] = DECODER_COMMAND) -> None:
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None

    def decode(self, path: str | Path, request: DecodeRequest) -> Media:
        """Return a video's frames and, if asked for, its motion frames and sound.

        Raises:
            MediaError: the file cannot be read, or not within `timeout_seconds`.
        """
        path = str(Path(path).absolute())
        if not Path(path).is_file():
            raise MediaError("open", f"{path} is {'a folder' if Path(path).is_dir() else 'not there'}")
        answer = self._frames(path, request)
        if answer.info is None or answer.frames is None:
            raise MediaError(answer.stage, answer.reason)
        sound, sound_error = None, None
        if request.sound and answer.info.has_sound:
            try:
                sound = read_sound(path, request.max_seconds, request.timeout_seconds, answer.video_start_seconds)
            except MediaError as error:
                sound_error = error.reason
        return Media(answer.info, answer.frames, answer.motion, sound, sound_error)

    def _frames(self, path: str, request: DecodeRequest) -> FrameAnswer:
        """Ask decord first, then PyAV, or the one reader configured."""
        readers: tuple[Literal["decord", "pyav"], ...]
        readers = ("decord", "pyav") if request.reader == "auto" else (request.reader,)
        answer = FrameAnswer(stage="open", reason="no reader was tried")
        for reader in readers:
            answer = self._ask(
                FrameRequest(
                    path,
                    reader,
                    request.frames_per_second,
                    request.max_frames,
                    request.frame_side,
                    request.max_seconds,
                    request.motion,
                ),
                request.timeout_seconds,
            )
            if answer.frames is not None or answer.stage == "open":
                break
        return answer

    def _ask(self, request: FrameRequest, timeout_seconds: float) -> FrameAnswer:
        child = self._running_child()
        assert child.stdin is not None
        assert child.stdout is not None
        answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        stream = child.stdout
        thread = threading.Thread(target=lambda: answers.put(read_message(stream)), daemon=True)
        with contextlib.suppress(BrokenPipeError):
            write_message(child.stdin, pickle.dumps(request))
        thread.start()
        try:
            message = answers.get(timeout=timeout_seconds)
        except queue.Empty:
            self.close()
            thread.join()
            return FrameAnswer(stage="timeout", reason=f"{request.reader} took longer than {timeout_seconds:g} seconds")
        except BaseException:  # Ctrl-C: leave no child behind
            self.close()
            raise
        thread.join()
        if not message:
            code = child.wait()
            self.close()
            return FrameAnswer(stage="crash", reason=f"{request.reader} ended the decoder with status {code}")
        answer = pickle.loads(message)
        assert isinstance(answer, FrameAnswer)
        return answer

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,  # a terminal's Ctrl-C is for the parent, which decides what becomes of the video
            )
        return self._child

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
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


def decode(path: str | Path, request: DecodeRequest) -> Media:
    """Read one video with a decoder of its own; for many videos, `Decoder` starts its child process only once.

    Raises:
        MediaError: see `Decoder.decode`.
    """
    with Decoder() as decoder:
        return decoder.decode(path, request)


def read_sound(
    path: str, max_seconds: float, timeout_seconds: float, video_start_seconds: float = 0.0
) -> NDArray[np.float32]:
    """Return a file's sound as [S] mono float32 samples at 16 kHz, where sample 0 is heard with the first frame.

    Args:
        path: the file.
        max_seconds: where to stop.
        timeout_seconds: how long ffmpeg may take.
        video_start_seconds: how long sound goes before the first frame; it is left out. Sound that sets in after the
            first frame is preceded by silence.

    Raises:
        MediaError: ffmpeg cannot read it, or not within `timeout_seconds`.
    """
    seek = {"ss": video_start_seconds} if video_start_seconds else {}
    command = (
        ffmpeg.input(f"file:{path}", **seek)
        .output(
            "pipe:",
            format="f32le",
            acodec="pcm_f32le",
            af="aresample=async=1:first_pts=0",
            ac=1,
            ar=SOUND_RATE,
            t=max_seconds,
            vn=None,
        )
        .global_args("-nostdin", "-loglevel", "error")
        .compile(cmd=ffmpeg_binary())
    )
    try:
        # a process group of its own: ffmpeg would take a terminal's Ctrl-C for the end of the sound
        done = subprocess.run(command, capture_output=True, timeout=timeout_seconds, check=False, process_group=0)
    except subprocess.TimeoutExpired as error:
        raise MediaError("sound", f"ffmpeg took longer than {timeout_seconds:g} seconds") from error
    samples = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], "<f4")
    if done.returncode or not samples.size:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise MediaError("sound", f"ffmpeg: {lines[-1] if lines else 'the sound track is empty'}")
    return samples
