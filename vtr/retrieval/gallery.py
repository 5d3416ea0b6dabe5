"""What is searched: an index, and what is known of its rows. It never changes; a changed one takes its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtr.evaluation.postprocess import QueryBank
from vtr.index.search import Found, RetrievalIndex
from vtr.retrieval.facts import Facts, RowFacts
from vtr.retrieval.filters import ANY, Filters
from vtr.retrieval.hits import Stretch
from vtr.store.reader import FeatureStore
from vtr.types import Annotations, TextEmbeddings

WIDEN = 4
Mask = NDArray[np.bool_]


class Pick(NamedTuple):
    """A row of the gallery that answers.

    Attributes:
        row: which.
        score: `vtr.similarity`'s.
        query: the query it answers, counted from 0.
    """

    row: int
    score: float
    query: int


class Gallery:
    """An index with the facts of its videos.

    Args:
        index: the index.
        annotations: its videos and captions.
        bank: what training captions say about its videos; words are then answered in the order of QB-Norm.
        items: row id -> the part of a video that the row is; a row that is not in it is a whole video. None where all
            are.
        store: the videos' features; without it there are no moments, and fewer facts.
        generation: changes whenever the index does.
    """

    def __init__(
        self,
        index: RetrievalIndex,
        annotations: Annotations,
        bank: QueryBank | None = None,
        *,
        items: Mapping[str, Stretch] | None = None,
        store: FeatureStore | None = None,
        generation: str = "",
    ) -> None:
        self.index = index
        self.annotations = annotations
        self.bank = bank
        self.items = items
        self.store = store
        self.generation = generation
        ids = index.video_ids
        of_row = items or {}
        self.video_ids = tuple(of_row[row_id].video_id if row_id in of_row else row_id for row_id in ids)
        self.rows_of: dict[str, list[int]] = {}
        for row, video_id in enumerate(self.video_ids):
            self.rows_of.setdefault(video_id, []).append(row)

    @cached_property
    def facts(self) -> Facts:
        """What is known of its videos."""
        return Facts(self.annotations, self.store)

    @cached_property
    def row_facts(self) -> RowFacts:
        """What is known of each row."""
        return RowFacts(self.facts, self.video_ids)

    @cached_property
    def _first_captions(self) -> Mapping[str, str]:
        """Video id -> its first caption, where it has one; all captions by video would take far more memory."""
        return {caption.video_id: caption.text for caption in reversed(self.annotations.captions)}

    def path(self, video_id: str) -> str | None:
        """Return where a video of the gallery lies, None for any other id or where there is no file."""
        return self.annotations.video_by_id[video_id].path if video_id in self.rows_of else None

    def caption(self, video_id: str) -> str | None:
        """Return the first caption of a video, None where it has none."""
        return self._first_captions.get(video_id)

    def best(
        self, texts: TextEmbeddings, wanted: int, filters: Filters = ANY, *, normalised: bool = False
    ) -> list[list[Pick]]:
        """Return the best `wanted` videos of each text, each by its best row, best first.

        Args:
            texts: Q queries.
            wanted: how many videos, fewer where there are fewer.
            filters: which videos may answer.
            normalised: in the order of QB-Norm, if there is a bank.

        Raises:
            InputError: see `RowFacts.mask`.
        """
        mask = None if filters == ANY else self.row_facts.mask(filters)
        bank = self.bank if normalised else None
        breadth, rows = wanted, len(self.video_ids)
        while True:
            found = self._rows_for(texts, breadth, mask, bank)
            picks = [list(self._distinct(found, query)) for query in range(len(texts.ids))]
            if self.items is None or breadth >= rows or all(len(some) >= wanted for some in picks):
                return [some[:wanted] for some in picks]
            breadth *= WIDEN

    def _rows_for(self, texts: TextEmbeddings, wanted: int, mask: Mask | None, bank: QueryBank | None) -> Found:
        if bank is None:
            return self.index.videos_for(texts, wanted, among=mask)
        scores = self.index.scores(texts)  # of all: one that the index ranks low may come up when hubs go down
        keys = bank.normalise(scores)
        if mask is not None:
            keys = np.where(mask, keys, -np.inf)
        rows = np.argsort(-keys, axis=1, kind="stable")[:, :wanted]
        found = np.take_along_axis(scores, rows, axis=1)
        if mask is not None:
            rows = np.where(mask[rows], rows, -1)
        return Found(rows, found)

    def _distinct(self, found: Found, query: int) -> Iterator[Pick]:
        """Yield a query's rows, the first of each video."""
        seen: set[str] = set()
        for row, score in zip(found.rows[query].tolist(), found.scores[query].tolist(), strict=True):
            if row >= 0 and self.video_ids[row] not in seen:
                seen.add(self.video_ids[row])
                yield Pick(row, score, query)
