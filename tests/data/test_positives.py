"""Known positives: against plain loops, and on the real captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vtr.annotations.msrvtt import read_annotations
from vtr.data.positives import KnownPositives, same_words

TEXTS = ["A man runs.", "a  man runs", "a dog eats", "A DOG EATS", "a cat sleeps", "a man runs", "a man walks"]
VIDEOS = [0, 1, 2, 2, 3, 4, 0]


def describes(caption: int, video: int) -> bool:
    """Say whether any caption with the same words was written for the video."""
    return any(
        same_words(TEXTS[caption]) == same_words(text) and video == other
        for text, other in zip(TEXTS, VIDEOS, strict=True)
    )


def test_case_spaces_and_the_full_stop_do_not_count() -> None:
    assert same_words("  A Man\truns . ") == "a man runs"
    assert same_words("a man runs") != same_words("a man, runs")


def test_a_batch_mask_equals_loops() -> None:
    pairs = [(VIDEOS[caption], caption) for caption in (6, 0, 3, 5, 2, 1, 4)]  # video 0 and video 2 twice
    mask = KnownPositives(TEXTS, VIDEOS).mask(pairs)
    for i, (own, caption) in enumerate(pairs):
        for j, (video, _) in enumerate(pairs):
            assert mask[i, j].item() == (video == own or describes(caption, video)), (i, j)


def test_captions_against_all_videos_equal_loops_and_the_share_is_counted() -> None:
    positives = KnownPositives(TEXTS, VIDEOS)
    mask = positives.described([5, 0, 4], 5).numpy()
    assert np.array_equal(mask, [[describes(caption, video) for video in range(5)] for caption in (5, 0, 4)])
    assert positives.share() == 3 / 7  # "a man runs", for videos 0, 1 and 4


def test_13_7_percent_of_the_captions_of_msrvtt_occur_for_more_than_one_video(shared: Path) -> None:
    annotations, _ = read_annotations(shared / "msrvtt" / "annotation")
    row = {video.id: at for at, video in enumerate(annotations.videos)}
    captions = annotations.captions
    positives = KnownPositives([c.text for c in captions], [row[c.video_id] for c in captions])
    assert 100 * positives.share() == pytest.approx(13.7, abs=0.1)
