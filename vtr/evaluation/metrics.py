"""Counts to metrics: R@K, MedR, MeanR, their means and sums, MRR, nDCG and mAP; and what a random ranking would get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vtr.evaluation.correspondence import Correspondence, Owners, Rows
from vtr.evaluation.ranks import (
    TIES_IN_WORDS,
    VIDEO_TO_TEXT,
    Counts,
    Ranks,
    TieRule,
    VideoToText,
    Which,
    count_both,
    count_texts,
    count_videos,
    max_caption,
)
from vtr.evaluation.scores import Scores, ScoreSource
from vtr.types import RetrievalMetrics

RECALL_AT = (1, 5, 10, 50, 100)
RSUM_AT = (1, 5, 10)
NDCG_AT = 10

Direction = Literal["text_to_video", "video_to_text"]
DIRECTIONS: tuple[Direction, ...] = ("text_to_video", "video_to_text")
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BothWays:
    """The metrics of both directions."""

    text_to_video: RetrievalMetrics
    video_to_text: RetrievalMetrics

    @property
    def rsum(self) -> float:
        """The sum of R@1, R@5 and R@10 of both directions, 0 to 600."""
        return rsum(self.text_to_video, self.video_to_text)


def hits(ranks: Ranks, at: int) -> NDArray[np.bool_]:
    """Return [Q] bool: whether each rank counts for R@`at`.

    As in the released code of CE and MMT, R@1 counts rank 1 alone, and R@K counts every rank below K + 1: a tie whose
    mean place is 5.5 is a hit for R@5. Without ties both are rank <= K.
    """
    return np.asarray(ranks == 1.0 if at == 1 else ranks < at + 1)


def measure(
    counts: Counts, *, direction: Direction, ties: TieRule = "average", protocol: str | None = None
) -> RetrievalMetrics:
    """Return the metrics of one direction.

    Args:
        counts: where the right answers stand; nDCG@10 and mAP need all of them (`which="all"`) and are None without.
        direction: what was asked with what.
        ties: the tie rule.
        protocol: the rules that made the counts, in words; None names the tie rule alone.

    Raises:
        ValueError: there are no queries, or a rank lies outside 1 to the number of items.
    """
    ranks = counts.ranks(ties)
    if not len(ranks):
        raise ValueError("there are no ranks, at least one query was expected")
    if not (ranks.min() >= 1 and ranks.max() <= counts.num_items):
        raise ValueError(f"ranks lie in {ranks.min()} to {ranks.max()}, 1 to {counts.num_items} was expected")
    ndcg, precision = all_right(counts, ties) if counts.all_placed else (None, None)
    return RetrievalMetrics(
        direction,
        TIES_IN_WORDS[ties] if protocol is None else protocol,
        num_queries=len(ranks),
        num_items=counts.num_items,
        recall={at: 100.0 * float(hits(ranks, at).sum()) / len(ranks) for at in RECALL_AT},
        median_rank=float(np.median(ranks)),
        mean_rank=float(np.mean(ranks)),
        mean_reciprocal_rank=float(np.mean(1.0 / ranks)),
        ndcg_at_10=None if ndcg is None else float(np.mean(ndcg)),
        mean_average_precision=None if precision is None else float(np.mean(precision)),
        num_tied=int(counts.tied.sum()),
    )


def all_right(counts: Counts, ties: TieRule = "average") -> tuple[Values, Values]:
    """Return nDCG@10 and average precision [Q] of each query, over all its right answers.

    A right answer is worth 1, any other item 0; the gain at place k is 1 / log2(1 + k) (Järvelin & Kekäläinen 2002).
    Under `average`, both are their expectation over all orders of tied items (McSherry & Najork 2008, "Computing
    information retrieval performance measures efficiently in the presence of tied scores").

    Raises:
        ValueError: not all right answers were counted.
    """
    num_placed = counts.higher.shape[1]
    if not counts.all_placed:
        raise ValueError(
            f'{num_placed} of up to {counts.num_right.max()} right answers were counted; which="all" is needed'
        )
    places = np.arange(1, counts.num_items + 1)
    inverse = _running_sum(1.0 / places)
    gain = _running_sum(np.where(places <= NDCG_AT, 1.0 / np.log2(1.0 + places), 0.0))
    nth = np.arange(num_placed)
    there = nth < counts.num_right[:, None]
    higher, same, same_right = counts.higher, counts.same, counts.same_right
    before = np.zeros_like(higher)  # right answers that score higher: they stand in the list's columns before
    for p in range(1, num_placed):
        tied = (higher[:, p] == higher[:, p - 1]) & there[:, p]
        before[:, p] = np.where(tied, before[:, p - 1], p)
    if ties == "average":
        end = np.where(there, higher + same, 0)
        start = np.where(there, higher, 0)
        count = np.maximum(same, 1)
        harmonic = inverse[end] - inverse[start]
        others = (same_right - 1) / np.maximum(count - 1, 1) * (count - (start + 1) * harmonic)
        precision = ((before + 1) * harmonic + others) / count
        gains = (gain[end] - gain[start]) / count
    else:
        place = higher + nth - before + (same - same_right if ties == "pessimistic" else 0)  # from 0
        place = np.where(there, place, 0)
        precision = (nth + 1) / (place + 1)
        gains = gain[place + 1] - gain[place]
    gains, precision = (np.where(there, values, 0.0).sum(1) for values in (gains, precision))
    return gains / gain[counts.num_right], precision / counts.num_right


def _running_sum(values: Values) -> Values:
    return np.concatenate([[0.0], np.cumsum(values)])


def count(
    t2v_source: Scores | ScoreSource,
    v2t_source: Scores | ScoreSource,
    right: Owners | Correspondence,
    video_to_text: VideoToText = VIDEO_TO_TEXT[0],
    which: Which = "all",
) -> tuple[Counts, Counts]:
    """Return where the right answers stand, text-to-video and video-to-text, by a protocol.

    Args:
        t2v_source, v2t_source: scores [T, V] to rank videos by, and to rank texts by; where they are the same object,
            it is read once.
        right: [T], the column of each text's video (-1 for none), or a correspondence.
        video_to_text: how a video with several captions is counted.
        which: place all right answers of each query, or the best one.

    Raises:
        InputError: scores are NaN.
        ValueError: the shapes do not fit.
    """
    by_caption = video_to_text == VIDEO_TO_TEXT[0]
    if by_caption and t2v_source is v2t_source:
        return count_both(t2v_source, right, which)
    v2t = count_videos(v2t_source, right, which) if by_caption else max_caption(v2t_source, right)
    return count_texts(t2v_source, right, which), v2t


def evaluate_scores(
    source: Scores | ScoreSource,
    right: Owners | Correspondence,
    *,
    ties: TieRule = "average",
    video_to_text: VideoToText = VIDEO_TO_TEXT[0],
    protocol: str | None = None,
) -> BothWays:
    """Return the metrics of text-to-video and of video-to-text retrieval.

    Args:
        source: scores [T, V], texts in rows, videos in columns, or a source of them.
        right: [T], the column of each text's video (-1 for none), or a correspondence.
        ties: the tie rule.
        video_to_text: how a video with several captions is counted.
        protocol: the rules behind the numbers, in words; None names the tie rule alone.

    Raises:
        InputError: scores are NaN.
        ValueError: the shapes do not fit, or there are no queries.
    """
    return both_ways(*count(source, source, right, video_to_text), ties=ties, protocols=(protocol, protocol))


def both_ways(
    t2v: Counts, v2t: Counts, *, ties: TieRule = "average", protocols: tuple[str | None, str | None]
) -> BothWays:
    """Return the metrics of both directions.

    Args:
        t2v, v2t: what was counted.
        ties: the tie rule.
        protocols: the rules behind each direction's numbers, in words.

    Raises:
        ValueError: there are no queries.
    """
    return BothWays(
        *(
            measure(counts, direction=direction, ties=ties, protocol=protocol)
            for counts, direction, protocol in zip((t2v, v2t), DIRECTIONS, protocols, strict=True)
        )
    )


def rsum(t2v: RetrievalMetrics, v2t: RetrievalMetrics) -> float:
    """Return the sum of R@1, R@5 and R@10 of both directions, 0 to 600."""
    return sum(direction.recall[at] for direction in (t2v, v2t) for at in RSUM_AT)


def chance(t2v: Counts, v2t: Counts) -> BothWays:
    """Return what a uniformly random order is expected to get on the very queries and items that were counted.

    A query with c right answers among N items has one in the top K unless the K places hold none of the c:
    P = 1 - C(N - c, K) / C(N, K). Its mean rank is (N + 1) / (c + 1).

    Args:
        t2v, v2t: what was counted, by whatever protocol.
    """
    return BothWays(
        _chance(t2v.num_right, t2v.num_items, "text_to_video"), _chance(v2t.num_right, v2t.num_items, "video_to_text")
    )


def _chance(num_right: Rows, num_items: int, direction: Direction) -> RetrievalMetrics:
    """Return the expectation for queries that have `num_right` [Q] right answers among `num_items`."""
    kinds, queries = np.unique(num_right, return_counts=True)
    share = queries / queries.sum()
    places = np.arange(num_items)
    found = np.zeros(num_items)  # found[k - 1] = P(the best right answer is among the first k)
    mean_rank = 0.0
    for kind, weight in zip(kinds, share, strict=True):
        wrong_at_place = np.clip((num_items - kind - places) / (num_items - places), 0.0, None)
        found += weight * (1.0 - np.cumprod(wrong_at_place))
        mean_rank += weight * (num_items + 1) / (kind + 1)
    ndcg, precision = all_right(_all_tied(kinds, num_items))
    return RetrievalMetrics(
        direction,
        "a random order of the gallery, expected",
        num_queries=len(num_right),
        num_items=num_items,
        recall={at: 100.0 * float(found[min(at, num_items) - 1]) for at in RECALL_AT},
        median_rank=_median(found),
        mean_rank=float(mean_rank),
        mean_reciprocal_rank=float((np.diff(found, prepend=0.0) / (places + 1)).sum()),
        ndcg_at_10=float((share * ndcg).sum()),
        mean_average_precision=float((share * precision).sum()),
    )


def _all_tied(num_right: Rows, num_items: int) -> Counts:
    """Return the counts of queries to which all items score the same."""
    shape = (len(num_right), int(num_right.max()))
    there = np.arange(shape[1]) < num_right[:, None]
    same, same_right = np.where(there, num_items, 0), np.where(there, num_right[:, None], 0)
    return Counts(np.arange(len(num_right)), num_items, num_right, np.zeros(shape, np.int64), same, same_right)


def _median(found: Values) -> float:
    """Return the median of the distribution P(rank <= k) = found[k - 1]; the middle where two ranks qualify."""
    low = int(np.searchsorted(found, 0.5 - 1e-12)) + 1
    high = int(np.searchsorted(found, 0.5 + 1e-12, side="right")) + 1
    return (low + high) / 2
