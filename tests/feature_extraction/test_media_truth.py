"""The frames asked for are the frames got, with their times, in every container: each frame shows its own index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import decord
import numpy as np
import pytest
from painted_clips import ffmpeg, painted, render, shown_by
from PIL import Image

from feature_extraction.frames import FrameNeed, Sampling
from feature_extraction.media import Decoded, Decoder, DecodeRequest, MediaError, decode

COUNT, RATE = 60, 25
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast")
H264_B = (*H264, "-bf", "3", "-g", "24", "-b_strategy", "0")
H264_OPEN = (*H264, "-x264-params", "open-gop=1:keyint=16:bframes=5:b-adapt=0:b-pyramid=normal")
HEVC_OPEN = (
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-x265-params",
    "open-gop=1:keyint=20:bframes=4:rc-lookahead=10:log-level=none",
)
TEN_BITS = ("-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-bf", "2")
VP9_HIDDEN = ("-c:v", "libvpx-vp9", "-deadline", "good", "-cpu-used", "5", "-auto-alt-ref", "1", "-lag-in-frames", "12")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "30")
AV1 = ("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-g", "30")
MPEG4 = ("-c:v", "mpeg4", "-bf", "2", "-g", "20", "-q:v", "3")
CLIPS = {
    "h264.mp4": H264_B,
    "h264.mkv": H264_B,
    "h264.mov": H264_B,
    "h264.avi": H264_B,
    "h264.ts": H264_B,
    "h264.flv": H264_B,
    "h264 fragments.mp4": (*H264_B, "-movflags", "frag_keyframe+empty_moov"),
    "h264 open groups.mp4": H264_OPEN,
    "h264 open groups.mkv": H264_OPEN,
    "h264 open groups.ts": H264_OPEN,
    "h264 interlaced.mp4": (*H264_B, "-flags", "+ilme+ildct"),
    "h264 10 bits.mp4": TEN_BITS,
    "h264 10 bits.mkv": TEN_BITS,
    "hevc open groups.mp4": HEVC_OPEN,
    "hevc open groups.mkv": HEVC_OPEN,
    "hevc open groups.ts": HEVC_OPEN,
    "hevc 10 bits.mp4": (*HEVC_OPEN, "-pix_fmt", "yuv420p10le"),
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "1"),
    "vp9.webm": VP9,
    "vp9 with hidden frames.webm": VP9_HIDDEN,
    "vp9.mp4": VP9,
    "av1.mp4": AV1,
    "av1.mkv": AV1,
    "av1.webm": AV1,
    "mpeg4.mp4": MPEG4,
    "mpeg4.mkv": MPEG4,
    "mpeg4.avi": MPEG4,
    "mpeg4 without b.avi": ("-c:v", "mpeg4", "-q:v", "3"),
    "xvid.avi": ("-c:v", "libxvid", "-bf", "0", "-q:v", "3"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-bf", "2", "-q:v", "3"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-bf", "2", "-q:v", "3"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "prores.mov": ("-c:v", "prores"),
    "wmv.wmv": ("-c:v", "wmv2", "-q:v", "3"),
}
BY_DECORD = ("h264", "vp8", "vp9")
NOT_BY_DECORD = (".avi", ".ts", ".flv")
SHOTS = ((0.0, 0.5), (0.5, 0.52), (0.52, 2.4))
SAMPLINGS = {
    "fps": Sampling("fps", per_second=3.3),
    "fps thinned": Sampling("fps", per_second=25, most=9),
    "uniform": Sampling("uniform", most=7),
    "all": Sampling("all", most=None),
    "all thinned": Sampling("all", most=13),
    "shots": Sampling("shots", per_shot=2, most=None),
}


def plain(name: str, starts: Sequence[float], end: float) -> list[int]:
    """Say which frames a sampling asks for, frame by frame."""
    spans = {"fps": 8, "fps thinned": 9, "uniform": 7}  # 2.4 s at 3.3 a second, rounded up
    if name == "all":
        return list(range(len(starts)))
    if name == "all thinned":
        return [int((k + 0.5) * len(starts) / 13) for k in range(13)]
    pieces = SHOTS if name == "shots" else ((0.0, end),)
    count = 2 if name == "shots" else spans[name]
    points = [a + (k + 0.5) * (b - a) / count for a, b in pieces for k in range(count)]
    return sorted({max(i for i, start in enumerate(starts) if start <= point + 0.001) for point in points})


def read(path: Path, decoder: Decoder, *samplings: Sampling, reader: str = "auto", **more: object) -> Decoded:
    needs = tuple(FrameNeed(sampling, side=480) for sampling in samplings)
    return decode(path, DecodeRequest(needs=needs, reader=reader, shots=SHOTS, **more), decoder)


@pytest.mark.parametrize("name", CLIPS)
def test_the_frames_asked_for_are_the_frames_got(tmp_path: Path, decoder: Decoder, name: str) -> None:
    path = render(tmp_path / name, map(painted, range(COUNT)), *CLIPS[name])
    starts = [index / RATE for index in range(COUNT)]
    by_decord = name.startswith(BY_DECORD) and not name.endswith(NOT_BY_DECORD)
    for reader in ("auto", "pyav", *["decord"] * (by_decord and "open groups" not in name)):
        together = read(path, decoder, *SAMPLINGS.values(), reader=reader)
        assert together.damage is None
        assert together.decoder == reader or reader == "auto"
        assert together.info.duration_seconds == pytest.approx(COUNT / RATE, abs=0.002)
        for (kind, sampling), frames in zip(SAMPLINGS.items(), together.frames, strict=True):
            asked = plain(kind, starts, COUNT / RATE)
            assert shown_by(frames) == asked, kind
            np.testing.assert_allclose(frames.seconds, np.array(asked) / RATE, atol=1e-3)
            alone = read(path, decoder, sampling, reader=reader)
            assert shown_by(alone.frames[0]) == asked, kind
            if alone.decoder == together.decoder:
                np.testing.assert_array_equal(alone.frames[0].images, frames.images)
            np.testing.assert_array_equal(alone.frames[0].seconds, frames.seconds)
    if not by_decord:
        with pytest.raises(MediaError, match="decord"):
            read(path, decoder, *SAMPLINGS.values(), reader="decord")


@pytest.mark.parametrize(
    ("name", "group", "most", "sizes", "first"),
    [
        ("many key frames.mp4", 5, 6, 1, "decord"),
        ("few key frames.mp4", 30, 12, 1, "pyav"),
        ("few frames.mp4", 30, 1, 1, "decord"),
        ("two sizes.mp4", 5, 6, 2, "pyav"),
        ("many key frames.ts", 5, 6, 1, "pyav"),
    ],
)
def test_decord_reads_where_it_can_leave_out_most_of_a_video(
    tmp_path: Path, decoder: Decoder, name: str, group: int, most: int, sizes: int, first: str
) -> None:
    path = render(tmp_path / name, map(painted, range(COUNT)), *H264, "-g", str(group), "-sc_threshold", "0")
    needs = tuple(FrameNeed(Sampling("uniform", most=most), side=64 >> place) for place in range(sizes))
    found = decode(path, DecodeRequest(needs=needs), decoder)
    assert found.decoder == first
    assert shown_by(found.frames[0]) == [int((k + 0.5) * COUNT / most) for k in range(most)]


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path, decoder: Decoder, clip: Path) -> None:
    kept = [*range(10), 30, 31, 49]
    chosen = "+".join(f"eq(n,{index})" for index in kept)
    for name in ("variable.mp4", "variable.mkv"):
        path = tmp_path / name
        ffmpeg("-i", clip, "-vf", f"select='{chosen}'", "-fps_mode", "vfr", *H264_B, path)
        for reader in ("decord", "pyav"):
            found = read(path, decoder, Sampling("all", most=None), Sampling("fps", 5), reader=reader)
            assert [shown_by(frames) for frames in found.frames] == [kept, [2, 7, 9, 31]]
            for frames in found.frames:
                np.testing.assert_allclose(frames.seconds, np.array(shown_by(frames)) / RATE, atol=1e-3)


def test_one_frame(tmp_path: Path, decoder: Decoder) -> None:
    for name in ("one.mp4", "one.avi", "one.webm"):
        path = render(tmp_path / name, [painted(137)], *(VP9 if name.endswith("webm") else H264))
        for reader in ("auto", "pyav"):
            found = read(path, decoder, *SAMPLINGS.values(), reader=reader)
            assert [shown_by(frames) for frames in found.frames] == [[137]] * len(SAMPLINGS)
            assert [frames.seconds.tolist() for frames in found.frames] == [[0.0]] * len(SAMPLINGS)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("odd.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv444p")),
        ("odd.webm", VP9),
        ("odd.avi", ("-c:v", "mpeg4", "-q:v", "3")),
    ],
)
def test_odd_sizes(tmp_path: Path, decoder: Decoder, name: str, codec: tuple[str, ...]) -> None:
    """Pictures of odd widths come out whole, not sheared: each row shows the index."""
    path = render(tmp_path / name, (painted(index, 129, 65) for index in range(30)), *codec)
    needs = tuple(FrameNeed(Sampling("uniform", most=5), exact=exact) for exact in (None, (131, 77), (223, 31)))
    for reader in ("auto", "pyav"):
        for asked in (needs, needs[1:2], needs[2:]):
            found = decode(path, DecodeRequest(needs=asked, reader=reader), decoder)
            assert (found.info.width, found.info.height) == (129, 65)
            for need, frames in zip(asked, found.frames, strict=True):
                assert shown_by(frames) == [3, 9, 15, 21, 27]
                assert frames.images.shape[1:] == ((*need.exact[::-1], 3) if need.exact else (64, 128, 3))


def test_ten_minutes(tmp_path: Path, decoder: Decoder) -> None:
    """At 10 frames a second the 6000 frames need 13 bits; sparse frames are found behind many groups of pictures."""
    head = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", "104x8", "-r", 10, "-i", "-")
    pixels = b"".join(painted(index, 104, 8, bits=13)[..., 0].tobytes() for index in range(6000))
    path = tmp_path / "long.mp4"
    ffmpeg(*head, *H264, "-preset", "ultrafast", "-bf", "2", "-g", "50", path, data=pixels)
    asked = {
        "uniform": Sampling("uniform", most=30),
        "fps": Sampling("fps", 0.5, most=None),
        "all": Sampling("all", most=64),
    }
    expected = [
        [int((k + 0.5) * 6000 / 30) for k in range(30)],
        [20 * k + 10 for k in range(300)],
        [int((k + 0.5) * 6000 / 64) for k in range(64)],
    ]
    for reader in ("decord", "pyav"):
        found = read(path, decoder, *asked.values(), reader=reader, max_seconds=1000.0)
        assert [shown_by(frames, 13) for frames in found.frames] == expected
        for frames, indices in zip(found.frames, expected, strict=True):
            np.testing.assert_allclose(frames.seconds, np.array(indices) / 10, atol=1e-3)
    assert found.info.duration_seconds == pytest.approx(600)


def test_frames_that_an_edit_list_hides_are_not_shown(tmp_path: Path, decoder: Decoder, clip: Path) -> None:
    start, tail = tmp_path / "start.mp4", tmp_path / "tail.mp4"
    ffmpeg("-ss", 0.5, "-i", clip, "-c", "copy", start)
    found = read(start, decoder, Sampling("all", most=None))
    assert (found.decoder, shown_by(found.frames[0])) == ("pyav", list(range(13, 50)))
    assert found.frames[0].seconds[0] == 0
    assert found.damage is None

    whole = bytearray(clip.read_bytes())
    at = whole.index(b"elst") + 12  # type, version and flags, number of entries; then the length, in milliseconds
    assert int.from_bytes(whole[at : at + 4], "big") == 2000
    whole[at : at + 4] = (1000).to_bytes(4, "big")
    tail.write_bytes(whole)
    found = read(tail, decoder, Sampling("all", most=None))
    assert shown_by(found.frames[0]) == list(range(25))
    assert found.damage is None


def test_the_known_wrong_answers_of_decord_exist(tmp_path: Path, clip: Path) -> None:
    """Should one of these be right one day, its rule in `feature_extraction.probing` can go."""

    def decord_says(path: Path, indices: list[int]) -> list[int]:
        images = decord.VideoReader(str(path), num_threads=1).get_batch(indices).asnumpy()
        return shown_by(type("Frames", (), {"images": images}))

    asked = [5, 17, 29, 41]
    with_b = render(tmp_path / "b.avi", map(painted, range(COUNT)), *CLIPS["mpeg4.avi"])
    assert decord_says(with_b, asked) != asked
    cut = tmp_path / "cut.mp4"
    ffmpeg("-ss", 0.5, "-i", clip, "-c", "copy", cut)
    assert len(decord.VideoReader(str(cut), num_threads=1)) == COUNT - 10  # of the 50, the edit list hides 13
    open_groups = render(tmp_path / "open.mp4", map(painted, range(COUNT)), *HEVC_OPEN)
    assert decord_says(open_groups, list(range(15, 45, 7))) != list(range(15, 45, 7))
    assert decord_says(clip, asked) == asked


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_the_picture_is_turned_as_a_phone_asks(tmp_path: Path, decoder: Decoder, degrees: int) -> None:
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
    found = read(path, decoder, Sampling("uniform", most=1))
    assert found.frames[0].images.shape[1:] == expected.shape
    assert np.abs(found.frames[0].images[0] - expected).mean() < 3
    assert (found.info.height, found.info.width) == expected.shape[:2]
    exact = FrameNeed(Sampling("uniform", most=1), exact=(40, 30))
    small = decode(path, DecodeRequest(needs=(exact,)), decoder).frames[0].images[0]
    resized = np.asarray(Image.fromarray(expected.astype(np.uint8)).resize((40, 30), Image.Resampling.BICUBIC))
    assert np.abs(small.astype(int) - resized).mean() < 4
