"""How sure a metric is: bootstrap intervals over videos, and a paired test between two runs.

The unit is the video. The captions of one video are alike, so they are drawn together (cluster bootstrap) and swapped
together (randomisation test). Ranks are not computed again: the gallery is held fixed, and the intervals tell how the
metrics vary with the queries, not with the gallery or with the seed of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtr.errors import InputError
from vtr.evaluation.metrics import DIRECTIONS, RECALL_AT, RSUM_AT, hits
from vtr.evaluation.ranks import Ranks

BLOCK_VALUES = 1 << 20
"""Weights of queries looked at together: a few MiB at a time."""

MEANS = (*(f"R@{at}" for at in RECALL_AT), "MeanR", "MRR")
METRICS = (*MEANS[:-2], "MedR", *MEANS[-2:])
COLUMNS: tuple[tuple[str, str], ...] = (
    *((direction, metric) for direction in DIRECTIONS for metric in METRICS),
    ("both_ways", "RSUM"),
)

Floats = NDArray[np.float64]
Weights = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class QueryRanks:
    """The ranks of one direction's queries, and the videos they belong to.

    Attributes:
        ranks: [Q] float64, 1 is best; ties may make it end in .5.
        videos: [Q] int64, the video of each query: a caption's own video, or the video that is itself the query. Both
            directions share one numbering, the columns of the scores.

    Raises:
        ValueError: the shapes differ, there are no queries, or a rank is below 1 or NaN.
    """

    ranks: Ranks
    videos: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.ranks.ndim != 1 or self.videos.shape != self.ranks.shape:
            raise ValueError(f"ranks {self.ranks.shape} and videos {self.videos.shape}: [Q] and [Q] expected")
        if not len(self.ranks):
            raise ValueError("there are no ranks, at least one query was expected")
        if not (self.ranks >= 1).all():
            raise ValueError(f"ranks start at {self.ranks.min()}, 1 or more was expected")


@dataclass(frozen=True, slots=True)
class Interval:
    """A metric and the bounds of its interval, in the metric's unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of two runs.

    Attributes:
        direction: "text_to_video", "video_to_text" or "both_ways".
        metric: one of `METRICS`, or "RSUM".
        first, second: the metric of each run, in its own unit.
        low, high: the bounds of the interval of `difference`.
        p_value: two-sided, of the hypothesis that the runs are exchangeable; None for MedR, see `compare`.
    """

    direction: str
    metric: str
    first: float
    second: float
    low: float
    high: float
    p_value: float | None

    @property
    def difference(self) -> float:
        """The second run's metric less the first's."""
        return self.second - self.first


def intervals(
    t2v: QueryRanks, v2t: QueryRanks, *, samples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """Return each metric with its bootstrap interval.

    Percentile intervals (Efron and Tibshirani 1993, chapter 13) of a bootstrap whose unit is the video (Davison and
    Hinkley 1997, section 3.8). Every video that occurs in either direction may be drawn, with replacement, together
    with all its queries; one draw serves both directions. The gallery is held fixed: ranks are not computed again. A
    draw that leaves a direction without queries is drawn again. With few videos (some tens) percentile intervals are
    too narrow.

    Args:
        t2v: the text queries.
        v2t: the video queries.
        samples: how often the videos are drawn.
        level: the intended coverage, 0 to 1.
        seed: of the draws; the same seed gives the same intervals.

    Returns:
        "text_to_video" and "video_to_text" -> each of `METRICS`: R@K in percent, MedR and MeanR in ranks, MRR (the mean
        of 1 / rank) from 0 to 1; "both_ways" -> "RSUM", 0 to 600.

    Raises:
        InputError: `samples` or `level` is out of range.
    """
    _check_settings(samples, level)
    tallies = _tallies(t2v, v2t)
    drawn = np.concatenate([_values(tallies, weights) for weights in _draws(tallies, samples, seed)])
    numbers = np.stack([_observed(tallies), *_bounds(drawn, level)], axis=1).tolist()
    found: dict[str, dict[str, Interval]] = {}
    for (direction, metric), (value, low, high) in zip(COLUMNS, numbers, strict=True):
        found.setdefault(direction, {})[metric] = Interval(value, low, high)
    return found


def compare(
    first: tuple[QueryRanks, QueryRanks],
    second: tuple[QueryRanks, QueryRanks],
    *,
    samples: int = 1000,
    permutations: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Difference]:
    """Return how two runs differ on the same queries, with intervals and p-values.

    The intervals are those of `intervals`, of the difference: each draw of videos serves both runs.

    The p-values are of a paired randomisation test (Fisher 1935; Smucker, Allan and Carterette 2007). Were the runs
    alike, the results of either could have come from the other, so the test swaps them video by video at random, both
    directions together, and counts how often a difference at least as large comes about:
    p = (1 + #{|d*| >= |d|}) / (1 + permutations). They are not corrected for the number of metrics. MedR has none: the
    median of swapped queries is not a sum over videos, and it moves in so few steps that its p-value would say little.

    Args:
        first: the text queries and the video queries of one run.
        second: those of the other run, the same queries in the same order.
        samples: how often the videos are drawn.
        permutations: how often the runs are swapped.
        level: the intended coverage of the intervals, 0 to 1.
        seed: of the draws and of the swaps.

    Returns:
        The metrics of text-to-video and of video-to-text in the order of `METRICS`, then RSUM.

    Raises:
        InputError: `samples`, `permutations` or `level` is out of range.
        ValueError: the two runs do not have the same queries.
    """
    _check_settings(samples, level, permutations)
    for direction, one, other in zip(DIRECTIONS, first, second, strict=True):
        _check_paired(direction, one, other)
    before, after = _tallies(*first), _tallies(*second)
    drawn = [_values(after, weights) - _values(before, weights) for weights in _draws(before, samples, seed)]
    p_values = _p_values(before, after, permutations, seed)
    numbers = [_observed(before), _observed(after), *_bounds(np.concatenate(drawn), level)]
    rows = zip(COLUMNS, np.stack(numbers, axis=1).tolist(), strict=True)
    return [
        Difference(direction, metric, old, new, low, high, p_values.get((direction, metric)))
        for (direction, metric), (old, new, low, high) in rows
    ]


def draw_values(
    runs: Sequence[tuple[QueryRanks, QueryRanks]], *, samples: int = 1000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the metrics of several runs on the same queries, and what they are when the videos are drawn anew.

    Args:
        runs: each one's text queries and video queries, the same in the same order.
        samples: how often the videos are drawn, as `intervals` does; each draw serves all runs.
        seed: of the draws.

    Returns:
        [R, 17] and [R, samples, 17], the columns those of `COLUMNS`.

    Raises:
        InputError: `samples` is out of range.
        ValueError: the runs do not have the same queries.
    """
    _check_settings(samples, 0.5)
    for run in runs[1:]:
        for direction, one, other in zip(DIRECTIONS, runs[0], run, strict=True):
            _check_paired(direction, one, other)
    tallies = [_tallies(*run) for run in runs]
    drawn = [[_values(one, weights) for one in tallies] for weights in _draws(tallies[0], samples, seed)]
    observed = np.concatenate([_observed(one)[None] for one in tallies])
    return observed, np.stack([np.concatenate(of_run) for of_run in zip(*drawn, strict=True)])


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: the chance of any false alarm stays below the level (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


@dataclass(frozen=True, slots=True)
class _Tally:
    """One direction's queries, summed up a video.

    Attributes:
        counts: [V] int64, how many queries each video has.
        sums: [V, 7], the sums of its queries' contributions to `MEANS`.
        ranks: [Q], the ranks from best to worst.
        rows: [Q], the row of `counts` each of `ranks` belongs to.
    """

    counts: NDArray[np.int64]
    sums: Floats
    ranks: Ranks
    rows: NDArray[np.int64]


_Tallies = tuple[_Tally, _Tally]


def _tallies(t2v: QueryRanks, v2t: QueryRanks) -> _Tallies:
    videos = np.union1d(t2v.videos, v2t.videos)
    return _tally(t2v, videos), _tally(v2t, videos)


def _tally(queries: QueryRanks, videos: NDArray[np.int64]) -> _Tally:
    ranks, rows = queries.ranks, np.searchsorted(videos, queries.videos)
    contributions = [*(100.0 * hits(ranks, at) for at in RECALL_AT), ranks, 1.0 / ranks]
    sums = [np.bincount(rows, values, minlength=len(videos)) for values in contributions]
    order = np.argsort(ranks, kind="stable")
    return _Tally(np.bincount(rows, minlength=len(videos)), np.column_stack(sums), ranks[order], rows[order])


def _draws(tallies: _Tallies, samples: int, seed: int) -> Iterator[Weights]:
    """Yield [some, V] at a time how often each video is drawn; `samples` rows in all."""
    generator = np.random.default_rng(seed)
    counts = np.column_stack([tally.counts for tally in tallies])
    num_videos = len(counts)
    step = max(1, BLOCK_VALUES // max(num_videos, *(len(tally.ranks) for tally in tallies)))
    left = samples
    while left:
        weights = generator.multinomial(num_videos, np.full(num_videos, 1 / num_videos), size=min(step, left))
        weights = weights[(weights @ counts > 0).all(1)]
        left -= len(weights)
        yield weights


def _observed(tallies: _Tallies) -> Floats:
    return _values(tallies, np.ones((1, len(tallies[0].counts)), np.int64)).ravel()


def _values(tallies: _Tallies, weights: Weights) -> Floats:
    """Return [S, 17], the values of `COLUMNS` when each video counts as often as `weights` [S, V] says."""
    means = [(weights @ tally.sums) / (weights @ tally.counts)[:, None] for tally in tallies]
    medians = [_medians(tally, weights) for tally in tallies]
    directions = [
        np.insert(mean, METRICS.index("MedR"), median, axis=1) for mean, median in zip(means, medians, strict=True)
    ]
    return np.column_stack([*directions, _rsum(means)])


def _medians(tally: _Tally, weights: Weights) -> Floats:
    """Return [S], the median rank when each query counts as often as its video."""
    before = np.cumsum(weights.astype(np.int32)[:, tally.rows], axis=1, dtype=np.int32)
    places = before[:, -1:] + [-1, 0]  # twice the places, from 0, of the two middle ranks
    middles = [np.searchsorted(row, both // 2, side="right") for row, both in zip(before, places, strict=True)]
    return np.asarray(tally.ranks[np.asarray(middles, np.int64).reshape(-1, 2)].mean(1))


def _rsum(means: list[Floats]) -> Floats:
    """Return [N], the sum of R@1, R@5 and R@10 of both directions' [N, 7] values of `MEANS`."""
    columns = [RECALL_AT.index(at) for at in RSUM_AT]
    return np.asarray(sum(mean[:, columns].sum(1) for mean in means))


def _p_values(before: _Tallies, after: _Tallies, permutations: int, seed: int) -> dict[tuple[str, str], float]:
    """Return the p-value of each of `COLUMNS` that is a mean."""
    shares = [(new.sums - old.sums) / old.counts.sum() for old, new in zip(before, after, strict=True)]
    differences = np.column_stack([*shares, _rsum(shares)])  # [V, 15], what each video adds to the differences
    total = differences.sum(0)
    tiny = 1e-9 * np.abs(differences).sum(0)  # swaps that give the same sum may differ in its last digits
    generator = np.random.default_rng(seed)
    as_large = np.zeros(len(total), np.int64)
    step = max(1, BLOCK_VALUES // len(differences))
    for start in range(0, permutations, step):
        size = (min(step, permutations - start), len(differences))
        swapped = generator.integers(0, 2, size, np.int8).astype(np.float64)
        as_large += (np.abs(total - 2.0 * (swapped @ differences)) >= np.abs(total) - tiny).sum(0)
    columns = [*((direction, metric) for direction in DIRECTIONS for metric in MEANS), COLUMNS[-1]]
    return dict(zip(columns, ((1 + as_large) / (1 + permutations)).tolist(), strict=True))


def _bounds(drawn: Floats, level: float) -> Floats:
    """Return [2, ...], the percentiles of `drawn` [S, ...] that leave out as much on either side."""
    return np.asarray(np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0))


def _check_settings(samples: int, level: float, permutations: int = 1) -> None:
    for name, number in (("samples", samples), ("permutations", permutations)):
        if number < 1:
            raise InputError(f"{name} is {number}, at least 1 was expected; 1000 or more give steady results.")
    if not 0 < level < 1:
        raise InputError(f"level is {level}, a share between 0 and 1 was expected; write 95 percent as 0.95.")


def _check_paired(direction: str, first: QueryRanks, second: QueryRanks) -> None:
    if first.ranks.shape != second.ranks.shape:
        raise ValueError(
            f"{direction}: the first run has ranks {first.ranks.shape}, the second {second.ranks.shape}; "
            "the same queries were expected"
        )
    different = np.flatnonzero(first.videos != second.videos)
    if len(different):
        row = different[0]
        raise ValueError(
            f"{direction}: the runs name other videos for {len(different)} of {len(first.videos)} queries "
            f"(query {row}: {first.videos[row]} and {second.videos[row]}); the same queries in the same order expected"
        )
