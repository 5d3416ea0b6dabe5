"""Sound from ffmpeg: one track, mono, 16 kHz. All times are in seconds."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

SOUND_RATE = 16_000
"""Samples per second of the sound that experts are given."""
MISSING_SECONDS = 1.0
"""A track that ends so much before the container says has been cut short."""


class SoundError(Exception):
    """A sound track cannot be read. `kind` is the class of reason that goes into the failure ledger."""

    def __init__(self, kind: Literal["unreadable", "no_audio", "timeout"], reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Track:
    """Which sound of a file is wanted.

    Attributes:
        path: the file.
        number: of the track among the file's audio streams.
        seconds: how long the container says it is; 0 where it does not.
        video_start_seconds: how long sound goes before the first frame; it is left out. Sound that sets in after the
            first frame is preceded by silence.
    """

    path: str
    number: int = 0
    seconds: float = 0.0
    video_start_seconds: float = 0.0


def ffmpeg_binary() -> str:
    """Return the ffmpeg on PATH, or the one the wheel imageio-ffmpeg carries."""
    return shutil.which("ffmpeg") or str(imageio_ffmpeg.get_ffmpeg_exe())


def read_sound(track: Track, max_seconds: float, timeout_seconds: float) -> tuple[NDArray[np.float32], str | None]:
    """Return a track as [S] samples at 16 kHz, where sample 0 is heard with the first frame, and what of it is missing.

    Sound goes on after the last frame where the track is longer than the video.

    Args:
        track: the track.
        max_seconds: where to stop.
        timeout_seconds: how long ffmpeg may take.

    Raises:
        SoundError: ffmpeg cannot read it, or not within `timeout_seconds`.
    """
    seek = {"ss": track.video_start_seconds} if track.video_start_seconds else {}
    command = (
        ffmpeg.input(f"file:{track.path}", **seek)[f"a:{track.number}"]
        .output(
            "pipe:",
            format="f32le",
            acodec="pcm_f32le",
            af="aresample=async=1:first_pts=0",
            ac=1,
            ar=SOUND_RATE,
            t=max_seconds,
        )
        .global_args("-nostdin", "-loglevel", "error")
        .compile(cmd=ffmpeg_binary())
    )
    try:
        # a process group of its own: ffmpeg would take a terminal's Ctrl-C for the end of the sound
        done = subprocess.run(command, capture_output=True, timeout=timeout_seconds, check=False, process_group=0)
    except subprocess.TimeoutExpired as error:
        raise SoundError("timeout", f"ffmpeg took longer than {timeout_seconds:g} seconds") from error
    samples = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], "<f4")
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    if not samples.size:
        if done.returncode or lines:
            raise SoundError("unreadable", f"ffmpeg: {lines[-1] if lines else f'status {done.returncode}'}")
        raise SoundError("no_audio", "the sound track is empty")
    return samples, _missing(track, len(samples) / SOUND_RATE, max_seconds, done.returncode, lines)


def _missing(track: Track, seconds: float, max_seconds: float, status: int, lines: list[str]) -> str | None:
    """Return what of a track is missing: ffmpeg ends with status 0 when a file is cut short."""
    if status:
        return f"the sound can be read for {seconds:.1f} seconds only ({lines[-1] if lines else f'status {status}'})"
    expected = min(track.seconds - track.video_start_seconds, max_seconds)
    if seconds < expected - MISSING_SECONDS:
        return f"the sound is cut short: {seconds:.1f} of {expected:.1f} seconds are there"
    return None
