"""Bad files give a clear error, a reader that hangs or crashes is killed, and sound fails on its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from painted_clips import ffmpeg, painted, render, shown_by

from feature_extraction import sound
from feature_extraction.frames import FrameNeed, Sampling
from feature_extraction.media import Decoder, DecodeRequest, MediaError, decode, ffmpeg_binary
from feature_extraction.sound import hear

FOUR = (FrameNeed(Sampling("uniform", most=4)),)
REQUEST = DecodeRequest(needs=FOUR)

FOR: dict[str, tuple[str, ...]] = {
    "decord": ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "1"),  # every frame is a key frame
    "pyav": (),
}
"""How a clip is encoded that "auto" asks a reader for first."""

STUBBORN = """
import os, time
from feature_extraction import decoder
class Stubborn(decoder.READERS[{reader!r}]):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        {at_start}
    def pictures(self, indices):
        for place, picture in super().pictures(indices):
            if place == 70:
                {midway}
            yield place, picture
decoder.READERS[{reader!r}] = Stubborn
decoder.main()
"""


def stubborn(at_start: str = "pass", midway: str = "pass", reader: str = "decord") -> Decoder:
    """Return a decoder whose `reader` misbehaves when it opens a video, or at its 71st frame."""
    return Decoder((sys.executable, "-c", STUBBORN.format(at_start=at_start, midway=midway, reader=reader)))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is damaged, or no video"),
        (b"this is no video\n" * 50, "it is damaged, or no video"),
        (b"\0\0\0\x18ftypmp42" + b"\0" * 999, "."),
    ],
    ids=["empty", "text", "only a header"],
)
def test_what_is_no_video_says_so(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=told) as caught:
        decode(path, REQUEST)
    assert (caught.value.stage, caught.value.kind) == ("open", "unreadable")
    assert caught.value.reason


def test_an_empty_folder_or_nothing_in_place_of_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is a folder without images") as caught:
        decode(tmp_path, REQUEST)
    assert caught.value.kind == "no_video"
    with pytest.raises(MediaError, match="is not there"):
        decode(tmp_path / "none.mp4", REQUEST)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="is no ordinary file"):
        decode(tmp_path / "pipe.mp4", REQUEST)


def test_sound_without_pictures_is_no_video(tmp_path: Path, clip: Path) -> None:
    sound = tmp_path / "tone.m4a"
    ffmpeg("-f", "lavfi", "-i", "sine=440:d=1", "-c:a", "aac", sound)
    covered = tmp_path / "with cover.mp3"
    ffmpeg("-i", sound, "-i", clip, "-map", 0, "-map", "1:v", "-frames:v", 1, "-c:v", "png", "-c:a", "mp3",
           "-disposition:v", "attached_pic", covered)  # fmt: skip
    for path in (sound, covered):
        with pytest.raises(MediaError, match="no video stream") as caught:
            decode(path, REQUEST)
        assert caught.value.kind == "no_video"


@pytest.mark.parametrize(
    "name", ["-starts with a dash.mp4", "späce & ünïcode 視頻.mp4", "100%d.mp4", "a:b.mp4", "x'y\".mp4"]
)
def test_odd_names_are_only_names(tmp_path: Path, clip_with_sound: Path, name: str, monkeypatch) -> None:
    shutil.copy(clip_with_sound, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    found = decode(name, DecodeRequest(needs=FOUR, sound=True))
    assert shown_by(found.frames[0]) == [6, 18, 31, 43]
    assert found.sound is not None


@pytest.mark.parametrize(("does", "timeout_seconds"), [("time.sleep(600)", 4.0), ("os.abort()", 60.0)])
@pytest.mark.parametrize(("first", "second"), [("decord", "pyav"), ("pyav", "decord")])
def test_a_reader_that_hangs_or_crashes_is_replaced_by_the_other(
    tmp_path: Path, first: str, second: str, does: str, timeout_seconds: float
) -> None:
    path = render(tmp_path / "a.mp4", map(painted, range(50)), *FOR[first])
    with stubborn(does, reader=first) as decoder:
        found = decode(path, DecodeRequest(needs=FOUR, timeout_seconds=timeout_seconds), decoder)
        assert (found.decoder, shown_by(found.frames[0])) == (second, [6, 18, 31, 43])
        again = decode(path, DecodeRequest(needs=FOUR, reader=second), decoder)
        np.testing.assert_array_equal(again.frames[0].images, found.frames[0].images)


@pytest.mark.parametrize("does", ["time.sleep(600)", "os.abort()", "raise ValueError('no more')"])
@pytest.mark.parametrize(("first", "second"), [("decord", "pyav"), ("pyav", "decord")])
def test_a_reader_goes_on_where_the_other_stops(tmp_path: Path, first: str, second: str, does: str) -> None:
    """Every frame is given once, in order, though 64 came from the one and the rest from the other."""
    path = render(tmp_path / "a.mp4", map(painted, range(152)), *FOR[first])
    every = FrameNeed(Sampling("all", most=150))  # fewer than there are key frames, where all frames are
    some = FrameNeed(Sampling("uniform", most=10), grey=True)
    with stubborn(midway=does, reader=first) as decoder:
        with decoder.open(path, DecodeRequest(needs=(every, some), timeout_seconds=4.0)) as video:
            readers = [(video.decoder, chunk) for chunk in video.chunks()]
        assert [reader for reader, _ in readers] == [first] * 4 + [second] * 6
        assert video.damage is None
    shown, seconds, greys = [], [], 0
    for _, (all_, some_) in readers:
        shown += shown_by(all_)
        seconds += all_.seconds.tolist()
        greys += 0 if some_ is None else len(some_.images)
    assert shown == [int((k + 0.5) * 152 / 150) for k in range(150)]
    np.testing.assert_allclose(seconds, np.array(shown) / 25, atol=1e-6)
    assert greys == 10


@pytest.mark.parametrize("decord", ["os.abort()", "raise ValueError('decord finds 49 frames')"])
@pytest.mark.parametrize("first", ["pyav", "decord"])
def test_when_both_readers_fail_it_is_told_what_pyav_did(tmp_path: Path, decord: str, first: str) -> None:
    path = render(tmp_path / "a.mp4", map(painted, range(50)), *FOR[first])
    program = STUBBORN.format(at_start=decord, midway="pass", reader="decord").replace("decoder.main()", "")
    program += STUBBORN.format(at_start="time.sleep(600)", midway="pass", reader="pyav")
    with Decoder((sys.executable, "-c", program)) as decoder:
        with pytest.raises(MediaError, match="pyav took longer than 2 seconds") as caught:
            decode(path, DecodeRequest(needs=FOUR, timeout_seconds=2.0), decoder)
        assert (caught.value.kind, caught.value.decoder) == ("timeout", "pyav")


def test_strict_is_not_evaded_by_asking_the_other_reader(clip: Path) -> None:
    program = STUBBORN.format(at_start="pass", midway="pass", reader="pyav")
    program = program.replace("decoder.main()", "Stubborn.damage = property(lambda _: 'holes', lambda *_: None)\n")
    with Decoder((sys.executable, "-c", f"{program}decoder.main()")) as decoder:
        assert decode(clip, REQUEST, decoder).damage == "holes"
        with pytest.raises(MediaError, match="holes") as caught:
            decode(clip, DecodeRequest(needs=FOUR, strict=True), decoder)
        assert (caught.value.kind, caught.value.decoder) == ("truncated", "pyav")


def test_a_pyav_that_hangs_is_killed_in_time_and_the_reason_is_named(clip: Path) -> None:
    with stubborn("time.sleep(600)", reader="pyav") as decoder:
        with pytest.raises(MediaError, match=r"pyav took longer than 1\.5 seconds") as caught:
            decode(clip, DecodeRequest(needs=FOUR, reader="pyav", timeout_seconds=1.5), decoder)
        assert (caught.value.stage, caught.value.kind, caught.value.decoder) == ("decode", "timeout", "pyav")
        assert decoder._child is None  # killed and waited for
    with stubborn("os._exit(7)", reader="pyav") as decoder:
        with pytest.raises(MediaError, match="status 7") as caught:
            decode(clip, DecodeRequest(needs=FOUR, reader="pyav"), decoder)
        assert (caught.value.kind, caught.value.decoder) == ("crash", "pyav")


def test_memory_that_runs_out_is_named(clip: Path) -> None:
    with stubborn("raise MemoryError", reader="pyav") as decoder:
        with pytest.raises(MediaError) as caught:
            decode(clip, DecodeRequest(needs=FOUR, reader="pyav"), decoder)
        assert caught.value.kind == "out_of_memory"
        assert shown_by(decode(clip, DecodeRequest(needs=FOUR, reader="decord"), decoder).frames[0]) == [6, 18, 31, 43]


def test_the_time_limit_does_not_count_what_the_consumer_does(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", map(painted, range(150)))
    request = DecodeRequest(needs=(FrameNeed(Sampling("all", most=None)),), timeout_seconds=2.0)
    with Decoder() as decoder:
        decode(path, request, decoder)  # its start is over
        with decoder.open(path, request) as video:
            shown = []
            for (frames,) in video.chunks():
                time.sleep(1.1)
                shown += shown_by(frames)
    assert shown == list(range(150))


def test_one_child_process_serves_many_videos(clip: Path) -> None:
    with Decoder() as decoder:
        decode(clip, REQUEST, decoder)
        first = decoder._child
        with pytest.raises(MediaError):
            decode(__file__, REQUEST, decoder)
        with decoder.open(clip, DecodeRequest()) as video:
            assert list(video.chunks()) == []
        decode(clip, REQUEST, decoder)
        assert decoder._child is first


def test_a_video_that_is_left_in_the_middle_costs_the_child_and_nothing_else(tmp_path: Path, clip: Path) -> None:
    path = render(tmp_path / "a.mp4", map(painted, range(200)))
    every = DecodeRequest(needs=(FrameNeed(Sampling("all", most=None)),))
    with Decoder() as decoder:
        with decoder.open(path, every) as video:
            next(video.chunks())
        assert decoder._child is None
        with pytest.raises(KeyboardInterrupt), decoder.open(path, every):
            raise KeyboardInterrupt
        assert decoder._child is None
        assert shown_by(decode(clip, REQUEST, decoder).frames[0]) == [6, 18, 31, 43]


def test_a_child_that_was_killed_while_idle_is_replaced(clip: Path) -> None:
    with Decoder() as decoder:
        decode(clip, REQUEST, decoder)
        os.kill(decoder._child._process.pid, signal.SIGKILL)
        decoder._child._process.wait()
        assert shown_by(decode(clip, REQUEST, decoder).frames[0]) == [6, 18, 31, 43]


def test_sound_is_what_was_put_in(clip_with_sound: Path, clip: Path) -> None:
    heard = decode(clip_with_sound, DecodeRequest(sound=True)).sound
    assert heard.dtype == np.float32
    assert len(heard) == pytest.approx(2 * 16000, rel=0.05)
    spectrum = np.abs(np.fft.rfft(heard[4000:20000]))
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
    monkeypatch.setattr(sound, "ffmpeg_binary", lambda: str(failing))
    found = decode(clip_with_sound, DecodeRequest(needs=FOUR, sound=True))
    assert len(found.frames[0].images) == 4
    assert found.sound is None
    assert "no such codec" in found.sound_error.reason
    assert (found.sound_error.stage, found.sound_error.kind) == ("sound", "unreadable")


def test_sound_that_breaks_off_is_kept_and_told(tmp_path: Path, clip_with_sound: Path, monkeypatch) -> None:
    failing = tmp_path / "ffmpeg"
    failing.write_text("#!/bin/sh\nhead -c 64002 /dev/zero\necho '[aac @ 0x12ab] broken' >&2\nexit 0\n")
    failing.chmod(0o755)
    monkeypatch.setattr(sound, "ffmpeg_binary", lambda: str(failing))
    found = decode(clip_with_sound, DecodeRequest(needs=FOUR, sound=True))
    assert found.sound.shape == (16000,)
    assert found.damage == "sound may be missing: ffmpeg: [aac] broken"
    strict = decode(clip_with_sound, DecodeRequest(needs=FOUR, sound=True, strict=True))
    assert (strict.sound, strict.sound_error.kind) == (None, "truncated")


def test_the_default_sound_track_is_heard_else_the_first(tmp_path: Path, clip: Path) -> None:
    def heard(*dispositions: str) -> int:
        path = tmp_path / "tracks.mkv"
        tones = [piece for hertz in (300, 500, 700) for piece in ("-f", "lavfi", "-i", f"sine={hertz}:d=2")]
        maps = ("-map", 0, "-map", 1, "-map", 2, "-map", 3)
        flags = [piece for n, what in enumerate(dispositions) for piece in (f"-disposition:a:{n}", what)]
        ffmpeg("-i", clip, *tones, *maps, "-c:v", "copy", "-c:a", "aac", *flags, path)
        samples = decode(path, DecodeRequest(sound=True)).sound
        return int(np.argmax(np.abs(np.fft.rfft(samples[4000:20000]))))

    assert heard("0", "default", "0") == 500
    assert heard("0", "0", "0") == 300
    assert heard("0", "0", "default") == 700


def test_sound_of_all_lengths(tmp_path: Path, clip: Path) -> None:
    long, silent, empty = tmp_path / "long.mp4", tmp_path / "silent.mp4", tmp_path / "empty.mkv"
    ffmpeg("-i", clip, "-f", "lavfi", "-i", "sine=440:d=5", "-c:v", "copy", "-c:a", "aac", long)
    found = decode(long, DecodeRequest(sound=True))
    assert len(found.sound) == pytest.approx(5 * 16000, rel=0.02)  # it goes on when the pictures have ended
    assert found.info.duration_seconds == 2
    assert len(decode(long, DecodeRequest(sound=True, max_seconds=3)).sound) == 3 * 16000
    ffmpeg("-i", clip, "-f", "lavfi", "-i", "anullsrc=r=44100", "-shortest", "-c:v", "copy", "-c:a", "aac", silent)
    found = decode(silent, DecodeRequest(sound=True))
    assert len(found.sound) == pytest.approx(2 * 16000, rel=0.05)
    assert not found.sound.any()
    assert (found.sound_error, found.damage) == (None, None)
    nothing = ("-f", "lavfi", "-i", "sine=440:d=2", "-af", "atrim=end=0", "-c:v", "copy", "-c:a", "pcm_s16le")
    ffmpeg("-i", clip, *nothing, empty)
    found = decode(empty, DecodeRequest(needs=FOUR, sound=True))
    assert found.info.has_sound
    assert (found.sound, found.sound_error.kind) == (None, "no_audio")
    assert len(found.frames[0].images) == 4


def test_ffmpeg_that_hangs_is_stopped(tmp_path: Path, clip_with_sound: Path, monkeypatch) -> None:
    hanging = tmp_path / "ffmpeg"
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(sound, "ffmpeg_binary", lambda: str(hanging))
    with pytest.raises(MediaError, match=r"longer than 0\.5 seconds") as caught:
        hear(str(clip_with_sound), 600, 0.5)
    assert caught.value.kind == "timeout"


def test_ffmpeg_on_path_goes_before_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(ffmpeg_binary()).is_file()
    own = tmp_path / "ffmpeg"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert ffmpeg_binary() == str(own)


def ends(process: int) -> bool:
    """Return whether a process ends within five seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_ffmpeg_that_hangs_goes_when_its_parent_is_killed(tmp_path: Path, clip_with_sound: Path) -> None:
    hanging, started = tmp_path / "ffmpeg", tmp_path / "started"
    os.mkfifo(started)
    hanging.write_text(f"#!/bin/sh\necho $$ > {started}\nexec sleep 600\n")
    hanging.chmod(0o755)
    program = f"from feature_extraction.sound import hear; hear({str(clip_with_sound)!r}, 600, 500)"
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    parent = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PATH": path})
    ffmpeg_process = int(started.read_text())
    assert Path(f"/proc/{ffmpeg_process}").exists()
    parent.kill()
    parent.wait()
    assert ends(ffmpeg_process)


def test_the_child_goes_when_its_parent_is_killed(clip: Path) -> None:
    """Also when it hangs in a reader: the kernel kills it."""
    hanging = STUBBORN.format(at_start="time.sleep(600)", midway="pass", reader="pyav")
    program = (
        "import sys; from feature_extraction.media import *\n"
        f"d = Decoder((sys.executable, '-c', {hanging!r}))\n"
        "c = d.running_child(); print(c._process.pid, flush=True)\n"
        "from feature_extraction.frames import FrameNeed\n"
        f"decode({str(clip)!r}, DecodeRequest(needs=(FrameNeed(),)), d)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    time.sleep(1.5)  # until the child has taken the request
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert ends(child)
