"""The sound of a video, through ffmpeg. All times are in seconds."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

import ffmpeg
import imageio_ffmpeg
import numpy as np

from feature_extraction.extractor import SOUND_RATE, Sound
from feature_extraction.media_error import MediaError
from feature_extraction.wire import without_addresses
from vtr.parent import die_with_parent


@dataclass(frozen=True, slots=True)
class Heard:
    """The sound of a video.

    Attributes:
        samples: [S] at 16 kHz; sample 0 is heard with the first frame.
        damage: what ffmpeg could not read of it, in words; None when it is whole.
    """

    samples: Sound
    damage: str | None


def ffmpeg_binary() -> str:
    """Return the ffmpeg on PATH, or the one the wheel imageio-ffmpeg carries."""
    return shutil.which("ffmpeg") or str(imageio_ffmpeg.get_ffmpeg_exe())


def hear(
    path: str, max_seconds: float, timeout_seconds: float, video_start_seconds: float = 0.0, track: int = 0
) -> Heard:
    """Return a file's sound as mono float32 samples at 16 kHz, where sample 0 is heard with the first frame.

    Sound that goes on when the pictures have ended is kept, up to `max_seconds`.

    Args:
        path: the file.
        max_seconds: where to stop.
        timeout_seconds: how long ffmpeg may take.
        video_start_seconds: how long sound goes before the first frame; it is left out. Sound that sets in after the
            first frame is preceded by silence.
        track: which of the audio streams, counted from 0.

    Raises:
        MediaError: there is nothing in the track, ffmpeg cannot read it, or not within `timeout_seconds`.
    """
    command = _command(path, max_seconds, video_start_seconds, track)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
            process_group=0,  # ffmpeg would take a terminal's Ctrl-C for the end of the sound
            preexec_fn=die_with_parent,  # a worker that is killed cannot end it
        )
    except subprocess.TimeoutExpired as error:
        reason = f"ffmpeg took longer than {timeout_seconds:g} seconds"
        raise MediaError("sound", "timeout", reason, "ffmpeg") from error
    samples = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], "<f4")
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    complaint = without_addresses(lines[-1]) if lines else ""
    if not samples.size:
        if done.returncode or complaint:
            raise MediaError("sound", "unreadable", f"ffmpeg: {complaint or f'status {done.returncode}'}", "ffmpeg")
        raise MediaError("sound", "no_audio", "the sound track is empty", "ffmpeg")
    if done.returncode or complaint:
        return Heard(samples, f"sound may be missing: ffmpeg: {complaint or f'status {done.returncode}'}")
    return Heard(samples, None)


def _command(path: str, max_seconds: float, video_start_seconds: float, track: int) -> list[str]:
    seek = {"ss": video_start_seconds} if video_start_seconds else {}
    output = ffmpeg.input(f"file:{path}", **seek).output(
        "pipe:",
        map=f"0:a:{track}",
        format="f32le",
        acodec="pcm_f32le",
        af="aresample=async=1:first_pts=0",
        ac=1,
        ar=SOUND_RATE,
        t=max_seconds,
    )
    command: list[str] = output.global_args("-nostdin", "-loglevel", "error").compile(cmd=ffmpeg_binary())
    return command
