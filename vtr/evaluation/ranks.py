"""Scores to ranks, in both directions: one rank function, three tie rules.

Rank 1 is best. A right answer's rank follows from two counts, how many items score higher and how many score the same:

- `average`, the rule of the released code of CE (Liu et al. 2019, arXiv 1907.13487) and MMT (Gabeur et al. 2020,
  arXiv 2007.10639), and the default: the mean of the places that the tied items share, so ranks may end in .5 and a
  constant score earns the middle of the gallery, not its top;
- `optimistic`: the best of these places;
- `pessimistic`: the worst, with every wrong answer of the same score before it.

Items are counted, never sorted, a block of the scores at a time, so MedR and MeanR are exact however large the gallery.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtr.errors import InputError, some
from vtr.evaluation.correspondence import Correspondence, Owners, Rows, as_correspondence
from vtr.evaluation.scores import Array, MatrixScores, Scores, ScoreSource

Ranks = NDArray[np.float64]
TieRule = Literal["average", "optimistic", "pessimistic"]
TIE_RULES: tuple[TieRule, ...] = ("average", "optimistic", "pessimistic")

TIES_IN_WORDS: dict[TieRule, str] = {
    "average": "ties share the mean of their places",
    "optimistic": "ties take the best of their places",
    "pessimistic": "ties take the worst of their places",
}

VideoToText = Literal["best_own_caption_among_all_captions", "max_caption_then_rank_videos"]
VIDEO_TO_TEXT: tuple[VideoToText, ...] = ("best_own_caption_among_all_captions", "max_caption_then_rank_videos")

Answer = TypeVar("Answer")

Which = Literal["best", "all"]
"""Which right answers are placed: the best one is enough for ranks, nDCG and mAP need all."""

CHUNK_ROWS = 192
"""Rows that are compared together: their comparison results stay in the processor's cache, and counts below 256."""


@dataclass(frozen=True, eq=False, slots=True)
class Counts:
    """Where the right answers of Q queries stand among all items.

    Attributes:
        queries: [Q] the rows (texts) or columns (videos) that were asked with, ascending.
        num_items: how many items were ranked for each.
        num_right: [Q] right answers of each.
        higher, same: [Q, P] items that score higher than the query's p-th best right answer, and the same, itself
            included. P is 1, or the most right answers a query has; 0 where a query has fewer.
        same_right: [Q, P] how many of the `same` are right answers.
    """

    queries: Rows
    num_items: int
    num_right: Rows
    higher: Rows
    same: Rows
    same_right: Rows

    def ranks(self, ties: TieRule = "average") -> Ranks:
        """Return [Q] float64, the rank of each query's best right answer."""
        higher, same, same_right = (
            counts[:, 0].astype(np.float64) for counts in (self.higher, self.same, self.same_right)
        )
        if ties == "average":
            return 1.0 + higher + (same - 1.0) / 2.0
        return 1.0 + higher + (same - same_right if ties == "pessimistic" else 0.0)

    @property
    def tied(self) -> NDArray[np.bool_]:
        """[Q] whether another item has exactly the score of the best right answer."""
        return np.asarray(self.same[:, 0] > 1)

    @property
    def all_placed(self) -> bool:
        """Whether all right answers were placed, not the best ones alone."""
        return bool(self.num_right.max(initial=0) <= self.higher.shape[1])

    def take(self, rows: Rows | NDArray[np.bool_]) -> Counts:
        """Return the counts of some of the queries, of as many items as before.

        Args:
            rows: places in `queries`, or [Q] bool.
        """
        chosen = (values[rows] for values in (self.higher, self.same, self.same_right))
        return Counts(self.queries[rows], self.num_items, self.num_right[rows], *chosen)


def count_both(
    source: Scores | ScoreSource, right: Owners | Correspondence, which: Which = "best"
) -> tuple[Counts, Counts]:
    """Return where the right answers stand, text-to-video and video-to-text, in one pass over the scores.

    Args:
        source: scores [T, V], texts in rows, as a matrix or as a source of blocks.
        right: which text describes which video: [T] columns, or a correspondence.
        which: place the best right answer of each query, or all of them.

    Raises:
        InputError: scores are NaN; the rows are named.
        ValueError: the shapes do not fit.
    """
    return _count(source, right, which, (True, True))


def count_texts(source: Scores | ScoreSource, right: Owners | Correspondence, which: Which = "best") -> Counts:
    """Return `count_both`'s text-to-video half alone."""
    return _count(source, right, which, (True, False))[0]


def count_videos(source: Scores | ScoreSource, right: Owners | Correspondence, which: Which = "best") -> Counts:
    """Return `count_both`'s video-to-text half alone."""
    return _count(source, right, which, (False, True))[1]


def text_to_video(scores: Scores | ScoreSource, right: Owners | Correspondence, ties: TieRule = "average") -> Ranks:
    """Return the rank of each text's own video among all videos.

    Args:
        scores: [T, V], texts in rows, videos in columns, or a source of them.
        right: [T], the column of each text's video (-1 for none), or a correspondence.
        ties: the tie rule.

    Returns:
        [Q] float64, of the texts that describe a video, in their order.

    Raises:
        InputError: scores are NaN; the rows are named.
        ValueError: the shapes do not fit, or a text names a video that is not among the columns.
    """
    return count_texts(scores, right).ranks(ties)


def video_to_text(
    scores: Scores | ScoreSource,
    right: Owners | Correspondence,
    ties: TieRule = "average",
    protocol: VideoToText = "best_own_caption_among_all_captions",
) -> Ranks:
    """Return the rank of each video's caption: its best-ranked own one among all captions, or see `max_caption`.

    Captions that are missing are simply not among the rows. A video without captions cannot be a query.

    Returns:
        [Q] float64, one rank for each video that has a caption, in the order of the columns.

    Raises:
        InputError: scores are NaN; the rows are named.
        ValueError: the shapes do not fit, or a text names a video that is not among the columns.
    """
    counts = count_videos(scores, right) if protocol == VIDEO_TO_TEXT[0] else max_caption(scores, right)
    return counts.ranks(ties)


def max_caption(source: Scores | ScoreSource, right: Owners | Correspondence) -> Counts:
    """Return where each video's captions stand when a video's captions are ranked as one item.

    The protocol of CLIP4Clip (Luo et al. 2021, arXiv 2104.08860) and its successors: the captions of each video are
    replaced by their maximum score, and a video ranks these. R@1 is that of `best_own_caption_among_all_captions`, but
    for ties; R@5 and R@10 are higher, since a wrong video takes one place however many of its captions score high.
    A caption that describes none of the videos is an item of its own.

    Memory: one score for each pair of a captioned video and a video.

    Raises:
        InputError: scores are NaN; the rows are named.
        ValueError: the shapes do not fit, or a text describes several videos.
    """
    source, right = _checked(source, right)
    if len(right.text_queries) != len(right.texts):
        raise ValueError(
            "a text describes several videos; max_caption_then_rank_videos needs captions of one video each"
        )
    owner = np.full(right.num_texts, -1)
    owner[right.texts] = right.videos
    loose = owner < 0
    owner[loose] = right.num_videos + np.arange(loose.sum())
    groups, group_of_text = np.unique(owner, return_inverse=True)
    best = np.full((len(groups), right.num_videos), -np.inf, source.dtype)

    def highest(rows: slice, chunk: Array) -> tuple[Rows, Array]:
        order = np.argsort(group_of_text[rows], kind="stable")
        here, starts = np.unique(group_of_text[rows][order], return_index=True)
        return here, np.maximum.reduceat(chunk[order], starts, axis=0)

    for here, values in _over_chunks(source, highest):
        best[here] = np.maximum(best[here], values)
    queries = right.video_queries
    pairs = Correspondence(len(groups), right.num_videos, np.searchsorted(groups, queries), queries)
    return count_videos(best, pairs)


def _count(
    source: Scores | ScoreSource, right: Owners | Correspondence, which: Which, wanted: tuple[bool, bool]
) -> tuple[Counts, Counts]:
    source, right = _checked(source, right)
    own = source.pairs(right.texts, right.videos)
    by_text, by_video = (
        _Counter(queries if use else queries[:0], own if use else own[:0], num_items, which)
        for queries, num_items, use in zip(
            (right.texts, right.videos), (right.num_videos, right.num_texts), wanted, strict=True
        )
    )

    def look_at(rows: slice, chunk: Array) -> tuple[_Found, _Found]:
        return by_text.in_rows(rows, chunk), by_video.in_columns(chunk)

    for in_rows, in_columns in _over_chunks(source, look_at):
        by_text.add(in_rows)
        by_video.add(in_columns)
    return by_text.counts(), by_video.counts()


_Found = list[tuple[Rows, Rows, Rows]]
"""For the best right answer, the second, ...: queries, items above it, items at or above it."""


class _Counter:
    """Counts, for each query, the items above and at the scores of its right answers.

    Args:
        queries: [N] the query of each right pair.
        scores: [N] the score of each right pair.
        num_items: how many items are ranked.
        which: how many right answers of each query are placed.
    """

    def __init__(self, queries: Rows, scores: Array, num_items: int, which: Which) -> None:
        self.queries, self.num_right = np.unique(queries, return_counts=True)
        self.num_items = num_items
        order = np.lexsort((-scores, queries))
        query, scores = np.repeat(np.arange(len(self.queries)), self.num_right), scores[order]
        place = np.arange(len(order)) - np.repeat(np.cumsum(self.num_right) - self.num_right, self.num_right)
        shape = (1 if which == "best" else int(self.num_right.max(initial=1)), len(self.queries))  # [P, Q]
        kept = place < shape[0]
        self.limits = np.full(shape, np.nan, scores.dtype)
        self.limits[place[kept], query[kept]] = scores[kept]
        self.active = [np.flatnonzero(self.num_right > p) for p in range(shape[0])]
        self.active_queries = [self.queries[active] for active in self.active]
        self.higher, self.at_least, self.same_right = np.zeros((3, *shape), np.int64)
        for p, limits in enumerate(self.limits):
            np.add.at(self.same_right[p], query[scores == limits[query]], 1)

    def in_rows(self, rows: slice, chunk: Array) -> _Found:
        """Return the counts of the queries among the rows of a chunk [b, V]."""
        found: _Found = []
        for limits, active, queries in zip(self.limits, self.active, self.active_queries, strict=True):
            among = slice(*np.searchsorted(queries, (rows.start, rows.stop)))
            here = active[among]
            if not len(here):  # who has no p-th right answer has no later one either
                break
            lines = chunk if len(here) == len(chunk) else chunk[queries[among] - rows.start]
            limit = limits[here, None]
            found.append((here, _count_in_rows(lines > limit), _count_in_rows(lines >= limit)))
        return found

    def in_columns(self, chunk: Array) -> _Found:
        """Return what a chunk [b, V] adds to the counts of its columns."""
        found: _Found = []
        for limits, active, columns in zip(self.limits, self.active, self.active_queries, strict=True):
            if not len(columns):
                break
            lines = chunk if len(columns) == chunk.shape[1] else chunk[:, columns]
            limit = limits[active]
            found.append((active, _count_in_columns(lines > limit), _count_in_columns(lines >= limit)))
        return found

    def add(self, found: _Found) -> None:
        """Add what was found in a chunk."""
        for p, (queries, higher, at_least) in enumerate(found):
            self.higher[p, queries] += higher
            self.at_least[p, queries] += at_least

    def counts(self) -> Counts:
        """Return what was counted."""
        same = self.at_least - self.higher
        return Counts(self.queries, self.num_items, self.num_right, self.higher.T, same.T, self.same_right.T)


def _count_in_rows(found: NDArray[np.bool_]) -> Rows:
    """Return how many values of each row are True."""
    ones: Rows = np.bitwise_count(np.packbits(found, axis=1)).sum(1, dtype=np.int64)
    return ones


def _count_in_columns(found: NDArray[np.bool_]) -> Rows:
    """Return how many of at most 255 rows are True, in each column."""
    ones: NDArray[np.uint8] = np.add.reduce(found.view(np.uint8), axis=0, dtype=np.uint8)
    return ones.astype(np.int64)


def _over_chunks(source: ScoreSource, look_at: Callable[[slice, Array], Answer]) -> Iterator[Answer]:
    """Yield what `look_at(rows, chunk)` says to each chunk of the scores, in order; several threads look.

    Raises:
        InputError: scores are NaN; the rows are named. It is raised at the end, when all of them are known.
    """
    bad: list[int] = []

    def check(rows: slice, chunk: Array) -> Answer | None:
        if not np.isnan(chunk.min(initial=np.inf)):
            return look_at(rows, chunk)
        bad.extend((rows.start + np.flatnonzero(np.isnan(chunk).any(1))).tolist())
        return None

    for rows, block in source.blocks():
        chunks = [slice(at, at + CHUNK_ROWS) for at in range(0, len(block), CHUNK_ROWS)]
        places = (slice(rows.start + part.start, min(rows.start + part.stop, rows.stop)) for part in chunks)
        for answer in _threads().map(check, places, (block[part] for part in chunks)):
            if answer is not None:
                yield answer
    if bad:
        bad.sort()
        raise InputError(
            f"scores of {len(bad)} texts are NaN: rows {some([str(row) for row in bad])}. NaN cannot be ranked: look "
            "for NaN in the features, or for a training run that diverged."
        )


@cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads that compare; numpy lets go of the interpreter while it does."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="ranks")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a fork takes the pool along, but not its threads


def _checked(source: Scores | ScoreSource, right: Owners | Correspondence) -> tuple[ScoreSource, Correspondence]:
    opened = MatrixScores(source) if isinstance(source, (np.ndarray, Tensor)) else source
    return opened, as_correspondence(right, opened.shape)
