"""Search: FAISS proposes candidates by the score's numerator, and the score itself ranks them.

With all experts present the numerator is the score, and a few candidates more than the results make up for rounding.
With experts masked it is not, and an item that FAISS ranks low may score high. So the candidates are widened until no
item outside them can score higher than the results: its numerator is at most the last candidate's, and its denominator
is bounded by the weights. Where that would take a large share of the gallery, the whole of it is scored. Answers of a
flat index are therefore exact. An approximate index does not know what it missed: as many candidates as were measured
to be needed are ranked by the score, and that is all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtr.index.gallery import Denominators, Gallery
from vtr.index.segment import Rows, Vectors, rows_at_once
from vtr.similarity import TINY, ExactGallery, exact_pairs, exact_scores, flat_texts, flat_videos
from vtr.types import TextEmbeddings, VideoEmbeddings

SMALL = 1000
"""Galleries up to this size are scored as a whole, and there is nothing to widen."""

FIRST_CANDIDATES = 100
"""How many candidates larger galleries start with, at least; twice the results wanted, if that is more."""

SPARE = 8
"""How many more than the results wanted they start with where numerators rank as scores do."""

EVEN = 1e-6
"""Denominators that differ by no larger share of themselves count as one."""

WIDEN = 4
GATHER_COST = 200
"""Scoring one gathered candidate costs about as much as scoring so many items of the whole gallery in one product."""

MOST_WIDENED = 2048
"""Beyond so many candidates the whole gallery is scored."""

MOST_QUERIES = 2048
"""Queries whose vectors are unfolded at once."""

BLOCK_SCORES = 1 << 23
"""Candidates looked at together, over all queries of a block."""

ROUNDING = 1e-5
"""What float32 inner products may be wrong by."""


@dataclass(frozen=True, slots=True)
class Found:
    """The best items of Q queries.

    Attributes:
        rows: [Q, K] int64, rows of the gallery, best first; equal scores in the gallery's order; -1 where an
            approximate index found fewer than K.
        scores: [Q, K] float32, `vtr.similarity`'s scores, descending; minus infinity where nothing was found.
    """

    rows: Rows
    scores: NDArray[np.float32]


class Asked(Protocol):
    """Q queries to a gallery."""

    flat: Vectors
    """[Q, E*D], what FAISS is asked with."""

    def score(self, queries: Rows, vectors: Tensor, per_expert: Tensor) -> NDArray[np.float32]:
        """Return the scores [q, n] of some queries with n items."""
        ...

    def score_pairs(self, queries: Rows, vectors: Tensor, per_expert: Tensor) -> NDArray[np.float32]:
        """Return the scores [n] of n queries, each with the item in its place."""
        ...

    def score_all(self, queries: Rows) -> NDArray[np.float32] | None:
        """Return the scores [q, N] of some queries with all items, None where the gallery is not held for that."""
        ...

    def even(self) -> bool:
        """Return whether all items have one denominator, so that numerators rank as scores do but for rounding."""
        ...

    def ceiling(self, queries: Rows, last: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return [q]: the highest score possible with at most these numerators."""
        ...


class Words:
    """Texts that ask for videos."""

    def __init__(self, texts: TextEmbeddings, held: ExactGallery | None, present: Tensor) -> None:
        self.flat = as_float32(flat_texts(texts))
        self._texts, self._held = texts, held
        self._denominators = texts.weights.double() @ present.T  # [Q, patterns of present experts]

    def score(self, queries: Rows, vectors: Tensor, per_expert: Tensor) -> NDArray[np.float32]:
        """Return the scores [q, n]; see `Asked`."""
        videos = VideoEmbeddings(("",) * len(vectors), vectors, per_expert)
        return _numpy(exact_scores(text_rows(self._texts, queries), videos))

    def score_pairs(self, queries: Rows, vectors: Tensor, per_expert: Tensor) -> NDArray[np.float32]:
        """Return the scores [n]; see `Asked`."""
        videos = VideoEmbeddings(("",) * len(vectors), vectors, per_expert)
        return _numpy(exact_pairs(self._texts, videos, torch.from_numpy(queries), torch.arange(len(vectors))))

    def score_all(self, queries: Rows) -> NDArray[np.float32] | None:
        """Return the scores [q, N] or None; see `Asked`."""
        return None if self._held is None else _numpy(self._held.score(text_rows(self._texts, queries)))

    def even(self) -> bool:
        """Return whether numerators rank as scores do; see `Asked`."""
        return self._denominators.shape[1] == 1

    def ceiling(self, queries: Rows, last: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the highest scores possible, [q]; see `Asked`."""
        denominators = self._denominators[queries]
        something = denominators > TINY
        least = torch.where(something, denominators, torch.inf).amin(1)
        most = torch.where(something, denominators, 0.0).amax(1)
        return _ceiling(last, least.numpy(), most.numpy(), something.all(1).numpy())


class Clips:
    """Videos that ask for captions."""

    def __init__(self, videos: VideoEmbeddings, captions: Gallery) -> None:
        self.flat = as_float32(flat_videos(videos))
        self._videos, self._captions = videos, captions
        kinds, self._kind = torch.unique(videos.present.float(), dim=0, return_inverse=True)
        self._kinds = [tuple(kind) for kind in kinds.tolist()]

    def score(self, queries: Rows, vectors: Tensor, per_expert: Tensor) -> NDArray[np.float32]:
        """Return the scores [q, n]; see `Asked`."""
        texts = TextEmbeddings(("",) * len(vectors), vectors, per_expert)
        return _numpy(exact_scores(texts, video_rows(self._videos, queries)).T)

    def score_pairs(self, queries: Rows, vectors: Tensor, per_expert: Tensor) -> NDArray[np.float32]:
        """Return the scores [n]; see `Asked`."""
        texts = TextEmbeddings(("",) * len(vectors), vectors, per_expert)
        return _numpy(exact_pairs(texts, self._videos, torch.arange(len(vectors)), torch.from_numpy(queries)))

    def score_all(self, queries: Rows) -> NDArray[np.float32] | None:
        """Return the scores [q, N] or None; see `Asked`."""
        del queries
        return None

    def even(self) -> bool:
        """Return whether numerators rank as scores do; see `Asked`."""
        return all(always and most - least <= EVEN * most for least, most, always in self._bounds)

    def ceiling(self, queries: Rows, last: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the highest scores possible, [q]; see `Asked`."""
        bounds = np.asarray(self._bounds, np.float64)[self._kind.numpy()[queries]]
        return _ceiling(last, bounds[:, 0], bounds[:, 1], bounds[:, 2] > 0)

    @cached_property
    def _bounds(self) -> list[Denominators]:
        return [self._captions.denominators(kind) for kind in self._kinds]


def as_float32(vectors: Tensor) -> Any:
    """Return the array FAISS wants: float32, on the CPU, rows contiguous."""
    return np.ascontiguousarray(vectors.cpu().numpy(), np.float32)


def text_rows(texts: TextEmbeddings, rows: Rows) -> TextEmbeddings:
    """Return some of the texts, in the order of `rows`."""
    chosen = torch.from_numpy(rows)
    return TextEmbeddings(tuple(texts.ids[row] for row in rows), texts.vectors[chosen], texts.weights[chosen])


def video_rows(videos: VideoEmbeddings, rows: Rows) -> VideoEmbeddings:
    """Return some of the videos, in the order of `rows`."""
    chosen = torch.from_numpy(rows)
    return VideoEmbeddings(tuple(videos.ids[row] for row in rows), videos.vectors[chosen], videos.present[chosen])


def search_exactly(gallery: Gallery, asked: Asked, wanted: int, allowed: Rows | None) -> Found:
    """Return the best `wanted` rows of each query, missing nothing.

    Args:
        allowed: rising rows to look at, None for all.
    """
    everything = np.arange(gallery.total) if allowed is None else allowed
    total = len(everything)
    wanted, count = min(wanted, total), len(asked.flat)
    rows, scores = np.empty((count, wanted), np.int64), np.empty((count, wanted), np.float32)
    left: Rows = np.arange(count if wanted else 0)
    breadth = total
    if total > SMALL and wanted:
        spared = wanted + SPARE if asked.even() else max(FIRST_CANDIDATES, 2 * wanted)
        breadth = _worth_listing(spared, total)
    while len(left):
        unsure = [left[:0]]
        for queries in _blocks(left, breadth):
            if breadth == total:
                candidates = np.broadcast_to(everything, (len(queries), total))
                some = all_scores(gallery, asked, queries, allowed)
                rows[queries], scores[queries] = _best(candidates, some, wanted)
                continue
            numerators, candidates = gallery.nearest(asked.flat[queries], breadth, allowed)
            some = candidate_scores(gallery, asked, queries, candidates)
            rows[queries], scores[queries] = _best(candidates, some, wanted)
            beaten = scores[queries, -1] < asked.ceiling(queries, numerators[:, -1]) + ROUNDING
            unsure.append(queries[beaten])
        left = np.concatenate(unsure)
        breadth = _worth_listing(WIDEN * breadth, total)
    return Found(rows, scores)


def _worth_listing(breadth: int, total: int) -> int:
    """Return how many candidates to list: so many, or all where scoring them one by one would take longer."""
    return breadth if GATHER_COST * breadth < total and breadth <= MOST_WIDENED else total


def all_scores(gallery: Gallery, asked: Asked, queries: Rows, allowed: Rows | None) -> NDArray[np.float32]:
    """Return the scores [q, n] of some queries with all rows, or with those allowed."""
    if allowed is None and (scores := asked.score_all(queries)) is not None:
        return scores
    blocks = [asked.score(queries, *gallery.gather(rows)) for rows in gallery.blocks(allowed)]
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(queries), 0), np.float32)


def candidate_scores(gallery: Gallery, asked: Asked, queries: Rows, candidates: Rows) -> NDArray[np.float32]:
    """Return the scores [q, K] of each query with its own candidates [q, K]; minus infinity where one is -1."""
    scores = np.empty(candidates.shape, np.float32)
    at_once = max(1, rows_at_once(gallery.width) // max(1, candidates.shape[1]))
    for at in range(0, len(candidates), at_once):
        rows = candidates[at : at + at_once]
        pairs = np.repeat(queries[at : at + at_once], rows.shape[1])
        scores[at : at + at_once] = asked.score_pairs(pairs, *gallery.gather(np.maximum(rows, 0).ravel())).reshape(
            rows.shape
        )
    return np.where(candidates < 0, np.float32(-np.inf), scores)


def search_approximately(gallery: Gallery, asked: Asked, wanted: int, allowed: Rows | None, depth: int) -> Found | None:
    """Return the best `wanted` rows of each query among an approximate index's candidates; None where it cannot tell.

    Args:
        allowed: rising rows to look at, None for all.
        depth: the candidates that ten results take.
    """
    total = gallery.total if allowed is None else len(allowed)
    wanted = min(wanted, total)
    breadth = min(total, max(depth, -(-depth * wanted // 10), wanted))
    count = len(asked.flat)
    rows, scores = np.empty((count, wanted), np.int64), np.empty((count, wanted), np.float32)
    for queries in _blocks(np.arange(count), breadth):
        candidates = gallery.candidates(asked.flat[queries], breadth, allowed)
        if candidates is None:
            return None
        found = candidate_scores(gallery, asked, queries, candidates)
        best, scores[queries] = _best(np.where(candidates < 0, gallery.total, candidates), found, wanted)
        rows[queries] = np.where(best < gallery.total, best, -1)
    return Found(rows, scores)


def _best(candidates: Rows, scores: NDArray[np.float32], wanted: int) -> tuple[Rows, NDArray[np.float32]]:
    """Return the best `wanted` candidates of each query and their scores; equal scores in the gallery's order.

    Score and row are packed into one integer, so that the order is whole and a partial sort finds the best.
    """
    bits = (scores + np.float32(0)).view(np.int32).astype(np.int64)  # + 0 makes -0.0 equal to 0.0
    falling = np.where(bits < 0, bits & 0x7FFFFFFF, -bits)  # grows as the score falls
    keys = (falling << 32) + candidates
    if wanted < keys.shape[1]:
        keys = np.partition(keys, wanted - 1, axis=1)[:, :wanted]
    keys.sort(axis=1)
    falling = keys >> 32
    bits = np.where(falling > 0, falling | -0x80000000, -falling).astype(np.int32)
    return keys & 0xFFFFFFFF, bits.view(np.float32)


def _ceiling(
    last: NDArray[np.float32], least: NDArray[np.float64], most: NDArray[np.float64], always: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return [Q]: the highest score an item can have whose numerator is at most `last` [Q].

    Args:
        least, most: [Q] of the denominators above TINY that occur in the gallery.
        always: [Q] whether all are above; at TINY and below the score is 0.
    """
    bound = np.where(last > 0, last / least, last / np.maximum(most, TINY))
    return np.asarray(np.where(always, bound, np.maximum(bound, 0.0)))


def _blocks(queries: Rows, breadth: int) -> Iterator[Rows]:
    step = max(1, min(MOST_QUERIES, BLOCK_SCORES // max(1, breadth)))
    for at in range(0, len(queries), step):
        yield queries[at : at + step]


def _numpy(scores: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = scores.numpy()
    return found
