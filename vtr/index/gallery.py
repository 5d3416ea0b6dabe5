"""The items of an index over all its segments, without those that were removed: rows count what is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vtr.index.gpu import MOST_LISTED, to_gpu
from vtr.index.kinds import selecting
from vtr.index.segment import Items, Rows, Vectors, rows_at_once
from vtr.similarity import TINY

OVERLOOKED = 256
"""Up to so many removed videos are listed with the others and passed over; to leave out more, the rest is copied."""

WEIGHTS_AT_ONCE = 1 << 16
"""Items whose weights are added up at once."""


SCORES_AT_ONCE = 1 << 23
"""Inner products, over all queries, that are held at once when the nearest are looked for: 32 MiB."""


class Denominators(NamedTuple):
    """What weights add up to over all items, on some experts.

    Attributes:
        least, most: of the sums above `TINY`; infinity and 0 where there are none.
        always: whether all are above.
    """

    least: float
    most: float
    always: bool


class Gallery:
    """Videos, or captions, that are searched. Rows are in the order of the segments, and of the items in each.

    Args:
        items: of each segment, the main one first.
        live: of each segment, the rows that count; None for all.
        gpu: search the main segment on a GPU.
    """

    def __init__(self, items: Sequence[Items], live: Sequence[Rows | None], *, gpu: bool = False) -> None:
        self.items = tuple(items)
        self._live = tuple(live)
        counts = [len(some) if rows is None else len(rows) for some, rows in zip(items, live, strict=True)]
        self._starts = np.cumsum([0, *counts])
        self.total = int(self._starts[-1])
        self.width = self.items[0].vectors.shape[1]
        self.experts = self.items[0].per_expert.shape[1]
        self._denominators: dict[tuple[float, ...], Denominators] = {}
        self._gpu: Any = to_gpu(self.items[0]) if gpu and live[0] is None and len(items[0]) else None

    @property
    def exact(self) -> bool:
        """Whether `nearest` misses nothing in any segment."""
        return self.items[0].approximate is None

    def column_at(self, name: str, rows: Rows) -> tuple[str, ...]:
        """Return a column of some items; the others' strings stay in the file."""
        found = np.empty(len(rows), object)
        for here, items, local in self._parts(rows):
            found[here] = items.table[name].take(local).to_pylist()
        return tuple(found.tolist())

    def column(self, name: str) -> tuple[str, ...]:
        """Return a column of all items: "id", or of captions "text"."""
        found: list[str] = []
        for items, live in zip(self.items, self._live, strict=True):
            column = items.table[name]
            found += (column if live is None else column.take(live)).to_pylist()
        return tuple(found)

    def _parts(self, rows: Rows) -> Iterator[tuple[Any, Items, Rows]]:
        """Yield which of `rows` lie in a segment, its items, and their rows there."""
        of = np.searchsorted(self._starts, rows, "right") - 1
        for at, (items, live) in enumerate(zip(self.items, self._live, strict=True)):
            if len(here := np.flatnonzero(of == at)):
                local = rows[here] - self._starts[at]
                yield here, items, local if live is None else live[local]

    def gather(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return vectors [n, E, D] and availability or weights [n, E] of some rows, copied."""
        vectors = np.empty((len(rows), self.width), np.float32)
        per_expert = np.empty((len(rows), self.experts), np.float32)
        dim = self.width // self.experts
        for here, items, local in self._parts(rows):
            vectors[here], per_expert[here] = items.vectors[local], items.per_expert[local]
        return torch.from_numpy(vectors).reshape(len(rows), self.experts, dim), torch.from_numpy(per_expert)

    def denominators(self, present: tuple[float, ...]) -> Denominators:
        """Return what the items' weights add up to on the experts of a video [E]; it is measured once."""
        if (known := self._denominators.get(present)) is None:
            least, most, always = np.inf, 0.0, True
            for items, live in zip(self.items, self._live, strict=True):
                for at in range(0, len(items) if live is None else len(live), WEIGHTS_AT_ONCE):
                    rows: Any = slice(at, at + WEIGHTS_AT_ONCE)
                    weights = items.per_expert[rows if live is None else live[rows]]
                    sums = np.asarray(weights, np.float64) @ np.asarray(present)
                    there = sums[sums > TINY]
                    always = always and len(there) == len(sums)
                    least, most = there.min(initial=least), there.max(initial=most)
            known = self._denominators[present] = Denominators(float(least), float(most), always)
        return known

    def whole(self) -> tuple[Tensor, Tensor]:
        """Return vectors [N, E, D] and availability or weights [N, E] of all rows: mapped where nothing was changed."""
        if len(self.items) > 1 or self._live[0] is not None:
            return self.gather(np.arange(self.total))
        per_expert = torch.from_numpy(np.asarray(self.items[0].per_expert))
        dim = self.width // self.experts
        return torch.from_numpy(np.asarray(self.items[0].vectors)).reshape(self.total, self.experts, dim), per_expert

    def blocks(self, allowed: Rows | None = None) -> Iterator[Rows]:
        """Yield all rows, or those allowed, some at a time."""
        step, total = rows_at_once(self.width), self.total if allowed is None else len(allowed)
        for at in range(0, total, step):
            rows = np.arange(at, min(at + step, total))
            yield rows if allowed is None else allowed[rows]

    def nearest(self, asked: Vectors, count: int, allowed: Rows | None = None) -> tuple[Vectors, Rows]:
        """Return the largest inner products [Q, count] with the folded vectors, and their rows; nothing is missed.

        Args:
            asked: [Q, E*D].
            count: at most as many as there are rows, or allowed rows.
            allowed: rising rows to look at, None for all.
        """
        best = _Best(len(asked), count)
        if allowed is None:
            for at in range(len(self.items)):
                self._scan(asked, at, best)
        else:
            for rows in self.blocks(allowed):
                for here, items, local in self._parts(rows):
                    best.add(_largest(asked, items.fold(local), count), rows[here])
        return best.numerators, best.rows

    def _scan(self, asked: Vectors, at: int, best: _Best) -> None:
        """Look at all rows of a segment."""
        items, live, start = self.items[at], self._live[at], int(self._starts[at])
        count = best.rows.shape[1]
        if not len(items) or (live is not None and not len(live)):
            return
        if live is None and at == 0 and self._gpu is not None and items.approximate is None and count <= MOST_LISTED:
            best.add(self._gpu.search(asked, min(count, len(items))), start)
        elif live is None and items.folded:
            best.add(_largest(asked, items.vectors, count), start)
        elif live is not None and items.folded and len(items) - len(live) <= OVERLOOKED:
            numerators, found = _largest(asked, items.vectors, count + len(items) - len(live))
            place = np.minimum(np.searchsorted(live, found), len(live) - 1)
            best.add((np.where(live[place] == found, numerators, np.float32(-np.inf)), place), start)
        else:
            total, step = len(items) if live is None else len(live), rows_at_once(self.width)
            for first in range(0, total, step):
                rows: Any = slice(first, min(first + step, total))
                best.add(_largest(asked, items.fold(rows if live is None else live[rows]), count), start + first)

    def candidates(self, asked: Vectors, count: int, allowed: Rows | None = None) -> Rows | None:
        """Return candidates [Q, n] by an approximate main segment, and all others exactly; -1 where there are fewer.

        None says that this kind cannot be restricted to some rows, and that `nearest` is to be asked.
        """
        main, live = self.items[0], self._live[0]
        index: Any = main.approximate
        inside = self._starts[1]
        wanted = live
        if allowed is not None:
            local = allowed[allowed < inside]
            wanted = local if live is None else live[local]
        count_main = min(count, len(main) if wanted is None else len(wanted))
        found = np.zeros((len(asked), 0), np.int64)
        if count_main:
            if wanted is None:
                on_gpu = self._gpu is not None and count_main <= MOST_LISTED
                _, found = (self._gpu if on_gpu else index).search(asked, count_main)
            else:
                if (parameters := selecting(index, wanted)) is None:
                    return None
                _, found = index.search(asked, count_main, params=parameters)
            if live is not None:
                found = np.where(found < 0, -1, np.searchsorted(live, found))
        rest = np.arange(inside, self.total) if allowed is None else allowed[allowed >= inside]
        if not len(rest):
            return found
        _, others = self.nearest(asked, min(count, len(rest)), rest)
        return np.concatenate([found, others], axis=1)


class _Best:
    """The best so far of Q queries, in no order until all were added."""

    def __init__(self, queries: int, count: int) -> None:
        self.numerators = np.full((queries, count), -np.inf, np.float32)
        self.rows = np.full((queries, count), -1, np.int64)

    def add(self, nearest: tuple[Vectors, Rows], rows: Rows | int) -> None:
        """Add numerators and places of what was found among some rows, or among those from a row on."""
        numerators, found = nearest
        found = found + rows if isinstance(rows, int) else rows[found]
        both = np.concatenate([self.numerators, numerators], axis=1), np.concatenate([self.rows, found], axis=1)
        order = np.argsort(-both[0], axis=1, kind="stable")[:, : self.rows.shape[1]]
        self.numerators, self.rows = (np.take_along_axis(held, order, axis=1) for held in both)


def _largest(asked: Vectors, vectors: Vectors, count: int) -> tuple[Vectors, Rows]:
    """Return the largest inner products [Q, k] of queries with vectors, and their rows; k is `count`, or all there are.

    A product of matrices with numpy, some vectors at a time where they lie, and the best of each block by torch: on all
    cores, also for one query, which `faiss.knn` answers on one; and without its heaps, which cost more than the
    products where there are many queries.
    """
    best = _Best(len(asked), min(count, len(vectors)))
    step = max(1, SCORES_AT_ONCE // max(1, len(asked)))
    for at in range(0, len(vectors), step):
        scores = torch.from_numpy(asked @ vectors[at : at + step].T)
        found = scores.topk(min(best.rows.shape[1], scores.shape[1]), sorted=False)
        best.add((found.values.numpy(), found.indices.numpy()), at)
    return best.numerators, best.rows
