"""Ranks to R@K, MedR, MeanR and RSUM, and what a random ranking would get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vtr.evaluation import ranks as ranking
from vtr.evaluation.ranks import Owners, Ranks, Scores
from vtr.types import RetrievalMetrics

RECALL_AT = (1, 5, 10, 50)
RSUM_AT = (1, 5, 10)
TIE_RULE = "ties share the mean of their places"

Direction = Literal["text_to_video", "video_to_text"]


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


def metrics(ranks: Ranks, *, direction: Direction, num_items: int, protocol: str = TIE_RULE) -> RetrievalMetrics:
    """Return R@1/5/10/50 in percent, MedR and MeanR.

    Args:
        ranks: [Q] ranks of the right answers, 1 is best.
        direction: what was asked with what.
        num_items: how many items were ranked for each query.
        protocol: the rules that made the ranks, in words.

    Raises:
        ValueError: there are no ranks, or one lies outside 1 to `num_items`.
    """
    if not len(ranks):
        raise ValueError("there are no ranks, at least one query was expected")
    if not (ranks.min() >= 1 and ranks.max() <= num_items):
        raise ValueError(f"ranks lie in {ranks.min()} to {ranks.max()}, 1 to {num_items} was expected")
    return RetrievalMetrics(
        direction,
        protocol,
        num_queries=len(ranks),
        num_items=num_items,
        recall={at: 100.0 * float(hits(ranks, at).sum()) / len(ranks) for at in RECALL_AT},
        median_rank=float(np.median(ranks)),
        mean_rank=float(np.mean(ranks)),
    )


def evaluate_scores(scores: Scores, video_of_text: Owners, *, protocol: str = TIE_RULE) -> BothWays:
    """Return the metrics of text-to-video and of video-to-text retrieval.

    Args:
        scores: [T, V], texts in rows, videos in columns.
        video_of_text: [T], the column of each text's video.
        protocol: the rules behind the numbers, in words.

    Raises:
        InputError: scores are NaN.
        ValueError: the shapes do not fit, or there are no texts.
    """
    t2v = ranking.text_to_video(scores, video_of_text)
    v2t = ranking.video_to_text(scores, video_of_text)
    return BothWays(
        metrics(t2v, direction="text_to_video", num_items=scores.shape[1], protocol=protocol),
        metrics(v2t, direction="video_to_text", num_items=scores.shape[0], protocol=protocol),
    )


def rsum(t2v: RetrievalMetrics, v2t: RetrievalMetrics) -> float:
    """Return the sum of R@1, R@5 and R@10 of both directions, 0 to 600."""
    return sum(direction.recall[at] for direction in (t2v, v2t) for at in RSUM_AT)


def chance(video_of_text: Owners, num_videos: int) -> BothWays:
    """Return what a uniformly random order of the gallery is expected to get, text-to-video and video-to-text.

    A video with c of the T captions is found in the top K unless the K places hold none of the c:
    P = 1 - C(T - c, K) / C(T, K). Its mean rank is (T + 1) / (c + 1). A text has one right video, so there c = 1.

    Args:
        video_of_text: [T], the row of each text's video.
        num_videos: V, the size of the gallery.

    Raises:
        ValueError: there are no texts.
    """
    if not len(video_of_text):
        raise ValueError("there are no texts, at least one query was expected")
    _, captions_per_video = np.unique(np.asarray(video_of_text), return_counts=True)
    num_texts = len(video_of_text)
    return BothWays(
        _chance(np.ones(num_texts, np.int64), num_videos, "text_to_video"),
        _chance(captions_per_video, num_texts, "video_to_text"),
    )


def _chance(right: NDArray[np.int64], num_items: int, direction: Direction) -> RetrievalMetrics:
    """Return the expectation for queries that have `right` [Q] right answers among `num_items`."""
    counts, queries = np.unique(right, return_counts=True)
    places = np.arange(num_items)
    found = np.zeros(num_items)  # found[k - 1] = P(the best right answer is among the first k)
    mean_rank = 0.0
    for count, weight in zip(counts, queries / queries.sum(), strict=True):
        wrong_at_place = np.clip((num_items - count - places) / (num_items - places), 0.0, None)
        found += weight * (1.0 - np.cumprod(wrong_at_place))
        mean_rank += weight * (num_items + 1) / (count + 1)
    return RetrievalMetrics(
        direction,
        "a random order of the gallery, expected",
        num_queries=len(right),
        num_items=num_items,
        recall={at: 100.0 * float(found[min(at, num_items) - 1]) for at in RECALL_AT},
        median_rank=_median(found),
        mean_rank=float(mean_rank),
    )


def _median(found: NDArray[np.float64]) -> float:
    """Return the median of the distribution P(rank <= k) = found[k - 1]; the middle where two ranks qualify."""
    low = int(np.searchsorted(found, 0.5 - 1e-12)) + 1
    high = int(np.searchsorted(found, 0.5 + 1e-12, side="right")) + 1
    return (low + high) / 2
