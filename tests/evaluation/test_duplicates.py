"""Duplicate captions against every possible ranking of small galleries, plain loops, and the real MSR-VTT."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtr.annotations.msrvtt import read_annotations, read_splits
from vtr.evaluation.duplicates import ceiling, identical_captions
from vtr.evaluation.metrics import evaluate_scores
from vtr.types import Annotations, Split

NUM_VIDEOS = 4
WORDS = st.sampled_from(["a man sings", "a dog runs", "a man sings ", "A man sings"])
QUERIES = st.lists(st.tuples(WORDS, st.integers(0, NUM_VIDEOS - 1)), min_size=1, max_size=12)


def best_by_trying(queries: list[tuple[str, int]], at: int) -> float:
    """Return the best R@`at` of all systems that give each distinct text some order of the videos."""
    hits = 0
    for text in {text for text, _ in queries}:
        own = [video for other, video in queries if other == text]
        hits += max(sum(order.index(video) < at for video in own) for order in permutations(range(NUM_VIDEOS)))
    return 100 * hits / len(queries)


@settings(deadline=None)
@given(QUERIES)
def test_no_ranking_passes_the_ceiling_and_one_reaches_it(queries: list[tuple[str, int]]) -> None:
    found = ceiling([text for text, _ in queries], np.array([video for _, video in queries]), at=(1, 2, 3, 9))
    for at in (1, 2, 3, 9):
        assert found.recall[at] == pytest.approx(best_by_trying(queries, at))
    also_elsewhere = [any(t == text and v != video for t, v in queries) for text, video in queries]
    assert found.share == pytest.approx(100 * sum(also_elsewhere) / len(queries))


@pytest.mark.parametrize("seed", range(5))
def test_the_metrics_of_a_system_that_reads_only_text_stay_below(seed: int) -> None:
    """The vectors of a text follow from its string, so that the scores do; the project's own R@K is the judge."""
    generator = np.random.default_rng(seed)
    texts, owners = generator.integers(0, 30, 200), generator.integers(0, 60, 200)
    found = ceiling([f"caption {text}" for text in texts], owners)
    counts = np.zeros((30, 60))
    np.add.at(counts, (texts, owners), 1.0)
    untied = counts + np.linspace(
        0.0, 0.5, 60
    )  # a caption's videos by how often it was written for them: the best order
    best = evaluate_scores(untied[texts], owners).text_to_video.recall
    other = evaluate_scores(generator.normal(size=(30, 60))[texts], owners).text_to_video.recall
    for at in (1, 5, 10):
        assert best[at] == pytest.approx(found.recall[at])
        assert other[at] < found.recall[at]


def test_a_tie_can_pass_the_ceiling_because_its_places_are_averaged() -> None:
    """The stated limit of the bound: a constant score gives each of ten videos place 5.5, which counts for R@5."""
    owners = np.arange(10)
    assert ceiling(["a dog"] * 10, owners).recall[5] == 50.0
    assert evaluate_scores(np.zeros((10, 10)), owners).text_to_video.recall[5] == 100.0


def test_a_caption_twice_of_one_video_costs_nothing() -> None:
    found = ceiling(["a dog", "a dog", "a cat"], np.array([0, 0, 1]))
    assert (found.share, found.recall) == (0.0, {1: 100.0, 5: 100.0, 10: 100.0})


@pytest.mark.parametrize(
    ("texts", "owners", "at", "message"),
    [
        ([], [], (1,), "there are no texts"),
        (["a", "b"], [0], (1,), r"2 texts and videos of shape \(1,\)"),
        (["a", "b"], [0, -1], (1,), "video_of_text holds -1"),
        (["a"], [0], (5, 0), "at holds 0"),
    ],
)
def test_the_ceiling_refuses(texts: list[str], owners: list[int], at: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ceiling(texts, np.array(owners, np.int64), at)


@settings(deadline=None)
@given(
    st.lists(st.tuples(WORDS, st.integers(-1, NUM_VIDEOS - 1)), max_size=8),
    st.lists(st.lists(WORDS, max_size=4), min_size=NUM_VIDEOS, max_size=NUM_VIDEOS),
)
def test_identical_captions_equal_plain_loops(queries: list[tuple[str, int]], captions: list[list[str]]) -> None:
    rows, columns = identical_captions(
        [text for text, _ in queries], np.array([video for _, video in queries], np.int64), captions
    )
    expected = []
    for row, (text, own) in enumerate(queries):
        for column in range(NUM_VIDEOS):
            if column == own or any(caption == text for caption in captions[column]):
                expected.append((row, column))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == expected
    assert rows.dtype == columns.dtype == np.int64


@pytest.mark.parametrize("own", [-2, 2])
def test_identical_captions_refuse_a_column_that_is_not_there(own: int) -> None:
    with pytest.raises(ValueError, match=f"columns {own} to {own}, -1 to 1 was expected"):
        identical_captions(["a dog"], np.array([own]), [["a dog"], ["a cat"]])


def test_identical_captions_refuse_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"1 texts and videos of shape \(2,\)"):
        identical_captions(["a dog"], np.array([0, 1]), [["a dog"], ["a cat"]])


@pytest.fixture(scope="module")
def msrvtt(shared: Path) -> tuple[Annotations, Split]:
    return read_annotations(shared / "msrvtt" / "annotation")


def test_the_ceiling_of_msrvtt_full_is_the_established_one(msrvtt: tuple[Annotations, Split]) -> None:
    annotations, full = msrvtt
    queries = full.queries("test", annotations)
    column = {video_id: at for at, video_id in enumerate(full.test)}
    found = ceiling([caption.text for caption in queries], np.array([column[c.video_id] for c in queries]))
    assert len(queries) == 59_800
    assert {at: round(recall, 1) for at, recall in found.recall.items()} == {1: 92.8, 5: 97.5, 10: 98.5}
    assert round(found.share, 1) == 10.4


def test_captions_of_msrvtt_full_that_pair_with_several_videos_are_its_share(msrvtt: tuple[Annotations, Split]) -> None:
    """All captions are queries here, so a query pairs with a second video exactly where the share counts it."""
    annotations, full = msrvtt
    captions = [[caption.text for caption in annotations.captions_by_video[video_id]] for video_id in full.test]
    owners = np.repeat(np.arange(2990), 20)
    rows, columns = identical_captions([text for held in captions for text in held], owners, captions)
    videos_per_query = np.bincount(rows, minlength=59_800)
    assert round(100 * float((videos_per_query > 1).mean()), 1) == 10.4
    for row in np.flatnonzero(videos_per_query > 1)[::500]:
        text = captions[row // 20][row % 20]
        assert columns[rows == row].tolist() == [video for video in range(2990) if text in captions[video]]


def test_1k_a_queries_pair_with_videos_by_captions_that_are_no_queries(
    shared: Path, msrvtt: tuple[Annotations, Split]
) -> None:
    annotations = msrvtt[0]
    split = next(s for s in read_splits(shared / "msrvtt" / "splits", *msrvtt)[0] if s.name == "1k-A")
    queries = [caption.text for caption in split.queries("test", annotations)]
    captions = [[caption.text for caption in annotations.captions_by_video[video_id]] for video_id in split.test]
    rows, columns = identical_captions(queries, np.arange(1000), captions)
    by_loop = [(row, column) for row in range(1000) for column in range(1000) if queries[row] in captions[column]]
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == by_loop
    among_queries, _ = identical_captions(queries, np.arange(1000), [[query] for query in queries])
    assert len(among_queries) < len(rows)
