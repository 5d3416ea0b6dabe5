"""Shared sources and overlapping times against plain loops, and the real MSR-VTT's splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtr.annotations.msrvtt import read_annotations, read_splits
from vtr.evaluation.leaks import Leaks, leaks
from vtr.types import Video

SECONDS = st.sampled_from([None, 0.0, 1.0, 2.5, 3.0, 4.0])
CLIPS = st.lists(st.tuples(st.sampled_from([None, "", "a", "b"]), SECONDS, SECONDS), max_size=6)


def videos(clips: list[tuple[str | None, float | None, float | None]], prefix: str) -> list[Video]:
    return [
        Video(f"{prefix}{number}", start_seconds=start, end_seconds=end, source_id=source)
        for number, (source, start, end) in enumerate(clips)
    ]


@settings(deadline=None)
@given(CLIPS, CLIPS)
def test_leaks_equal_plain_loops(
    gallery: list[tuple[str | None, float | None, float | None]],
    train: list[tuple[str | None, float | None, float | None]],
) -> None:
    found = leaks(videos(gallery, "test"), videos(train, "train"))
    for number, (source, start, end) in enumerate(gallery):
        shared = overlapping = False
        for other_source, other_start, other_end in train:
            if source in ("a", "b") and source == other_source:
                shared = True
                if None not in (start, end, other_start, other_end):
                    overlapping |= start < other_end and other_start < end  # type: ignore[operator]
        assert (bool(found.shared[number]), bool(found.overlapping[number])) == (shared, overlapping)
    assert found.shared.shape == found.overlapping.shape == (len(gallery),)
    assert found.known == sum(source in ("a", "b") for source, _, _ in gallery)
    assert (found.num_train, found.known_train) == (len(train), sum(source in ("a", "b") for source, _, _ in train))


def test_clips_that_only_touch_do_not_overlap() -> None:
    found = leaks(videos([("a", 0.0, 2.0), ("a", 0.0, 2.1)], "test"), videos([("a", 2.0, 4.0)], "train"))
    assert found.shared.tolist() == [True, True]
    assert found.overlapping.tolist() == [False, True]


def made(shared: int, overlapping: int, *, total: int = 1000, known: int = 1000, known_train: int = 9000) -> Leaks:
    return Leaks(np.arange(total) < shared, np.arange(total) < overlapping, known, 9000, known_train)


CUT = "cut from a source that training videos are cut from"


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (made(372, 52), f"372 of these 1,000 videos are {CUT}, 52 of them overlap one in time"),
        (made(1, 1), f"1 of these 1,000 videos is {CUT}, 1 of them overlaps one in time"),
        (made(7, 0), f"7 of these 1,000 videos are {CUT}, none of them is known to overlap one in time"),
        (made(0, 0), f"none of these 1,000 videos is {CUT}"),
        (
            made(0, 0, known=990),
            f"none of these 1,000 videos is {CUT} (990 of 1,000 and 9,000 of 9,000 sources are known)",
        ),
        (
            made(3, 2, known_train=8999),
            f"3 of these 1,000 videos are {CUT}, 2 of them overlap one in time "
            "(1,000 of 1,000 and 8,999 of 9,000 sources are known)",
        ),
        (
            made(0, 0, known_train=0),
            "whether these 1,000 videos share sources with the training videos cannot be told: "
            "1,000 of 1,000 and 0 of 9,000 sources are known",
        ),
        (
            made(0, 0, total=5, known=0),
            "whether these 5 videos share sources with the training videos cannot be told: "
            "0 of 5 and 9,000 of 9,000 sources are known",
        ),
    ],
)
def test_the_sentence_says_what_is_known_and_no_more(found: Leaks, sentence: str) -> None:
    assert str(found) == sentence


def test_the_published_splits_share_what_was_established(shared: Path) -> None:
    annotations, full = read_annotations(shared / "msrvtt" / "annotation")
    splits, _ = read_splits(shared / "msrvtt" / "splits", annotations, full)
    by_id = annotations.video_by_id
    found = {
        split.name: leaks([by_id[v] for v in split.test], [by_id[v] for v in split.train + split.validation])
        for split in splits
    }
    assert (found["1k-A"].num_shared, found["1k-A"].num_overlapping, found["1k-A"].known) == (372, 52, 1000)
    assert str(found["1k-A"]).startswith("372 of these 1,000 videos are")
    assert (found["full"].num_shared, found["full"].num_overlapping, found["full"].known) == (0, 0, 2990)
    assert np.array_equal(found["1k-A-holdout"].shared, found["1k-A"].shared)  # the same videos, held out or not
