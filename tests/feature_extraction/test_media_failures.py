"""Bad files give a clear error, a reader that hangs or crashes is killed, and sound fails on its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from painted_clips import ffmpeg, painted, render

from feature_extraction import media
from feature_extraction.media import Decoder, DecodeRequest, MediaError, decode, ffmpeg_binary, read_sound

STUBBORN = """
import os, time
from feature_extraction import decoder
class Stubborn:
    def __init__(self, contents, size): {does}
decoder.READERS[{reader!r}] = Stubborn
decoder.main()
"""


def stubborn(does: str, reader: str = "decord") -> Decoder:
    """Return a decoder whose `reader` misbehaves."""
    return Decoder((sys.executable, "-c", STUBBORN.format(does=does, reader=reader)))


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "InvalidData"), (b"this is no video\n" * 50, "InvalidData"), (b"\0\0\0\x18ftypmp42" + b"\0" * 999, ".")],
    ids=["empty", "text", "only a header"],
)
def test_what_is_no_video_says_so(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=told) as caught:
        decode(path, DecodeRequest())
    assert caught.value.stage == "open"
    assert caught.value.reason


def test_a_folder_or_nothing_in_place_of_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is a folder"):
        decode(tmp_path, DecodeRequest())
    with pytest.raises(MediaError, match="is not there"):
        decode(tmp_path / "none.mp4", DecodeRequest())


def test_sound_without_pictures_is_no_video(tmp_path: Path, clip: Path) -> None:
    sound = tmp_path / "tone.m4a"
    ffmpeg("-f", "lavfi", "-i", "sine=440:d=1", "-c:a", "aac", sound)
    covered = tmp_path / "with cover.mp3"
    ffmpeg("-i", sound, "-i", clip, "-map", 0, "-map", "1:v", "-frames:v", 1, "-c:v", "png", "-c:a", "mp3",
           "-disposition:v", "attached_pic", covered)  # fmt: skip
    for path in (sound, covered):
        with pytest.raises(MediaError, match="no video stream"):
            decode(path, DecodeRequest())


@pytest.mark.parametrize("flags", [(), ("-movflags", "+faststart")], ids=["index last", "index first"])
def test_a_file_cut_in_half_is_refused(tmp_path: Path, flags: tuple[str, ...]) -> None:
    whole = render(tmp_path / "whole.mp4", map(painted, range(100)), "-c:v", "libx264", "-g", 10, *flags)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(MediaError) as caught:
        decode(cut, DecodeRequest())
    if flags:
        assert "cut short" in caught.value.reason


@pytest.mark.parametrize(
    "name", ["-starts with a dash.mp4", "späce & ünïcode 視頻.mp4", "100%d.mp4", "a:b.mp4", "x'y\".mp4"]
)
def test_odd_names_are_only_names(tmp_path: Path, clip_with_sound: Path, name: str, monkeypatch) -> None:
    shutil.copy(clip_with_sound, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    found = decode(name, DecodeRequest(sound=True))
    assert len(found.frames.images) == 4
    assert found.sound is not None


@pytest.mark.parametrize(("does", "timeout_seconds"), [("time.sleep(600)", 4.0), ("os.abort()", 60.0)])
def test_a_reader_that_hangs_or_crashes_is_replaced_by_the_other(clip: Path, does: str, timeout_seconds: float) -> None:
    with stubborn(does) as decoder:
        found = decoder.decode(clip, DecodeRequest(timeout_seconds=timeout_seconds))
        assert len(found.frames.images) == 4
        again = decoder.decode(clip, DecodeRequest(reader="pyav"))
        np.testing.assert_array_equal(again.frames.images, found.frames.images)


def test_a_reader_that_hangs_is_killed_in_time_and_the_stage_is_named(clip: Path) -> None:
    with stubborn("time.sleep(600)", reader="pyav") as decoder:
        with pytest.raises(MediaError, match=r"pyav took longer than 1\.5 seconds") as caught:
            decoder.decode(clip, DecodeRequest(reader="pyav", timeout_seconds=1.5))
        assert caught.value.stage == "timeout"
        assert decoder._child is None  # killed and waited for
    with stubborn("os._exit(7)", reader="pyav") as decoder:
        with pytest.raises(MediaError, match="status 7") as caught:
            decoder.decode(clip, DecodeRequest(reader="pyav"))
        assert caught.value.stage == "crash"


def test_one_child_process_serves_many_videos(clip: Path) -> None:
    with Decoder() as decoder:
        decoder.decode(clip, DecodeRequest())
        first = decoder._child.pid
        with pytest.raises(MediaError):
            decoder.decode(__file__, DecodeRequest())
        decoder.decode(clip, DecodeRequest())
        assert decoder._child.pid == first


def test_an_interrupt_leaves_no_child(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def put(self, message: bytes) -> None: ...

        def get(self, **_: float) -> bytes:
            raise KeyboardInterrupt

    monkeypatch.setattr(media.queue, "SimpleQueue", Interrupted)
    decoder = stubborn("time.sleep(600)")
    with pytest.raises(KeyboardInterrupt):
        decoder.decode(clip, DecodeRequest())
    assert decoder._child is None


def test_sound_is_what_was_put_in(clip_with_sound: Path, clip: Path) -> None:
    sound = decode(clip_with_sound, DecodeRequest(sound=True)).sound
    assert sound.dtype == np.float32
    assert len(sound) == pytest.approx(2 * 16000, rel=0.05)
    spectrum = np.abs(np.fft.rfft(sound[4000:20000]))
    assert np.argmax(spectrum) == 440  # 1-second window: one bin a hertz
    silent = decode(clip, DecodeRequest(sound=True))
    assert silent.sound is None
    assert silent.sound_error is None
    assert decode(clip_with_sound, DecodeRequest()).sound is None


def test_sound_and_frames_share_their_zero(tmp_path: Path, clip: Path) -> None:
    late_sound, late_video = tmp_path / "late sound.mp4", tmp_path / "late video.mp4"
    tone = ("-f", "lavfi", "-i", "sine=440:d=2")
    ffmpeg("-i", clip, "-itsoffset", 1, *tone, "-c:v", "copy", "-c:a", "aac", late_sound)
    ffmpeg(
        "-itsoffset", 1.5, "-i", clip, *tone, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", late_video
    )
    heard = np.flatnonzero(np.abs(decode(late_sound, DecodeRequest(sound=True)).sound) > 0.02) / 16000
    assert heard[0] == pytest.approx(1.0, abs=0.03)
    heard = np.flatnonzero(np.abs(decode(late_video, DecodeRequest(sound=True)).sound) > 0.02) / 16000
    assert heard[0] < 0.03
    assert heard[-1] == pytest.approx(0.5, abs=0.05)


def test_broken_sound_does_not_cost_the_frames(tmp_path: Path, clip_with_sound: Path, monkeypatch) -> None:
    failing = tmp_path / "ffmpeg"
    failing.write_text("#!/bin/sh\necho 'no such codec' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(media, "ffmpeg_binary", lambda: str(failing))
    found = decode(clip_with_sound, DecodeRequest(sound=True))
    assert len(found.frames.images) == 4
    assert found.sound is None
    assert "no such codec" in found.sound_error


def test_ffmpeg_that_hangs_is_stopped(tmp_path: Path, clip_with_sound: Path, monkeypatch) -> None:
    hanging = tmp_path / "ffmpeg"
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(media, "ffmpeg_binary", lambda: str(hanging))
    with pytest.raises(MediaError, match=r"longer than 0\.5 seconds"):
        read_sound(str(clip_with_sound), 600, 0.5)


def test_ffmpeg_on_path_goes_before_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(ffmpeg_binary()).is_file()
    own = tmp_path / "ffmpeg"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert ffmpeg_binary() == str(own)


def test_the_child_goes_when_its_parent_is_killed(clip: Path) -> None:
    """Also when it hangs in a reader: the kernel kills it."""
    program = (
        "import sys; from feature_extraction.media import *\n"
        f"d = Decoder((sys.executable, '-c', {STUBBORN.format(does='time.sleep(600)', reader='decord')!r}))\n"
        "c = d._running_child(); print(c.pid, flush=True)\n"
        f"d.decode({str(clip)!r}, DecodeRequest())"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    time.sleep(1.5)  # until the child has taken the request
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    gone = threading.Event()
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            state = "gone"
        if state in ("gone", "Z"):
            gone.set()
            break
        time.sleep(0.05)
    assert gone.is_set()
