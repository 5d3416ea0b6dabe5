"""What frames look like: sizes, colours, several needs at once, real clips. (Which frames: test_media_truth.py.)"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from painted_clips import ffmpeg, painted, render, shown_by
from PIL import Image

from feature_extraction.frames import FrameNeed, Frames, Sampling
from feature_extraction.media import Decoder, DecodeRequest, decode, decoder_facts, probe

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
MOTION = FrameNeed(Sampling("fps", per_second=12.5, most=None), side=112, grey=True)


def ask(path: Path, decoder: Decoder, need: FrameNeed, reader: str = "auto", seconds: float = 600.0) -> Frames:
    return decode(path, DecodeRequest(needs=(need,), reader=reader, max_seconds=seconds), decoder).frames[0]


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path, decoder: Decoder, clip: Path) -> None:
    path = tmp_path / "wide.mp4"
    ffmpeg("-i", clip, "-vf", "setsar=2", path)
    found = decode(path, DecodeRequest(needs=(FrameNeed(),)), decoder)
    assert (found.info.width, found.info.height) == (256, 64)
    assert found.frames[0].images.shape[1:] == (64, 256, 3)


def test_one_frame_a_second_is_never_multiplied(tmp_path: Path, decoder: Decoder) -> None:
    path = render(tmp_path / "slow.mp4", map(painted, range(7)), *H264, rate=1)
    found = decode(path, DecodeRequest(needs=(FrameNeed(Sampling("fps", 4)), MOTION)), decoder)
    for frames in found.frames:
        assert frames.seconds.tolist() == [0, 1, 2, 3, 4, 5, 6]
        assert shown_by(frames) == list(range(7))
    assert found.info.duration_seconds == 7


def test_max_seconds_ends_the_reading(clip: Path, decoder: Decoder) -> None:
    for sampling in (Sampling("fps", 5), Sampling("all", most=None), Sampling("uniform", most=10), Sampling("shots")):
        found = decode(clip, DecodeRequest(needs=(FrameNeed(sampling),), max_seconds=1.0), decoder)
        assert found.frames[0].seconds.max() < 1.0
        assert found.info.duration_seconds == 2.0
    assert shown_by(ask(clip, decoder, FrameNeed(Sampling("all", most=None)), seconds=1.0)) == list(range(25))
    assert shown_by(ask(clip, decoder, FrameNeed(Sampling("all", most=None)), seconds=0.001)) == [0]


def test_every_need_gets_its_own_frames_in_its_own_size(tmp_path: Path, decoder: Decoder, clip: Path) -> None:
    """One pass for all; what a need is given alone, it is given among others, but for the last grey levels."""
    large = tmp_path / "large.mp4"
    ffmpeg("-i", clip, "-vf", "scale=640:320", *H264, large)
    needs = (FrameNeed(Sampling("fps", 2), side=240), MOTION, FrameNeed(Sampling("uniform", most=3), exact=(100, 300)))
    for reader in ("decord", "pyav"):
        found = decode(large, DecodeRequest(needs=needs, reader=reader), decoder)
        colour, motion, exact = found.frames
        assert colour.images.shape == (4, 240, 480, 3)
        assert motion.images.shape == (25, 112, 224)
        assert exact.images.shape == (3, 300, 100, 3)
        assert {frames.images.dtype for frames in found.frames} == {np.dtype(np.uint8)}
        np.testing.assert_allclose(np.diff(motion.seconds), 0.08, atol=1e-6)
        for need, frames in zip(needs, found.frames, strict=True):
            alone = ask(large, decoder, need, reader)
            np.testing.assert_array_equal(alone.seconds, frames.seconds)
            assert shown_by(alone) == shown_by(frames) == np.round(frames.seconds * 25).astype(int).tolist()
            difference = np.abs(alone.images.astype(int) - frames.images).mean()
            assert difference < 2 if reader == "decord" else difference == 0


def test_equal_needs_share_their_pictures(clip: Path, decoder: Decoder) -> None:
    first, other, second = decode(clip, DecodeRequest(needs=(FrameNeed(), MOTION, FrameNeed())), decoder).frames
    assert len(first.images) == len(second.images) == 4 != len(other.images)
    with decoder.open(clip, DecodeRequest(needs=(FrameNeed(), MOTION, FrameNeed()))) as video:
        for one, _, two in video.chunks():
            assert one is two


def test_chunks_hold_what_they_hold_for_each_need(tmp_path: Path, decoder: Decoder) -> None:
    path = render(tmp_path / "a.mp4", map(painted, range(150)))
    needs = (FrameNeed(Sampling("all", most=None)), FrameNeed(Sampling("shots"), side=32))
    with decoder.open(path, DecodeRequest(needs=needs, shots=((0.0, 1.0),))) as video:
        assert video.info.duration_seconds == 6
        chunks = list(video.chunks())
        assert list(video.chunks()) == []
    assert [len(every.images) for every, _ in chunks] == [16] * 9 + [6]
    assert [shot and shown_by(shot) for _, shot in chunks] == [[12]] + [None] * 9


def test_grey_is_the_luma_of_the_colours(tmp_path: Path, decoder: Decoder) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    path = render(tmp_path / "colours.mkv", [colours], "-c:v", "ffv1", "-pix_fmt", "bgr0")
    need = Sampling("uniform", most=1)
    found = decode(path, DecodeRequest(needs=(FrameNeed(need), FrameNeed(need, grey=True))), decoder)
    np.testing.assert_array_equal(found.frames[0].images[0], colours)
    luma = colours @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert np.abs(found.frames[1].images[0] - luma).max() <= 1


@pytest.mark.parametrize("size", [(96, 72), (224, 224)])
def test_all_readers_scale_alike_with_the_bilinear_filter(
    tmp_path: Path, decoder: Decoder, size: tuple[int, int]
) -> None:
    """decord cannot be told another filter. Grey noise: colours lie at half the resolution, which is another matter."""
    noise = np.random.default_rng(1).integers(0, 256, (60, 80, 1), np.uint8).repeat(4, 0).repeat(4, 1).repeat(3, 2)
    path = render(tmp_path / "noise.mp4", [noise], *H264, "-qp", 0)
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.fromarray(noise).save(folder / "0.png")
    small = FrameNeed(Sampling("uniform", most=1), exact=size)
    both = (FrameNeed(Sampling("uniform", most=1)), small)
    asked = {"alone": (small,), "with the native size": both}
    resized = {
        name: np.asarray(Image.fromarray(noise).resize(size, getattr(Image.Resampling, name))).astype(int)
        for name in ("NEAREST", "BOX", "BILINEAR", "BICUBIC", "LANCZOS")
    }
    for source, reader in ((path, "decord"), (path, "pyav"), (folder, "auto")):
        for needs in asked.values():
            request = DecodeRequest(needs=needs, reader=reader, images_per_second=1)
            found = decode(source, request, decoder).frames[-1].images[0]
            far = {name: np.abs(image - found).mean() for name, image in resized.items()}
            assert min(far, key=far.get) == "BILINEAR", far
            assert far["BILINEAR"] < 2


def test_probe_tells_the_facts(clip: Path, clip_with_sound: Path) -> None:
    info = probe(str(clip_with_sound))
    assert (info.width, info.height, info.frames_per_second, info.has_sound) == (128, 64, 25.0, True)
    assert info.duration_seconds == pytest.approx(2.0)
    assert not probe(str(clip)).has_sound


def test_the_readers_and_their_versions_are_told() -> None:
    facts = decoder_facts()
    assert re.fullmatch(r"libavcodec \d+\.\d+\.\d+, libswscale \d+\.\d+\.\d+", facts["pyav"])
    assert re.fullmatch(r"ffmpeg version \S+", facts["ffmpeg"])
    assert "bilinear" in facts["scaler"]


@pytest.mark.parametrize("folder", ["msvd", "msrvtt"])
def test_real_clips_of_all_rates_and_names_are_read(shared: Path, decoder: Decoder, folder: str) -> None:
    """Every file gives frames that ascend in time, as many as a sampling of 1 a second asks for, and is whole."""
    paths = sorted(path for path in (shared / "clips" / folder).iterdir() if path.suffix in (".avi", ".mp4"))
    assert paths
    for path in paths[::3]:
        request = DecodeRequest(needs=(FrameNeed(Sampling("fps", 1)),), sound=True)
        found = decode(path, request, decoder)
        assert len(found.frames[0].images) == int(np.ceil(found.info.duration_seconds - 1e-6)), path
        assert (np.diff(found.frames[0].seconds) > 0).all()
        assert (found.damage, found.sound_error) == (None, None), path


def test_decord_and_pyav_agree_on_the_real_clips(shared: Path, decoder: Decoder) -> None:
    """To about 0.1 grey levels: the number in `feature_extraction.readers`."""
    small = sorted((shared / "msrvtt" / "videos").glob("*.mp4"))[::400]
    differences = []
    for path in small + sorted((shared / "clips/msrvtt").iterdir())[::5]:
        for need in (FrameNeed(Sampling("uniform", most=8)), FrameNeed(Sampling("uniform", most=8), exact=(224, 224))):
            fast, truth = (ask(path, decoder, need, reader) for reader in ("decord", "pyav"))
            np.testing.assert_array_equal(fast.seconds, truth.seconds)
            differences.append(np.abs(fast.images.astype(int) - truth.images).mean())
            assert differences[-1] < 1, path
    assert 0.02 < np.mean(differences) < 0.3
