"""A part answered by its index: the ranks in the index's lists, held against the exact ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtr.embeddings import EmbeddedPart
from vtr.evaluation.metrics import RECALL_AT, both_ways
from vtr.evaluation.ranks import Counts, TieRule
from vtr.evaluation.results import IndexCheck
from vtr.evaluation.scores import Array, ScoreSource
from vtr.evaluation.table import WORDS
from vtr.index.search import Found, RetrievalIndex, Rows, text_rows, video_rows

LISTED = max(RECALL_AT)
"""How many results the index is asked for: enough for every R@K."""

BEST = 10
SAMPLE = 1000
"""Queries on which the index's recall and the candidates needed are measured."""

SAMPLE_BLOCK = 64
SHOWN_DIFFERENCES = 20
QUANTILES = {"median": 0.5, "99 %": 0.99, "most": 1.0}


def check_index(
    part: EmbeddedPart, index: RetrievalIndex, scores: ScoreSource, t2v: Counts, v2t: Counts, ties: TieRule
) -> IndexCheck:
    """Return what the index answers, and where that differs from the exact scores.

    A rank is read off the index's list where the list goes on beyond the right answer and all that tie with it. Where
    it does not, the right answer is further down, and its rank is counted from exact scores, not cut off: MedR and
    MeanR are exact however short the lists. A right answer that is missing although it scores higher than the list's
    end was lost by the index: it is ranked last, and no R@K but that of the whole gallery counts it.

    Args:
        part: the embeddings.
        index: their index.
        scores: their exact scores, which know the right pairs.
        t2v, v2t: the exact counts of the best right answers, of the protocol that ranks all captions.
        ties: the tie rule.

    Raises:
        WorkspaceError: an exact index does not hold the embeddings.
    """
    index.check(part)
    by_text = index.videos_for(part.texts, LISTED)
    by_video = index.captions_for(video_rows(part.videos, v2t.queries), LISTED)
    best_text, best_video = _best_scores(part, scores)
    own_videos = by_text.rows == part.video_of_text[:, None]
    own_texts = (part.video_of_text[by_video.rows] == v2t.queries[:, None]) & (by_video.rows >= 0)
    counts, told = [], {}
    differences: list[str] = []
    for direction, found, own, best, exact, ids in (
        ("text_to_video", by_text, own_videos, best_text, t2v, part.texts.ids),
        ("video_to_text", by_video, own_texts, best_video[v2t.queries], v2t, part.videos.ids),
    ):
        listed, certain = listed_counts(found.scores, own, best, exact)
        counts.append(listed)
        told[direction] = int(certain.sum())
        differences += _differences(direction, ids, listed, exact, ties)
    measured = {
        "text_to_video": _sample_texts(part, index, scores, t2v.queries),
        "video_to_text": _sample_videos(part, index, scores, v2t.queries),
    }
    protocols = (f"through the index ({index.kind})",) * 2
    return IndexCheck(
        index.kind,
        index.exact,
        LISTED,
        both_ways(*counts, ties=ties, protocols=protocols),
        told,
        {direction: found.recall for direction, found in measured.items()},
        {direction: found.candidates for direction, found in measured.items()},
        {direction: found.sampled for direction, found in measured.items()},
        len(differences),
        tuple(differences[:SHOWN_DIFFERENCES]),
    )


def listed_counts(
    listed: Array, own: NDArray[np.bool_], best: Array, exact: Counts
) -> tuple[Counts, NDArray[np.bool_]]:
    """Return where the best right answers stand by the lists, and for which queries the lists alone tell.

    Args:
        listed: [Q, K] scores of the listed items, falling; minus infinity where nothing was found.
        own: [Q, K] which of them are right answers.
        best: [Q] the exact score of the best right answer.
        exact: where it stands among all items.
    """
    there, last = own.any(axis=1), listed[:, -1]
    first = np.where(there, np.take_along_axis(listed, own.argmax(axis=1)[:, None], axis=1)[:, 0], -np.inf)
    told = there & ((first > last) | (listed.shape[1] == exact.num_items))
    lost = ~told & (best > last)
    tied = listed == first[:, None]
    higher, same, same_right = (
        np.where(told, by_list, np.where(lost, at_the_end, counted[:, 0]))[:, None]
        for by_list, at_the_end, counted in (
            ((listed > first[:, None]).sum(1), exact.num_items - 1, exact.higher),
            (tied.sum(1), 1, exact.same),
            ((tied & own).sum(1), 1, exact.same_right),
        )
    )
    return Counts(exact.queries, exact.num_items, exact.num_right, higher, same, same_right), told | lost


def _best_scores(part: EmbeddedPart, scores: ScoreSource) -> tuple[Array, Array]:
    """Return the score of each text's own video, and of each video's best own text; minus infinity without one."""
    texts, videos = np.arange(len(part.texts.ids)), part.video_of_text
    by_text = scores.pairs(texts, videos)
    by_video = np.full(len(part.videos.ids), -np.inf, by_text.dtype)
    np.maximum.at(by_video, videos, by_text)
    return by_text, by_video


def _differences(direction: str, ids: Sequence[str], listed: Counts, exact: Counts, ties: TieRule) -> list[str]:
    through, counted = listed.ranks(ties), exact.ranks(ties)
    return [
        f"{WORDS[direction]}, {ids[exact.queries[row]]}: rank {through[row]:g} through the index, "
        f"{counted[row]:g} from exact scores"
        for row in np.flatnonzero(through != counted).tolist()
    ]


@dataclass(frozen=True, slots=True)
class _Measured:
    """The index's recall in percent, quantiles of the candidates needed, and on how many queries."""

    recall: float
    candidates: dict[str, float]
    sampled: int


def _sample_texts(part: EmbeddedPart, index: RetrievalIndex, scores: ScoreSource, queries: Rows) -> _Measured:
    def score(rows: Rows) -> tuple[Array, Array]:
        return scores.rows(rows), (part.texts.weights[rows] @ _present(part).T).double().numpy()

    return _sampled(queries, score, lambda rows: index.videos_for(text_rows(part.texts, rows), BEST), _masked(part))


def _sample_videos(part: EmbeddedPart, index: RetrievalIndex, scores: ScoreSource, queries: Rows) -> _Measured:
    def score(rows: Rows) -> tuple[Array, Array]:
        return scores.columns(rows), (_present(part)[rows] @ part.texts.weights.T).double().numpy()

    return _sampled(queries, score, lambda rows: index.captions_for(video_rows(part.videos, rows), BEST), _masked(part))


def _present(part: EmbeddedPart) -> Tensor:
    return part.videos.present.to(part.texts.weights.dtype)


def _masked(part: EmbeddedPart) -> bool:
    return bool((part.videos.present != 1).any())


def _sampled(
    queries: Rows,
    score: Callable[[Rows], tuple[Array, Array]],
    search: Callable[[Rows], Found],
    masked: bool,
) -> _Measured:
    """Measure the index on some of the queries, evenly spread.

    Args:
        queries: the rows of all queries.
        score: rows [b] -> exact scores [b, N] and the score's denominators [b, N].
        search: rows [b] -> the index's best.
        masked: whether a video lacks an expert. Where none does, the inner product is the score.
    """
    chosen = queries[np.unique(np.linspace(0, len(queries) - 1, SAMPLE).astype(np.int64))]
    held, needed = [], []
    for at in range(0, len(chosen), SAMPLE_BLOCK):
        rows = chosen[at : at + SAMPLE_BLOCK]
        scores, denominators = score(rows)
        count = min(BEST, scores.shape[1])
        best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        least = np.take_along_axis(scores, best, axis=1).min(axis=1, keepdims=True)
        held.append((search(rows).scores >= least).sum(axis=1) / count)
        numerators = scores * denominators
        last = np.take_along_axis(numerators, best, axis=1).min(axis=1, keepdims=True)
        needed.append((numerators >= last).sum(axis=1) if masked else np.full(len(rows), count))
    counts = np.concatenate(needed)
    quantiles = {name: float(np.quantile(counts, share, method="higher")) for name, share in QUANTILES.items()}
    return _Measured(100.0 * float(np.concatenate(held).mean()), quantiles, len(chosen))
