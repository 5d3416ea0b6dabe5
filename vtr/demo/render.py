"""Scenes to clips: H.264 and AAC in MP4, in parallel, resumable."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path

import ffmpeg
import numpy as np

from feature_extraction.sound import ffmpeg_binary
from vtr.demo.draw import frames
from vtr.demo.sound import RATE, track
from vtr.demo.world import Scene
from vtr.errors import VtrError
from vtr.files import atomic_file
from vtr.progress import progress


def clip_path(folder: Path, scene: Scene) -> Path:
    """Return where a scene's clip lies."""
    return folder / f"{scene.id}.mp4"


def render_all(scenes: Sequence[Scene], folder: Path) -> int:
    """Render the scenes whose clip is not there yet, on all cores. Return how many were rendered.

    Raises:
        VtrError: ffmpeg fails.
        WorkspaceError: the folder cannot be written.
    """
    left = [scene for scene in scenes if not clip_path(folder, scene).exists()]
    if not left:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with (
        context.Pool(min(os.cpu_count() or 1, len(left)), signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool,
        progress("render", len(left), "clips") as advance,
    ):
        for _ in pool.imap_unordered(functools.partial(render, folder=folder), left):
            advance(1, "")
    return len(left)


def render(scene: Scene, folder: Path) -> None:
    """Render one clip, all or nothing.

    Raises:
        VtrError: ffmpeg fails.
    """
    sound = track(scene)
    with tempfile.TemporaryDirectory() as scratch, atomic_file(clip_path(folder, scene)) as temporary:
        width, height = scene.size
        video = ffmpeg.input(
            "pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", r=f"{scene.rate[0]}/{scene.rate[1]}"
        )
        streams = [video.video]
        settings = {"vcodec": "libx264", "pix_fmt": "yuv420p", "preset": "veryfast", "crf": 23, "threads": 1}
        if sound is not None:
            path = Path(scratch) / "sound.wav"
            _write_wave(path, sound)
            streams.append(ffmpeg.input(str(path)).audio)
            settings |= {"acodec": "aac", "ar": 44100 if scene.seed % 3 else 16000, "ac": 1 + scene.seed % 2}
        command = (
            ffmpeg.output(*streams, str(temporary), format="mp4", bitexact=None, map_metadata=-1, **settings)
            .global_args("-nostdin", "-loglevel", "error", "-y")
            .compile(cmd=ffmpeg_binary())
        )
        pixels = b"".join(frame.tobytes() for frame in frames(scene))
        done = subprocess.run(command, input=pixels, capture_output=True, check=False, timeout=120)
        if done.returncode:
            raise VtrError(f"ffmpeg cannot render {scene.id}: {done.stderr.decode(errors='replace').strip()}")


def _write_wave(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(RATE)
        stream.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
