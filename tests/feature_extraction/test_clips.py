"""Clips of frames, against slicing the whole video; pictures against PIL."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from feature_extraction.clips import ClipPreparation, middle
from feature_extraction.extractor import Frames, VideoInfo

SECONDS = np.cumsum(np.random.default_rng(4).uniform(0.02, 0.06, 60))  # of a variable rate


def clips(count: int, window: int, stride: int, piece: int) -> tuple[list[list[int]], np.ndarray]:
    """Return which frames each clip holds, and its times, of `count` frames that come `piece` at a time."""
    info = VideoInfo("made by hand", float(SECONDS[-1]), 1, 1, None, False)
    preparation = ClipPreparation(info, np.copy, window, stride)
    images = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None], (60, 1, 1, 3))
    found = []
    for at in range(0, count, piece):
        end = min(count, at + piece)
        found.append(preparation.add(Frames(images[at:end], SECONDS[at:end])))
    found.append(preparation.finish(None))
    items = np.concatenate([part for part in found if part is not None])
    assert items.shape[1:] == (window, 1, 1, 3)
    return items[..., 0, 0, 0].tolist(), np.stack(preparation.times(), 1)


def plain_windows(count: int, window: int, stride: int) -> list[list[int]]:
    """Return the frames of each window, from the rule in words."""
    if count < window:
        return [[place * count // window for place in range(window)]] if count else []
    found = [list(range(start, start + window)) for start in range(0, count, stride) if start + window <= count]
    seen = {frame for one in found for frame in one}
    wanted = set(range(count)) if stride <= window else set(range((len(found)) * stride, count))
    if wanted - seen:
        found.append(list(range(count - window, count)))
    return found


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 12), st.integers(1, 7))
@settings(deadline=None, max_examples=300)
def test_clips_follow_the_rule(count: int, window: int, stride: int, piece: int) -> None:
    found, _ = clips(count, window, stride, piece)
    assert found == plain_windows(count, window, stride)


@pytest.mark.parametrize("piece", [1, 3, 60])
@pytest.mark.parametrize(
    ("count", "window", "stride", "firsts"),
    [
        (12, 4, 4, [0, 4, 8]),
        (14, 4, 4, [0, 4, 8, 10]),
        (12, 4, 2, [0, 2, 4, 6, 8]),
        (13, 4, 2, [0, 2, 4, 6, 8, 9]),
        (12, 4, 6, [0, 6]),
        (13, 4, 6, [0, 6, 9]),
        (60, 7, 11, [0, 11, 22, 33, 44, 53]),
    ],
)
def test_clips_are_slices_of_the_video(count: int, window: int, stride: int, firsts: list[int], piece: int) -> None:
    found, times = clips(count, window, stride, piece)
    assert found == [list(range(first, first + window)) for first in firsts]
    end = [*SECONDS[:count], SECONDS[-1]]  # the last frame is shown until the video ends
    np.testing.assert_allclose(times, [(end[first], end[first + window]) for first in firsts])


def test_a_short_video_is_one_clip_of_repeated_frames() -> None:
    found, times = clips(3, 8, 8, 1)
    assert found == [[0, 0, 0, 1, 1, 1, 2, 2]]
    np.testing.assert_allclose(times, [(SECONDS[0], SECONDS[-1])])


def test_only_the_frames_of_a_window_are_kept() -> None:
    preparation = ClipPreparation(VideoInfo("", 1e4, 1, 1, None, False), np.copy, 16, 64)
    for index in range(500):
        preparation.add(Frames(np.zeros((1, 1, 1, 3), np.uint8), np.array([index * 0.04])))
        assert len(preparation._kept) <= 17


@pytest.mark.parametrize(("height", "width"), [(120, 160), (480, 270), (256, 256)])
def test_pictures_are_the_middle_as_pil_scales_it(height: int, width: int) -> None:
    small = np.random.default_rng(6).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(small).resize((width, height)))  # read-only, as shared frames may be
    found = middle(image[None], 256, 300, 224)[0]
    expected = np.asarray(Image.fromarray(image).resize((300, 256), Image.BILINEAR))[16:240, 38:262]
    assert found.shape == (224, 224, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1
