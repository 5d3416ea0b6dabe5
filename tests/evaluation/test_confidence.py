"""Intervals against plain loops, theory and simulation; p-values against every possible swap."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vtr.errors import InputError
from vtr.evaluation import confidence, ranks
from vtr.evaluation.confidence import Difference, Interval, QueryRanks, compare, intervals
from vtr.evaluation.metrics import evaluate_scores

Run = tuple[QueryRanks, QueryRanks]
NAMES = ("R@1", "R@5", "R@10", "R@50", "R@100", "MedR", "MeanR", "MRR")


def queries(values: Any, videos: Any) -> QueryRanks:
    return QueryRanks(np.asarray(values, np.float64), np.asarray(videos, np.int64))


def some_run(seed: int, captions: NDArray[np.int64]) -> Run:
    """Return ranks, some ending in .5, of videos that have so many captions each; the same videos for every seed."""
    generator = np.random.default_rng(seed)
    videos = np.random.default_rng(99).permutation(np.repeat(10 + 3 * np.arange(len(captions)), captions))
    of_texts, of_videos = (
        np.round(2 * np.exp(generator.uniform(0, 5.5, size))) / 2 for size in (len(videos), len(captions))
    )
    return queries(of_texts, videos), queries(of_videos, 10 + 3 * np.arange(len(captions)))


def metrics_by_loops(found: list[float]) -> list[float]:
    """Return the metrics in the order of NAMES, from their definitions."""
    recall = [sum(rank == 1 for rank in found)]
    recall += [sum(rank < at + 1 for rank in found) for at in (5, 10, 50, 100)]
    means = [100 * number / len(found) for number in recall]
    return [*means, statistics.median(found), statistics.fmean(found), statistics.fmean(1 / rank for rank in found)]


def run_by_loops(run: Run, times: dict[int, int]) -> list[float]:
    """Return the 17 values when all queries of video v are listed times[v] times."""
    values: list[float] = []
    for side in run:
        listed = [
            rank
            for rank, video in zip(side.ranks.tolist(), side.videos.tolist(), strict=True)
            for _ in range(times[video])
        ]
        values += metrics_by_loops(listed)
    return [*values, sum(values[:3]) + sum(values[8:11])]


def flat(found: dict[str, dict[str, Interval]]) -> dict[tuple[str, str], Interval]:
    return {(direction, metric): value for direction, values in found.items() for metric, value in values.items()}


def width(interval: Interval | Difference) -> float:
    return interval.high - interval.low


CAPTIONS = np.asarray([3, 1, 4, 2, 2, 1, 5, 3, 2, 4, 1, 2])


@pytest.mark.parametrize("seed", range(5))
def test_weighted_values_are_those_of_repeated_queries(seed: int) -> None:
    run = some_run(seed, CAPTIONS)
    weights = np.random.default_rng(seed).integers(0, 4, (20, len(CAPTIONS)))
    found = confidence._values(confidence._tallies(*run), weights)
    for row, drawn in zip(found, weights.tolist(), strict=True):
        assert row == pytest.approx(run_by_loops(run, dict(zip(range(10, 46, 3), drawn, strict=True))), rel=1e-12)
    numbers_of_texts = weights @ CAPTIONS
    assert {0, 1} == set((numbers_of_texts % 2).tolist())  # medians of even and of odd numbers were checked


def test_intervals_by_loops() -> None:
    first, second = some_run(1, CAPTIONS), some_run(2, CAPTIONS)
    drawn = np.concatenate(list(confidence._draws(confidence._tallies(*first), 60, 7))).tolist()
    tables = []
    for run in (first, second):
        values = [run_by_loops(run, dict(zip(range(10, 46, 3), weights, strict=True))) for weights in drawn]
        tables.append(np.asarray(values))
    found = flat(intervals(*first, samples=60, level=0.8, seed=7))
    assert [key for key in found if key[0] == "text_to_video"] == [("text_to_video", name) for name in NAMES]
    assert list(found)[-1] == ("both_ways", "RSUM")
    values = run_by_loops(first, dict.fromkeys(range(10, 46, 3), 1))
    for interval, value, column in zip(found.values(), values, tables[0].T, strict=True):
        assert interval.value == pytest.approx(value, rel=1e-12)
        assert (interval.low, interval.high) == pytest.approx(np.percentile(column, [10, 90]), rel=1e-12)
    differences = compare(first, second, samples=60, permutations=1, level=0.8, seed=7)
    assert [(one.direction, one.metric) for one in differences] == list(found)
    for one, column in zip(differences, (tables[1] - tables[0]).T, strict=True):
        assert (one.low, one.high) == pytest.approx(np.percentile(column, [10, 90]), rel=1e-12)


def test_videos_are_drawn_evenly_with_replacement() -> None:
    tallies = confidence._tallies(*some_run(0, CAPTIONS))
    drawn = np.concatenate(list(confidence._draws(tallies, 20_000, 0)))
    assert drawn.shape == (20_000, 12)
    assert set(drawn.sum(1).tolist()) == {12}
    chosen = np.random.default_rng(1).integers(0, 12, (20_000, 12))
    for times in range(4):
        expected = (np.stack([(chosen == video).sum(1) for video in range(12)], axis=1) == times).mean()
        assert (drawn == times).mean(0) == pytest.approx(np.full(12, expected), abs=0.015)


def test_values_are_those_of_the_metrics() -> None:
    owners = np.repeat(np.arange(40), 3)
    scores = np.random.default_rng(0).integers(0, 30, (120, 40)) + 10 * (owners[:, None] == np.arange(40))
    scores = scores.astype(np.float32)
    t2v = QueryRanks(ranks.text_to_video(scores, owners), owners)
    v2t = QueryRanks(ranks.video_to_text(scores, owners), np.unique(owners))
    found, both = intervals(t2v, v2t, samples=10), evaluate_scores(scores, owners)
    for side in (both.text_to_video, both.video_to_text):
        got = found[side.direction]
        assert {at: got[f"R@{at}"].value for at in side.recall} == pytest.approx(dict(side.recall))
        assert (got["MedR"].value, got["MeanR"].value) == pytest.approx((side.median_rank, side.mean_rank))
    assert found["both_ways"]["RSUM"].value == pytest.approx(both.rsum)


def test_one_caption_a_video_gives_binomial_intervals() -> None:
    found = np.where(np.random.default_rng(3).random(1500) < 0.3, 1, 20)
    share = (found == 1).mean()
    half = 100 * statistics.NormalDist().inv_cdf(0.95) * np.sqrt(share * (1 - share) / 1500)
    one = queries(found, np.arange(1500))
    interval = intervals(one, one, samples=4000, level=0.9)["text_to_video"]["R@1"]
    assert (interval.low, interval.high) == pytest.approx((100 * share - half, 100 * share + half), abs=0.1 * half)


def test_captions_of_a_video_count_as_one_piece_of_evidence() -> None:
    of_videos = np.round(np.exp(np.random.default_rng(4).uniform(0, 6, 200)))
    copies = np.repeat(of_videos, 20)
    v2t = queries(of_videos, np.arange(200))
    together = intervals(queries(copies, np.repeat(np.arange(200), 20)), v2t)
    apart = intervals(queries(copies, np.arange(4000)), v2t)
    for metric in ("R@1", "R@10", "MeanR", "MRR"):
        ratio = width(together["text_to_video"][metric]) / width(apart["text_to_video"][metric])
        assert ratio == pytest.approx(np.sqrt(20), rel=0.12)


def test_one_draw_serves_both_directions() -> None:
    one = queries(np.round(np.exp(np.random.default_rng(5).uniform(0, 4, 80))), np.arange(80))
    never = queries(np.full(80, 999.0), np.arange(80))
    alone, both = (intervals(one, other)["both_ways"]["RSUM"] for other in (never, one))
    doubled = (2 * alone.value, 2 * alone.low, 2 * alone.high)
    assert (both.value, both.low, both.high) == pytest.approx(doubled)
    assert width(alone) > 10


def test_intervals_cover_the_truth() -> None:
    """Videos differ in how easy they are, so captions of one video agree; the truth is known."""
    generator = np.random.default_rng(6)
    covered = {"together": 0, "apart": 0}
    for _ in range(200):
        ease = generator.beta(0.5, 1.0, 100)  # how probable rank 1 is; its mean is 1 / 3
        of_texts = np.where(generator.random((100, 5)) < ease[:, None], 1.0, 30.0).ravel()
        v2t = queries(np.ones(100), np.arange(100))
        videos = {"together": np.repeat(np.arange(100), 5), "apart": np.arange(500)}
        for name, owners in videos.items():
            side = intervals(queries(of_texts, owners), v2t, samples=300)["text_to_video"]
            recall, mean_rank = side["R@1"], side["MeanR"]
            assert recall.low <= recall.value <= recall.high
            covered[name] += recall.low <= 100 / 3 <= recall.high
            assert mean_rank.low == pytest.approx(30 - 29 * recall.high / 100)  # a mean rank falls as recall rises
    assert 0.9 <= covered["together"] / 200 <= 0.99
    assert covered["apart"] / 200 < 0.85  # what treating captions as independent would promise wrongly


def swapped(first: Run, second: Run, videos: set[int]) -> Run:
    """Return the first run with the second's results for `videos`."""
    sides = [
        queries(
            [b if video in videos else a for a, b, video in zip(old.ranks, new.ranks, old.videos, strict=True)],
            old.videos,
        )
        for old, new in zip(first, second, strict=True)
    ]
    return sides[0], sides[1]


def test_p_values_equal_all_swaps() -> None:
    captions = np.asarray([3, 1, 2, 2, 1, 4, 3, 2])
    first = some_run(1, captions)
    shift = np.random.default_rng(2).choice([0.3, 0.5, 1.0, 1.5], 8)
    second = tuple(
        queries(np.maximum(1, np.floor(side.ranks * shift[(side.videos - 10) // 3])), side.videos) for side in first
    )
    numbers = list(range(10, 34, 3))
    once = dict.fromkeys(numbers, 1)
    differences = []
    for chosen in product((False, True), repeat=8):
        some = {video for video, is_chosen in zip(numbers, chosen, strict=True) if is_chosen}
        mixed = (swapped(first, second, some), swapped(second, first, some))
        differences.append(np.subtract(run_by_loops(mixed[1], once), run_by_loops(mixed[0], once)))
    exact = (np.abs(differences) >= np.abs(differences[0]) - 1e-9).mean(0)
    assert len(set(exact.tolist())) > 5
    found = compare(first, second, samples=1, permutations=40_000)
    for one, expected, difference in zip(found, exact, differences[0], strict=True):
        assert one.difference == pytest.approx(difference, abs=1e-9)
        if one.metric == "MedR":
            assert one.p_value is None
        else:
            assert one.p_value == pytest.approx(expected, abs=0.012)


def test_p_values_are_uniform_between_equal_runs() -> None:
    generator = np.random.default_rng(8)
    videos = np.repeat(np.arange(40), 3)
    found = []
    for seed in range(300):
        level = np.repeat(generator.uniform(0, 4, (2, 40)), 3, axis=1)  # captions of one video agree
        runs = [queries(np.round(np.exp(row + generator.uniform(0, 1, 120))), videos) for row in level]
        v2t = queries(np.ones(40), np.arange(40))
        differences = compare((runs[0], v2t), (runs[1], v2t), samples=1, permutations=199, seed=seed)
        found.append([one.p_value for one in differences if one.metric in ("MeanR", "MRR")][:2])
    for below in (0.1, 0.5):
        assert (np.asarray(found) <= below).mean(0) == pytest.approx([below, below], abs=0.07)


def test_a_run_compared_with_itself() -> None:
    run = some_run(1, CAPTIONS)
    for one in compare(run, run, samples=50, permutations=50):
        assert (one.difference, one.low, one.high, one.first) == (0, 0, 0, one.second)
        assert one.p_value == (None if one.metric == "MedR" else 1.0)


def test_pairs_show_what_separate_intervals_hide() -> None:
    first = some_run(1, np.full(60, 2))
    second = tuple(queries(np.maximum(1, side.ranks - 2), side.videos) for side in first)
    found = {(one.direction, one.metric): one for one in compare(first, second, samples=200, permutations=999)}
    alone = flat(intervals(*first, samples=200))
    for direction in ("text_to_video", "video_to_text"):
        one = found[direction, "MeanR"]
        assert one.second < one.first
        assert -2 <= one.low <= one.difference <= one.high < 0
        assert one.p_value == 1 / 1000
        assert width(one) < 0.1 * width(alone[direction, "MeanR"])
    assert found["both_ways", "RSUM"].low > 0


def test_the_seed_decides() -> None:
    first, second = some_run(1, CAPTIONS), some_run(2, CAPTIONS)
    calls: tuple[Callable[[int], object], ...] = (
        lambda seed: intervals(*first, samples=50, seed=seed),
        lambda seed: compare(first, second, samples=50, permutations=50, seed=seed),
    )
    for call in calls:
        assert call(3) == call(3)
        assert call(3) != call(4)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = some_run(1, CAPTIONS), some_run(2, CAPTIONS)
    whole = compare(first, second, samples=50, permutations=50)
    monkeypatch.setattr(confidence, "BLOCK_VALUES", 100)
    pieces = compare(first, second, samples=50, permutations=50)
    for one, other in zip(whole, pieces, strict=True):
        numbers = [(each.first, each.second, each.low, each.high) for each in (one, other)]
        assert numbers[0] == pytest.approx(numbers[1])
        assert one.p_value == other.p_value


def test_a_draw_never_leaves_a_direction_without_queries() -> None:
    t2v, v2t = queries([2.0, 4.0], [3, 3]), queries([7.0, 9.0, 9.0], [3, 5, 6])
    found = intervals(t2v, v2t, samples=200)
    assert found["text_to_video"]["MeanR"] == Interval(3.0, 3.0, 3.0)
    assert found["video_to_text"]["MeanR"].low == 7.0
    weights = np.concatenate(list(confidence._draws(confidence._tallies(t2v, v2t), 200, 0)))
    assert weights.shape == (200, 3)
    assert weights[:, 0].min() == 1


@pytest.mark.parametrize(
    ("values", "videos", "message"),
    [
        ([1, 2], [0], r"ranks \(2,\) and videos \(1,\)"),
        ([[1, 2]], [[0, 0]], r"\[Q\] and \[Q\] expected"),
        ([], [], "no ranks"),
        ([0.5], [0], "1 or more"),
        ([np.nan], [0], "1 or more"),
    ],
)
def test_impossible_queries_are_an_error(values: Any, videos: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        queries(values, videos)


def test_runs_with_other_queries_are_an_error() -> None:
    t2v, v2t = queries([1, 2, 3], [0, 0, 1]), queries([1, 2], [0, 1])
    with pytest.raises(ValueError, match=r"text_to_video.*\(3,\).*\(2,\)"):
        compare((t2v, v2t), (queries([1, 2], [0, 1]), v2t))
    with pytest.raises(ValueError, match=r"video_to_text.*1 of 2 queries \(query 1: 1 and 4\)"):
        compare((t2v, v2t), (t2v, queries([1, 2], [0, 4])))


def test_impossible_settings_are_an_error() -> None:
    run = some_run(1, CAPTIONS)
    with pytest.raises(InputError, match="samples is 0"):
        intervals(*run, samples=0)
    with pytest.raises(InputError, match="permutations is -5"):
        compare(run, run, permutations=-5)
    for level in (0.0, 1.0, 95.0, np.nan):
        with pytest.raises(InputError, match=r"level is .* 0\.95"):
            intervals(*run, level=level)
