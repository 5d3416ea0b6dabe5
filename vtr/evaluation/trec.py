"""TREC run and qrels files, so that trec_eval and tools like it can check our figures.

Written from a ranking without ties, with a depth that covers the gallery, trec_eval's means over the queries are ours:
success_1, success_5 and success_10 times 100 are R@1, R@5 and R@10, recip_rank is MRR, map is mAP and ndcg_cut_10 is
nDCG@10. A smaller depth makes right answers beyond it count as never found. With ties the figures differ: trec_eval
gives each item a place of its own, by its id, where our ranks share the mean of the places.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from vtr.errors import InputError, some
from vtr.files import atomic_file


def trec_id(name: str) -> str:
    """Return an id without white space: that and '%' become %20, %25 and so on; `urllib.parse.unquote` reverses it.

    Raises:
        ValueError: the id is empty, which no column can hold.
    """
    if not name:
        raise ValueError("an id is empty, at least one character was expected")
    return re.sub(r"[\s%]", lambda found: quote(found[0]), name)


def write_run(
    path: Path,
    blocks: Iterable[NDArray[np.floating[Any]]],
    query_ids: Sequence[str],
    item_ids: Sequence[str],
    *,
    depth: int = 100,
    tag: str = "vtr",
) -> None:
    """Write the best `depth` items of every query as lines `query Q0 item rank score tag`, best first.

    The order is trec_eval's: it reads scores as 32-bit floats and puts items of the same score in descending order of
    their ids. So the rank column holds the places such tools use. Scores are written in full: different ones stay
    different, also those that a 32-bit float merges.

    Args:
        path: the file; it is whole or absent.
        blocks: consecutive rows [b, N] of the scores, queries in rows, items in columns; Q rows in all.
        query_ids: Q ids, written as `trec_id` makes them.
        item_ids: N ids, likewise.
        depth: how many items of a query are written at most.
        tag: the name of the run, without white space.

    Raises:
        InputError: scores are NaN; the queries are named.
        ValueError: the shapes do not fit, the depth is not positive, or the tag is not one word.
        WorkspaceError: the file cannot be written.
    """
    if depth < 1 or tag.split() != [tag]:
        raise ValueError(f"depth is {depth} and tag {tag!r}, a positive depth and a tag of one word were expected")
    queries, items = ([trec_id(name) for name in names] for names in (query_ids, item_ids))
    descending = np.asarray(sorted(range(len(items)), key=items.__getitem__, reverse=True), np.int64)
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        for query, row in zip(queries, _checked_rows(blocks, query_ids, len(items)), strict=True):
            best = _best(row, descending, depth)
            placed = enumerate(zip(best.tolist(), row[best].tolist(), strict=True), 1)
            stream.writelines(f"{query} Q0 {items[item]} {rank} {score!r} {tag}\n" for rank, (item, score) in placed)


def write_qrels(
    path: Path,
    query_rows: NDArray[np.integer[Any]] | Sequence[int],
    item_rows: NDArray[np.integer[Any]] | Sequence[int],
    query_ids: Sequence[str],
    item_ids: Sequence[str],
) -> None:
    """Write which items are right for which queries as lines `query 0 item 1`.

    Args:
        path: the file; it is whole or absent.
        query_rows, item_rows: [P], pair p says that item `item_rows[p]` is right for query `query_rows[p]`. trec_eval
            refuses a pair that is there twice.
        query_ids, item_ids: the ids of the rows, written as `trec_id` makes them.

    Raises:
        ValueError: the shapes do not fit.
        WorkspaceError: the file cannot be written.
    """
    queries, items = np.asarray(query_rows, np.int64), np.asarray(item_rows, np.int64)
    if queries.ndim != 1 or queries.shape != items.shape:
        raise ValueError(f"query_rows {queries.shape} and item_rows {items.shape}: [P] and [P] expected")
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        for query, item in zip(queries.tolist(), items.tolist(), strict=True):
            stream.write(f"{trec_id(query_ids[query])} 0 {trec_id(item_ids[item])} 1\n")


def _checked_rows(
    blocks: Iterable[NDArray[np.floating[Any]]], query_ids: Sequence[str], num_items: int
) -> Iterator[NDArray[np.floating[Any]]]:
    """Yield the rows [N] of the blocks, exactly one for each query."""
    start = 0
    for block in blocks:
        end = start + len(block)
        if block.ndim != 2 or block.shape[1] != num_items or end > len(query_ids):
            raise ValueError(
                f"scores {block.shape} from row {start} on: [b, {num_items}] and {len(query_ids)} rows in all expected"
            )
        if bad := [query_ids[start + row] for row in np.flatnonzero(np.isnan(block).any(1)).tolist()]:
            raise InputError(
                f"scores of queries are NaN: {some(bad)}. NaN cannot be ranked: look for NaN in the features, or for a "
                "training run that diverged."
            )
        yield from block
        start = end
    if start != len(query_ids):
        raise ValueError(f"scores have {start} rows and there are {len(query_ids)} query ids, one row a query expected")


def _best(row: NDArray[np.floating[Any]], descending: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """Return the columns of the best `depth` scores, best first, ties in the order in which `descending` has them."""
    with np.errstate(over="ignore"):  # what is too large for 32 bits is infinite to trec_eval as well
        read = row[descending].astype(np.float32)
    depth = min(depth, len(read))
    kept = np.flatnonzero(read >= np.partition(read, -depth)[-depth])  # with all that tie with the last one
    order = np.argsort(-read[kept], kind="stable")[:depth]
    return descending[kept[order]]
