"""The frames asked for are the frames got, with their times: each frame shows its own index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from painted_clips import ffmpeg, painted, read_painted, render
from PIL import Image

from feature_extraction.decoder import FrameRequest, read_frames
from feature_extraction.media import DecodeRequest, decode, probe

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
CONTAINERS = {
    "h264.mp4": H264,
    "open groups.mp4": (*H264, "-x264-params", "open-gop=1:keyint=40:bframes=5"),
    "ten bits.mkv": ("-c:v", "libx264", "-pix_fmt", "yuv420p10le"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "open-gop=1:keyint=40:bframes=5:log-level=none"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-g", "30"),
    "mpeg4 with b.mp4": ("-c:v", "mpeg4", "-bf", "2", "-g", "40", "-q:v", "3"),
    "mpeg4 with b.avi": ("-c:v", "mpeg4", "-bf", "2", "-q:v", "3"),
    "h264 with b.avi": (*H264, "-bf", "3"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-bf", "2", "-q:v", "3"),
    "stream.ts": (*H264, "-bf", "3"),
    "wmv.wmv": ("-c:v", "wmv2", "-q:v", "3"),
}


def ask(path: Path, reader: str, rate: float = 1000, most: int = 1000, motion: bool = False, seconds: float = 600.0):
    return read_frames(FrameRequest(str(path), reader, rate, most, 480, seconds, motion))


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_shows_the_frames_asked_for_and_decord_never_others(tmp_path: Path, name: str) -> None:
    path = render(tmp_path / name, map(painted, range(120)), *CONTAINERS[name])
    for rate in (1000, 3.3):
        truth = ask(path, "pyav", rate)
        shown = [read_painted(image) for image in truth.frames.images]
        assert shown == np.round(truth.frames.seconds * 25).astype(int).tolist()
        assert len(shown) == (120 if rate == 1000 else 16)
        if (fast := ask(path, "decord", rate)).frames is not None:
            assert [read_painted(image) for image in fast.frames.images] == shown
            np.testing.assert_allclose(fast.frames.seconds, truth.frames.seconds, atol=1e-9)
            assert np.abs(fast.frames.images.astype(int) - truth.frames.images).mean() < 1
    assert truth.info.duration_seconds == pytest.approx(4.8, abs=0.002)


def test_decord_itself_reads_what_most_collections_hold(tmp_path: Path) -> None:
    for name in ("h264.mp4", "vp9.webm"):
        path = render(tmp_path / name, map(painted, range(30)), *CONTAINERS[name])
        assert len(ask(path, "decord").frames.images) == 30


def test_frames_that_an_edit_list_hides_are_not_shown(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "cut.mp4"
    ffmpeg("-ss", 0.5, "-i", clip, "-c", "copy", path)
    found = decode(path, DecodeRequest(frames_per_second=100, max_frames=100))
    assert [read_painted(image) for image in found.frames.images] == list(range(13, 50))
    assert found.frames.seconds[0] == 0
    assert ask(path, "decord").frames is None


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_the_picture_is_turned_as_a_phone_asks(tmp_path: Path, degrees: int) -> None:
    width, height = 96, 64
    red_left = np.zeros((height, width, 3), np.uint8)
    red_left[:, : width // 2, 0] = 220
    red_left[: height // 2, :, 1] = 220
    upright = render(tmp_path / "upright.mp4", [red_left] * 5)
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", degrees, "-i", upright, "-c", "copy", path)
    shown = tmp_path / "shown.png"
    ffmpeg("-i", path, "-frames:v", 1, shown)  # ffmpeg's own command turns by itself
    expected = np.asarray(Image.open(shown).convert("RGB")).astype(int)
    found = decode(path, DecodeRequest())
    assert found.frames.images.shape[1:] == expected.shape
    assert np.abs(found.frames.images[0] - expected).mean() < 3
    info = probe(str(path))
    assert (info.height, info.width) == expected.shape[:2] == (found.info.height, found.info.width)


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "wide.mp4"
    ffmpeg("-i", clip, "-vf", "setsar=2", path)
    found = decode(path, DecodeRequest())
    assert (found.info.width, found.info.height) == (256, 64)
    assert found.frames.images.shape[1:] == (64, 256, 3)


def test_variable_frame_rates_keep_their_times(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "variable.mp4"
    ffmpeg("-i", clip, "-vf", "select='lt(n,10)+eq(n,30)+eq(n,49)'", "-fps_mode", "vfr", *H264, path)
    found = decode(path, DecodeRequest(frames_per_second=5))
    shown = [read_painted(image) for image in found.frames.images]
    np.testing.assert_allclose(found.frames.seconds, np.array(shown) / 25, atol=1e-3)
    assert shown == [2, 7, 9, 30]  # on screen at 0.1, 0.3, ... seconds; no frame twice; the last is on for 0.04 s


def test_one_frame_a_second_is_never_multiplied(tmp_path: Path) -> None:
    path = render(tmp_path / "slow.mp4", map(painted, range(7)), *H264, rate=1)
    found = decode(path, DecodeRequest(frames_per_second=4, motion=True))
    for frames in (found.frames, found.motion):
        assert frames.seconds.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert [read_painted(image) for image in found.frames.images] == list(range(7))
    assert found.info.duration_seconds == 7


def test_a_long_video_is_sampled_over_its_whole_length(clip: Path) -> None:
    found = decode(clip, DecodeRequest(frames_per_second=25, max_frames=5))
    assert [read_painted(image) for image in found.frames.images] == [5, 15, 25, 35, 45]


def test_max_seconds_ends_the_reading(clip: Path) -> None:
    found = decode(clip, DecodeRequest(frames_per_second=5, max_seconds=1.0, motion=True))
    assert found.frames.seconds.max() < 1.0
    assert found.motion.seconds.max() <= 1.0
    assert found.info.duration_seconds == 2.0


def test_motion_frames_are_grey_small_and_as_frequent_as_they_may_be(tmp_path: Path, clip: Path) -> None:
    large = tmp_path / "large.mp4"
    ffmpeg("-i", clip, "-vf", "scale=640:320", *H264, large)
    found = decode(large, DecodeRequest(frames_per_second=2, motion=True, frame_side=240))
    assert found.frames.images.shape == (4, 240, 480, 3)
    assert found.motion.images.shape == (25, 112, 224)
    assert found.motion.images.dtype == np.uint8
    np.testing.assert_allclose(np.diff(found.motion.seconds), 0.08, atol=1e-6)


def test_probe_tells_the_facts(clip: Path, clip_with_sound: Path) -> None:
    info = probe(str(clip_with_sound))
    assert (info.width, info.height, info.frames_per_second, info.has_sound) == (128, 64, 25.0, True)
    assert info.duration_seconds == pytest.approx(2.0)
    assert not probe(str(clip)).has_sound


@pytest.mark.parametrize("folder", ["msvd", "msrvtt"])
def test_real_clips_of_all_rates_and_names_are_read(shared: Path, folder: str) -> None:
    """Every file gives frames that ascend in time, as many as a sampling of 1 a second asks for."""
    paths = sorted(path for path in (shared / "clips" / folder).iterdir() if path.suffix in (".avi", ".mp4"))
    assert paths
    for path in paths[::3]:
        found = ask(path, "pyav", rate=1, most=64)
        assert found.frames is not None, found.reason
        assert len(found.frames.images) == int(np.ceil(found.info.duration_seconds - 1e-6)), path
        assert (np.diff(found.frames.seconds) > 0).all()


def test_decord_and_pyav_agree_on_the_real_clips(shared: Path) -> None:
    paths = (
        sorted((shared / "msrvtt" / "videos").glob("*.mp4"))[::400] + sorted((shared / "clips/msrvtt").iterdir())[::5]
    )
    for path in paths:
        fast, truth = (ask(path, reader, rate=2, most=8) for reader in ("decord", "pyav"))
        np.testing.assert_array_equal(fast.frames.seconds, truth.frames.seconds)
        assert np.abs(fast.frames.images.astype(int) - truth.frames.images).mean() < 3, path
