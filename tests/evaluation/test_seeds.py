"""Differences over seeds: by plain loops, by simulation, and the correction for many comparisons by its definition."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from scipy import stats

from vtr.evaluation import confidence
from vtr.evaluation.confidence import COLUMNS, QueryRanks, compare, draw_values, holm
from vtr.evaluation.seeds import REPORTED, OverSeeds, paired_differences, reported

Pair = tuple[QueryRanks, QueryRanks]
NUM_VIDEOS = 12


def some_run(seed: int) -> Pair:
    """Return random ranks of twelve videos with two captions each."""
    draw = np.random.default_rng(seed)
    videos = np.arange(NUM_VIDEOS)
    texts = QueryRanks(np.floor(np.exp(draw.uniform(0, 3, 2 * NUM_VIDEOS))), np.repeat(videos, 2))
    return texts, QueryRanks(np.floor(np.exp(draw.uniform(0, 3, NUM_VIDEOS))), videos)


def values_by_loops(run: Pair, times: list[int]) -> list[float]:
    """Return R@1, R@5, R@10 both ways and RSUM when each video is listed so many times."""
    found = []
    for side in run:
        ranks = [r for r, v in zip(side.ranks.tolist(), side.videos.tolist(), strict=True) for _ in range(times[v])]
        found += [100 * sum(rank <= at for rank in ranks) / len(ranks) for at in (1, 5, 10)]
    return [*found, sum(found)]


def test_interval_is_that_of_a_plain_loop() -> None:
    first, second = [some_run(seed) for seed in range(3)], [some_run(seed) for seed in range(10, 13)]
    tallies = confidence._tallies(*first[0])
    draws = np.concatenate(list(confidence._draws(tallies, 200, 0))).tolist()
    once = [1] * NUM_VIDEOS

    def apart(times: list[int]) -> list[list[float]]:
        return [
            [b - a for a, b in zip(values_by_loops(one, times), values_by_loops(other, times), strict=True)]
            for one, other in zip(first, second, strict=True)
        ]

    drawn = [[statistics.fmean(column) for column in zip(*apart(times), strict=True)] for times in draws]
    values = draw_values([*first, *second], samples=200, seed=0)
    observed, of_draws = (reported(found) for found in values)
    found = paired_differences(observed[3:] - observed[:3], of_draws[3:] - of_draws[:3])
    for one, seeds, queries in zip(found, zip(*apart(once), strict=True), zip(*drawn, strict=True), strict=True):
        of_seeds, of_queries = statistics.variance(seeds) / 3, statistics.variance(queries)
        both = of_seeds + of_queries
        half = stats.t(2 * both**2 / of_seeds**2).ppf(0.975) * both**0.5
        mean = statistics.fmean(seeds)
        assert (one.difference, one.low, one.high) == pytest.approx((mean, mean - half, mean + half))


def test_one_seed_gives_an_interval_of_the_queries_alone() -> None:
    first, second = some_run(1), some_run(2)
    observed, drawn = (reported(found) for found in draw_values([first, second], samples=4000, seed=0))
    found = paired_differences(observed[1:] - observed[:1], drawn[1:] - drawn[:1])
    wanted = {(one.direction, one.metric): one for one in compare(first, second, samples=4000, permutations=1)}
    for column, one in zip(REPORTED, found, strict=True):
        other = wanted[column]
        assert one.difference == pytest.approx(other.difference)
        width = other.high - other.low
        assert one.high - one.low == pytest.approx(width, rel=0.15)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Seeds and queries shift a made-up metric by known amounts; the true difference is 0."""
    draw = np.random.default_rng(0)
    covered, percentile, times = 0, 0, 800
    for _ in range(times):
        seeds, queries = draw.normal(0, 3, (3, 1)), draw.normal(0, 20, (1, 100))
        values = seeds + queries + draw.normal(0, 10, (3, 100))  # [S, V]
        weights = draw.multinomial(100, np.full(100, 0.01), size=200) / 100
        observed, drawn = values.mean(1)[:, None], (values @ weights.T)[:, :, None]
        (one,) = paired_differences(observed, drawn)
        covered += one.low <= 0 <= one.high
        again = drawn[draw.integers(0, 3, (200, 3)), np.arange(200)[:, None], 0].mean(1)
        low, high = np.quantile(again, [0.025, 0.975])
        percentile += low <= 0 <= high
    assert 0.93 < covered / times < 0.995
    assert percentile < covered  # drawing three seeds anew promises too much


def test_no_difference_has_no_width_and_the_same_seed_gives_the_same_draws() -> None:
    one = draw_values([some_run(1), some_run(2)], samples=50)
    alone = draw_values([some_run(2)], samples=50)
    assert np.array_equal(one[1][1], alone[1][0])
    assert one[0].shape == (2, len(COLUMNS))
    same = reported(one[1][:1]) - reported(one[1][:1])
    for found in paired_differences(np.zeros((2, 7)), np.repeat(same, 2, axis=0)):
        assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_runs_of_other_queries_are_refused() -> None:
    texts, videos = some_run(1)
    other = QueryRanks(texts.ranks, texts.videos[::-1].copy())
    with pytest.raises(ValueError, match="other videos"):
        draw_values([(texts, videos), (other, videos)])


def test_mean_and_deviation() -> None:
    assert OverSeeds.of([1.0, 2.0, 6.0]) == OverSeeds(3.0, pytest.approx(statistics.stdev([1, 2, 6])))
    assert OverSeeds.of([4.0]) == OverSeeds(4.0, None)


def rejected_by_definition(p_values: list[float], level: float) -> set[int]:
    """Return what Holm's procedure rejects: step down while the smallest left is at most level / how many are left."""
    left, rejected = dict(enumerate(p_values)), set()
    while left:
        place = min(left, key=lambda at: left[at])
        if left[place] > level / len(left):
            break
        rejected.add(place)
        del left[place]
    return rejected


def test_holm_is_its_definition() -> None:
    draw = np.random.default_rng(0)
    for size, _ in itertools.product((1, 2, 5), range(20)):
        p_values = np.round(draw.uniform(0, 0.2, size), 2).tolist()
        corrected = holm(p_values)
        for level in (0.013, 0.047, 0.111, 0.333):
            got = {place for place, p in enumerate(corrected) if p <= level}
            assert got == rejected_by_definition(p_values, level), (p_values, level)
