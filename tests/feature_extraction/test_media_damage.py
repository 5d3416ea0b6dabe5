"""Damaged files: what can be read is read right, and nothing that lacks a part passes for whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from painted_clips import ffmpeg, painted, render, shown_by
from PIL import Image

from feature_extraction.containers import bytes_promised
from feature_extraction.frames import FrameNeed, Sampling
from feature_extraction.media import Decoder, DecodeRequest, MediaError, decode

EVERY = (FrameNeed(Sampling("all", most=None)),)
COUNT, RATE = 100, 25
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "10", "-bf", "2")
CLIPS = {
    "a.mp4": (*H264, "-movflags", "+faststart"),
    "fragments.mp4": (*H264, "-movflags", "frag_keyframe+empty_moov"),
    "a.mov": (*H264, "-movflags", "+faststart"),
    "a.mkv": H264,
    "a.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "10"),
    "a.avi": ("-c:v", "mpeg4", "-q:v", "3", "-g", "10"),
    "a.ts": H264,
    "a.flv": H264,
    "a.wmv": ("-c:v", "wmv2", "-q:v", "3", "-g", "10"),
}


def whole(folder: Path, name: str) -> Path:
    """Noise makes the frames most of the file, so that a share of the bytes is a share of the frames."""
    return render(folder / f"whole {name}", map(painted, range(COUNT)), "-vf", "noise=alls=8:allf=t", *CLIPS[name])


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("share", [0.35, 0.8])
def test_of_a_file_cut_short_the_readable_part_is_read_and_the_rest_is_told(
    tmp_path: Path, decoder: Decoder, name: str, share: float
) -> None:
    complete = whole(tmp_path, name).read_bytes()
    path = tmp_path / name
    path.write_bytes(complete[: int(len(complete) * share) // 188 * 188 + 100])
    for reader in ("auto", "pyav"):
        found = decode(path, DecodeRequest(needs=EVERY, reader=reader), decoder)
        shown = shown_by(found.frames[0])
        assert shown[:-3] == list(range(len(shown) - 3))  # the last may be damaged, or lack those that refer to them
        assert 0.2 * COUNT < len(shown) < 0.95 * COUNT
        np.testing.assert_allclose(found.frames[0].seconds[:-3], np.arange(len(shown) - 3) / RATE, atol=1e-3)
        assert "cut short" in found.damage
        assert found.info.duration_seconds == pytest.approx(len(shown) / RATE, abs=0.15)
        with pytest.raises(MediaError) as caught:
            decode(path, DecodeRequest(needs=EVERY, reader=reader, strict=True), decoder)
        assert caught.value.kind == "truncated"
        assert caught.value.reason == found.damage.partition("; ")[0]


def test_the_frames_that_could_be_read_are_counted(tmp_path: Path, decoder: Decoder) -> None:
    complete = whole(tmp_path, "a.mp4").read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(complete[: len(complete) // 2])
    found = decode(path, DecodeRequest(needs=EVERY), decoder)
    assert found.damage == f"the file is cut short: {len(found.frames[0].images)} of {COUNT} frames could be read"


@pytest.mark.parametrize("name", CLIPS)
def test_a_whole_file_is_whole_also_under_strict(tmp_path: Path, decoder: Decoder, name: str) -> None:
    found = decode(whole(tmp_path, name), DecodeRequest(needs=EVERY, strict=True), decoder)
    assert found.damage is None
    assert shown_by(found.frames[0]) == list(range(COUNT))


def test_a_file_whose_index_was_cut_off_is_unreadable(tmp_path: Path, decoder: Decoder) -> None:
    complete = render(tmp_path / "whole.mp4", map(painted, range(COUNT)), *H264).read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(complete[: len(complete) * 3 // 4])
    with pytest.raises(MediaError) as caught:
        decode(path, DecodeRequest(needs=EVERY), decoder)
    assert (caught.value.stage, caught.value.kind) == ("open", "unreadable")


def test_frames_behind_a_hole_keep_their_times(tmp_path: Path, decoder: Decoder) -> None:
    """decord counts what leaves its decoder and would show each of them too early, or others in place of the lost."""
    path = tmp_path / "hole.mp4"
    complete = bytearray(whole(tmp_path, "a.mp4").read_bytes())
    start = complete.index(b"mdat") + 4
    middle = start + (len(complete) - start) * 45 // 100
    complete[middle : middle + (len(complete) - start) // 6] = bytes((len(complete) - start) // 6)
    path.write_bytes(complete)
    for reader in ("auto", "pyav"):
        found = decode(path, DecodeRequest(needs=EVERY, reader=reader), decoder)
        shown, times = shown_by(found.frames[0]), found.frames[0].seconds
        lost = sorted(set(range(COUNT)) - set(np.round(times * RATE).astype(int).tolist()))
        assert 5 < len(lost) < 40
        near = [k for k in range(len(shown)) if not lost[0] - 10 < times[k] * RATE < lost[-1] + 10]
        assert len(near) > 40  # in the groups of pictures without damage
        assert [shown[k] for k in near] == [round(times[k] * RATE) for k in near]
        assert found.damage.endswith(f"{len(lost)} of {COUNT} frames asked for could not be decoded")
        with pytest.raises(MediaError) as caught:
            decode(path, DecodeRequest(needs=EVERY, reader=reader, strict=True), decoder)
        assert caught.value.kind == "truncated"
    with pytest.raises(MediaError, match="decord"):
        decode(path, DecodeRequest(needs=EVERY, reader="decord"), decoder)


def test_a_file_without_a_frame_that_decodes_is_unreadable(tmp_path: Path, decoder: Decoder) -> None:
    path = tmp_path / "zeros.mp4"
    complete = bytearray(whole(tmp_path, "a.mp4").read_bytes())
    start = complete.index(b"mdat") + 4
    complete[start:] = bytes(len(complete) - start)
    path.write_bytes(complete)
    with pytest.raises(MediaError) as caught:
        decode(path, DecodeRequest(needs=EVERY), decoder)
    assert (caught.value.stage, caught.value.kind) == ("decode", "unreadable")


def test_the_promised_size_is_that_of_whole_files_and_is_kept_by_their_beginnings(tmp_path: Path, shared: Path) -> None:
    for path in [whole(tmp_path, name) for name in CLIPS] + sorted((shared / "clips" / "msvd").glob("*.avi")):
        size = path.stat().st_size
        assert bytes_promised(str(path)) == (None if path.suffix == ".flv" else size), path.name
    for name in ("a.mp4", "a.mkv", "a.webm", "a.avi"):
        cut = tmp_path / name
        complete = (tmp_path / f"whole {name}").read_bytes()
        cut.write_bytes(complete[: len(complete) // 2])
        assert bytes_promised(str(cut)) == len(complete)


def images(folder: Path, count: int = 12, suffix: str = "png") -> Path:
    folder.mkdir()
    for index in range(count):
        Image.fromarray(painted(index)).save(folder / f"frame{index}.{suffix}")
    return folder


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_a_folder_of_images_is_a_video(tmp_path: Path, decoder: Decoder, suffix: str) -> None:
    """In the order 2, 10, not 10, 2; other files are none of its frames."""
    folder = images(tmp_path / "frames", suffix=suffix)
    (folder / "notes.txt").write_text("no image")
    needs = (*EVERY, FrameNeed(Sampling("uniform", most=3), exact=(64, 32), grey=True))
    found = decode(folder, DecodeRequest(needs=needs, images_per_second=4, sound=True), decoder)
    assert (found.decoder, found.damage, found.sound, found.sound_error) == ("images", None, None, None)
    assert (found.info.width, found.info.height, found.info.duration_seconds) == (128, 64, 3.0)
    assert shown_by(found.frames[0]) == list(range(12))
    assert found.frames[0].seconds.tolist() == [index / 4 for index in range(12)]
    assert shown_by(found.frames[1]) == [2, 6, 10]
    assert found.frames[1].images.shape == (3, 32, 64)
    if suffix in ("png", "bmp"):
        np.testing.assert_array_equal(found.frames[0].images[5], painted(5))


@pytest.mark.parametrize("step", [1, 30])
def test_an_image_that_is_missing_leaves_a_gap(tmp_path: Path, decoder: Decoder, step: int) -> None:
    """Told by the numbers; where they go up in no equal steps, images are frames one after the other."""
    folder = images(tmp_path / "frames")
    for index in reversed(range(12)):
        (folder / f"frame{index}.png").rename(folder / f"frame{7 + step * index}.png")
    for index in (3, 8, 9):
        (folder / f"frame{7 + step * index}.png").unlink()
    found = decode(folder, DecodeRequest(needs=EVERY, images_per_second=4), decoder)
    there = [0, 1, 2, 4, 5, 6, 7, 10, 11]
    assert shown_by(found.frames[0]) == there
    assert found.frames[0].seconds.tolist() == [index / 4 for index in there]
    assert (found.info.duration_seconds, found.damage) == (3.0, "3 of 12 images are missing, by their numbers")
    (folder / f"frame{7 + step * 11}.png").rename(folder / f"frame{8 + step * 200}.png")
    if step > 1:
        odd = decode(folder, DecodeRequest(needs=EVERY, images_per_second=4), decoder)
        assert odd.frames[0].seconds.tolist() == [index / 4 for index in range(9)]
        assert odd.damage is None


def test_a_folder_of_images_needs_a_rate(tmp_path: Path, decoder: Decoder) -> None:
    with pytest.raises(MediaError, match="say how many there are a second") as caught:
        decode(images(tmp_path / "frames"), DecodeRequest(needs=EVERY), decoder)
    assert (caught.value.stage, caught.value.decoder) == ("open", "images")


def test_a_broken_image_is_damage(tmp_path: Path, decoder: Decoder) -> None:
    folder = images(tmp_path / "frames")
    for name in ("frame0.png", "frame7.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:60])
    found = decode(folder, DecodeRequest(needs=EVERY, images_per_second=4), decoder)
    assert shown_by(found.frames[0]) == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11]
    assert found.damage == "2 of 12 images asked for could not be read, the first frame0.png"
    with pytest.raises(MediaError) as caught:
        decode(folder, DecodeRequest(needs=EVERY, images_per_second=4, strict=True), decoder)
    assert caught.value.kind == "truncated"


def test_memory_stays_bounded_however_long_the_video(tmp_path: Path) -> None:
    """2000 pictures of 448x448 would be 1.2 GB; neither process ever holds more than a few chunks."""
    path = tmp_path / "long.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=c=gray:s=64x64:r=10:d=200", "-c:v", "libx264", "-preset", "ultrafast", path)
    need = FrameNeed(Sampling("all", most=None), exact=(448, 448))
    seen = 0
    with Decoder() as decoder, decoder.open(path, DecodeRequest(needs=(need,), reader="auto")) as video:
        for (frames,) in video.chunks():
            assert frames.images.nbytes <= 64 << 20
            seen += len(frames.images)
            status = Path(f"/proc/{decoder._child._process.pid}/status").read_text()
        peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    assert seen == 2000
    assert peak_kib < 400 * 1024
