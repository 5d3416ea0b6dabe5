"""Search: FAISS proposes candidates by the score's numerator, and the score itself ranks them.

With all experts present the numerator is the score. With experts masked it is not, and an item that FAISS ranks low may
score high. So the candidates are widened until no item outside them can score higher than the results: its numerator is
at most the last candidate's, and its denominator is bounded by the weights. Where that would take a large share of the
gallery, the whole of it is scored. Answers of a flat index are therefore exact. An approximate index does not know what
it missed: its candidates are ranked by the score, and that is all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from vtr.embeddings import EmbeddedPart
from vtr.errors import WorkspaceError
from vtr.index.build import FLAT, Loaded, as_float32, check_vectors, load_index
from vtr.similarity import TINY, ExactGallery, exact_scores, flat_texts, flat_videos
from vtr.types import TextEmbeddings, VideoEmbeddings

SMALL = 1000
"""In galleries up to this size FAISS lists all items, and there is nothing to widen."""

FIRST_CANDIDATES = 100
"""How many candidates larger galleries start with, at least; twice the results wanted, if that is more."""

WIDEN = 4
GATHER_COST = 200
"""Scoring one gathered candidate costs about as much as scoring so many items of the whole gallery in one product."""

MOST_LISTED = 2048
"""FAISS lists no more on a GPU. Beyond that the whole gallery is scored."""

MOST_QUERIES = 2048
"""Queries whose vectors are unfolded at once."""

BLOCK_SCORES = 1 << 23
"""Candidates looked at together, over all queries of a block."""

ROUNDING = 1e-5
"""What float32 inner products may be wrong by."""

Rows = NDArray[np.int64]
Number = TypeVar("Number", np.float32, np.int64)

Score = Callable[[Rows, Rows], NDArray[np.float32]]
"""(queries [q], candidates [q, K]) -> scores [q, K]."""

Ceiling = Callable[[Rows, NDArray[np.float32]], NDArray[np.float64]]
"""(queries [q], numerators [q]) -> the highest score possible with at most this numerator."""


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


class RetrievalIndex:
    """The indexes of one embedded part. Answers are exact where `exact` is True.

    Args:
        part: the embeddings that were indexed.
        loaded: the index of `flat_videos` and that of `flat_texts`.
    """

    def __init__(self, part: EmbeddedPart, loaded: Loaded) -> None:
        self.part = part
        self.kind = " ".join(filter(None, (loaded.factory, loaded.parameters)))
        self.exact = loaded.factory == FLAT
        self._videos = loaded.videos
        self._captions = loaded.captions
        self._gallery = ExactGallery(part.videos)
        self._patterns = torch.unique(part.videos.present.double(), dim=0)

    @classmethod
    def open(cls, folder: Path, part: EmbeddedPart, *, embed_output: str) -> RetrievalIndex:
        """Read what `build_index` wrote for these embeddings.

        Raises:
            WorkspaceError: it is missing, damaged, or of other embeddings.
        """
        return cls(part, load_index(folder, part, embed_output=embed_output))

    def check(self) -> None:
        """Check that exact indexes hold exactly the embeddings; approximate ones may hold something like them.

        Raises:
            WorkspaceError: they hold others.
        """
        if not self.exact:
            return
        check_vectors(self._videos, flat_videos(self.part.videos), "videos")
        if self._captions is not None:
            check_vectors(self._captions, flat_texts(self.part.texts), "captions")

    def videos_for(self, texts: TextEmbeddings, wanted: int) -> Found:
        """Return the best `wanted` videos of each text (all, where there are fewer).

        Raises:
            ValueError: the texts have other experts or another dimension than the gallery.
        """
        _check_shapes(texts, self.part.videos)
        flat = as_float32(flat_texts(texts))
        denominators = texts.weights.double() @ self._patterns.T  # [Q, patterns of present experts]

        def score(queries: Rows, candidates: Rows) -> NDArray[np.float32]:
            some = text_rows(texts, queries)
            if candidates.shape[1] == self._videos.ntotal:
                return _take(self._gallery.score(some).numpy(), candidates)
            found: NDArray[np.float32] = self._gallery.score_candidates(some, torch.from_numpy(candidates)).numpy()
            return found

        def ceiling(queries: Rows, last: NDArray[np.float32]) -> NDArray[np.float64]:
            return _ceiling(last, denominators[queries].numpy())

        return self._search(self._videos, flat, wanted, score, ceiling)

    def scores(self, texts: TextEmbeddings) -> NDArray[np.float32]:
        """Return the exact scores [Q, V] of some texts with every video of the gallery.

        Raises:
            ValueError: the texts have other experts or another dimension than the gallery.
        """
        found: NDArray[np.float32] = self._gallery.score(texts).numpy()
        return found

    def captions_for(self, videos: VideoEmbeddings, wanted: int) -> Found:
        """Return the best `wanted` captions of each video (all, where there are fewer).

        Raises:
            WorkspaceError: the part has no captions.
            ValueError: the videos have other experts or another dimension than the captions.
        """
        if self._captions is None:
            raise WorkspaceError(
                f"{self.part.coverage} has no captions to answer with. Search it with words, or prepare it with "
                "--captions and train, embed and index again."
            )
        texts, total = self.part.texts, self._captions.ntotal
        _check_shapes(texts, videos)
        flat = as_float32(flat_videos(videos))

        def score(queries: Rows, candidates: Rows) -> NDArray[np.float32]:
            asked = video_rows(videos, queries)
            if candidates.shape[1] == total:
                return _take(exact_scores(texts, asked).numpy().T, candidates)
            pairs = (
                exact_scores(text_rows(texts, rows), video_rows(asked, np.asarray([at])))[:, 0]
                for at, rows in enumerate(candidates)
            )
            return torch.stack(list(pairs)).numpy()

        def ceiling(queries: Rows, last: NDArray[np.float32]) -> NDArray[np.float64]:
            present = videos.present[torch.from_numpy(queries)].to(texts.weights.dtype)
            return _ceiling(last, (present @ texts.weights.T).double().numpy())

        return self._search(self._captions, flat, wanted, score, ceiling)

    def _search(self, index: faiss.Index, flat: Any, wanted: int, score: Score, ceiling: Ceiling) -> Found:
        if self.exact:
            return _search(index, flat, wanted, score, ceiling)
        return _search_approximately(index, flat, wanted, score)


def text_rows(texts: TextEmbeddings, rows: Rows) -> TextEmbeddings:
    """Return some of the texts, in the order of `rows`."""
    chosen = torch.from_numpy(rows)
    return TextEmbeddings(tuple(texts.ids[row] for row in rows), texts.vectors[chosen], texts.weights[chosen])


def video_rows(videos: VideoEmbeddings, rows: Rows) -> VideoEmbeddings:
    """Return some of the videos, in the order of `rows`."""
    chosen = torch.from_numpy(rows)
    return VideoEmbeddings(tuple(videos.ids[row] for row in rows), videos.vectors[chosen], videos.present[chosen])


def _search(
    index: faiss.Index,
    flat: Any,
    wanted: int,
    score: Score,
    ceiling: Ceiling,
) -> Found:
    """Return the best `wanted` rows of each query to an exact index.

    Args:
        flat: [Q, E*D] what FAISS is asked with.
        score, ceiling: see there.
    """
    total = index.ntotal
    wanted = min(wanted, total)
    rows, scores = np.empty((len(flat), wanted), np.int64), np.empty((len(flat), wanted), np.float32)
    left: Rows = np.arange(len(flat))
    breadth = _worth_listing(max(FIRST_CANDIDATES, 2 * wanted), total)
    while len(left):
        unsure = [left[:0]]
        for queries in _blocks(left, breadth):
            if breadth == total > SMALL:
                candidates = np.broadcast_to(np.arange(total), (len(queries), total))
            else:
                numerators, candidates = index.search(flat[queries], breadth)
            rows[queries], scores[queries] = _best(candidates, score(queries, candidates), wanted)
            if breadth < total:
                beaten = scores[queries, -1] < ceiling(queries, numerators[:, -1]) + ROUNDING
                unsure.append(queries[beaten])
        left = np.concatenate(unsure)
        breadth = _worth_listing(WIDEN * breadth, total)
    return Found(rows, scores)


def _worth_listing(breadth: int, total: int) -> int:
    """Return how many candidates to list: so many, or all where scoring them one by one would take longer."""
    return breadth if total > SMALL and GATHER_COST * breadth < total and breadth <= MOST_LISTED else total


def _search_approximately(index: faiss.Index, flat: Any, wanted: int, score: Score) -> Found:
    """Return the best `wanted` rows of each query among an approximate index's candidates.

    Args:
        flat: [Q, E*D] what FAISS is asked with.
        score: see there.
    """
    total = index.ntotal
    wanted, breadth = min(wanted, total), min(total, max(FIRST_CANDIDATES, 2 * wanted))
    rows, scores = np.empty((len(flat), wanted), np.int64), np.empty((len(flat), wanted), np.float32)
    for queries in _blocks(np.arange(len(flat)), breadth):
        _, candidates = index.search(flat[queries], breadth)
        missing = candidates < 0
        found = np.where(missing, np.float32(-np.inf), score(queries, np.where(missing, 0, candidates)))
        best, scores[queries] = _best(np.where(missing, total, candidates), found, wanted)
        rows[queries] = np.where(best < total, best, -1)
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


def _ceiling(last: NDArray[np.float32], denominators: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [Q]: the highest score an item can have whose numerator is at most `last` [Q].

    Args:
        denominators: [Q, n] those that occur in the gallery; at TINY and below the score is 0.
    """
    something = denominators > TINY
    least = np.where(something, denominators, np.inf).min(1)
    most = np.where(something, denominators, 0.0).max(1)
    bound = np.where(last > 0, last / least, last / np.maximum(most, TINY))
    return np.asarray(np.where(something.all(1), bound, np.maximum(bound, 0.0)))


def _take(values: NDArray[Number], columns: Rows) -> NDArray[Number]:
    return np.take_along_axis(values, columns, axis=1)


def _blocks(queries: Rows, breadth: int) -> Iterator[Rows]:
    step = max(1, min(MOST_QUERIES, BLOCK_SCORES // max(1, breadth)))
    for at in range(0, len(queries), step):
        yield queries[at : at + step]


def _check_shapes(texts: TextEmbeddings, videos: VideoEmbeddings) -> None:
    if texts.vectors.shape[1:] != videos.vectors.shape[1:]:
        raise ValueError(
            f"text vectors {tuple(texts.vectors.shape)} and video vectors {tuple(videos.vectors.shape)}: "
            "[T, E, D] and [V, E, D] with the same experts expected"
        )
