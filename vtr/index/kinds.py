"""Kinds of index: what FAISS's factory strings mean here, which kind `auto` takes, and how an index is filled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from faiss.contrib.ondisk import merge_ondisk

from vtr.errors import ConfigError
from vtr.index.segment import Items, Rows, Vectors, quiet, read_blocks

_faiss: Any = faiss
"""FAISS says of few of its keyword arguments what they are."""

FLAT, AUTO = "Flat", "auto"
"""The exact kind, and the one that `choose` chooses."""

FLAT_NUMBERS = 1 << 25
"""auto: galleries of at most so many numbers (N * E * D; 128 MiB) are scanned, some milliseconds a query."""

TRAINING_POINTS = 64
"""Vectors that are drawn to train with, for each of an IVF's lists."""

LEAST_TRAINING = 1 << 16
LEAST_SAMPLE = 1 << 10
SEED = 0
EXAMPLES = "Examples: --factory Flat; --factory auto; --factory IVF64,Flat; --factory HNSW32"


def choose(count: int, width: int, memory_limit: int) -> str:
    """Return the factory string that auto takes.

    Up to `FLAT_NUMBERS` numbers "Flat". Beyond, an IVF of about 4 * sqrt(N) lists, a power of two, that holds the
    vectors as they are where they take at most half the memory limit, as bytes where these do ("SQ8"), and else by
    product quantisation of 8 numbers to a byte, after a rotation.

    Args:
        count, width: vectors, and numbers in each.
        memory_limit: in bytes.
    """
    if count * width <= FLAT_NUMBERS:
        return FLAT
    lists = 2 ** round(np.log2(4 * np.sqrt(count)))
    if 4 * count * width <= memory_limit // 2:
        return f"IVF{lists},Flat"
    if count * width <= memory_limit // 2:
        return f"IVF{lists},SQ8"
    codes = max(size for size in range(1, width // 8 + 1) if width % size == 0) if width >= 8 else 1
    return f"OPQ{codes},IVF{lists},PQ{codes}"


def fill(items: Items, factory: str, parameters: str, memory_limit: int, scratch: Path) -> faiss.Index:
    """Return FAISS's index of some items' folded vectors, trained on a seeded sample of them.

    Vectors are read a block at a time. Where an IVF's lists would take more than half of the memory limit, they are
    filled a part at a time, and merged on the disk.

    Args:
        items: what to index.
        factory, parameters: FAISS's; for example "IVF64,Flat" and "nprobe=8".
        memory_limit: in bytes.
        scratch: an empty folder; lists that were merged on the disk stay in it.

    Raises:
        ConfigError: FAISS does not know them, or cannot train such an index on so few vectors.
    """
    width = items.vectors.shape[1]
    try:
        index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
        inverted = faiss.try_extract_index_ivf(index)
        if inverted is not None:
            inverted.cp.min_points_per_centroid = 1  # fewer are allowed; the recall is measured, not hoped for
        index.train(_sample(items, inverted.nlist if inverted is not None else 0, memory_limit))
        if inverted is not None and inverted.code_size * len(items) > memory_limit // 2:
            _fill_on_disk(index, items, memory_limit, scratch)
        else:
            for _, block in read_blocks(items):
                index.add(block)
        set_parameters(index, parameters)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(
            f"FAISS cannot make an index '{factory}' with parameters '{parameters}' of {len(items)} vectors of "
            f"{width}: {reason}. {EXAMPLES} --parameters efSearch=64."
        ) from error
    return index


def lists_of(factory: str, width: int) -> int:
    """Return how many lists a kind of index has: it needs as many vectors. 0 for kinds without, and unknown ones."""
    try:
        inverted = faiss.try_extract_index_ivf(faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT))
    except RuntimeError:  # `fill` says what is wrong with it
        return 0
    return 0 if inverted is None else int(inverted.nlist)


def set_parameters(index: Any, parameters: str) -> None:
    """Set FAISS's search parameters, for example "nprobe=8"; none are set by "".

    Raises:
        RuntimeError: the index has no such parameter.
    """
    if parameters:
        _faiss.ParameterSpace().set_index_parameters(index, parameters)


def _sample(items: Items, lists: int, memory_limit: int) -> Vectors:
    """Return vectors to train with, in the order of the items; they take at most a quarter of the memory limit."""
    width = items.vectors.shape[1]
    wanted = max(TRAINING_POINTS * lists, LEAST_TRAINING)
    wanted = min(len(items), wanted, max(lists, LEAST_SAMPLE, memory_limit // (16 * width)))
    rows = np.sort(np.random.default_rng(SEED).choice(len(items), wanted, replace=False))
    sample = np.empty((wanted, width), np.float32)
    for at, block in read_blocks(items):
        first, last = np.searchsorted(rows, (at, at + len(block)))
        sample[first:last] = block[rows[first:last] - at]
    return sample


def _fill_on_disk(index: Any, items: Items, memory_limit: int, scratch: Path) -> None:
    """Fill an IVF whose lists exceed memory: parts of it are written, then merged into lists on the disk."""
    code = faiss.extract_index_ivf(index).code_size
    empty = faiss.serialize_index(index)
    at_once = max(1, memory_limit // (4 * code))
    shards: list[str] = []
    shard, first = faiss.deserialize_index(empty), 0
    for at, block in read_blocks(items):
        shard.add_with_ids(block, np.arange(at, at + len(block)))
        if at + len(block) - first >= at_once or at + len(block) == len(items):
            shards.append(str(scratch / f"part-{len(shards)}.faiss"))
            faiss.write_index(shard, shards[-1])
            shard, first = faiss.deserialize_index(empty), at + len(block)
    with quiet():
        merge_ondisk(index, shards, str(scratch / "lists.ivfdata"))
    for name in shards:
        Path(name).unlink()


def selecting(index: Any, rows: Rows) -> Any:
    """Return search parameters that restrict FAISS to some rows; None where this kind takes no such restriction."""
    index = faiss.downcast_index(index)
    wanted = np.zeros(index.ntotal, bool)
    wanted[rows] = True
    selector = _faiss.IDSelectorBitmap(np.packbits(wanted, bitorder="little"))
    if isinstance(index, faiss.IndexPreTransform):
        inner = _selecting(faiss.downcast_index(index.index), selector)
        return None if inner is None else _faiss.SearchParametersPreTransform(index_params=inner)
    return _selecting(index, selector)


def _selecting(index: Any, selector: Any) -> Any:
    if isinstance(index, faiss.IndexIVF):
        return _faiss.SearchParametersIVF(sel=selector, nprobe=index.nprobe)
    if isinstance(index, faiss.IndexHNSW):
        return _faiss.SearchParametersHNSW(sel=selector, efSearch=index.hnsw.efSearch)
    if isinstance(index, (faiss.IndexFlat, faiss.IndexScalarQuantizer)):
        return _faiss.SearchParameters(sel=selector)
    return None


def parameter(index: Any) -> tuple[str, Sequence[int]]:
    """Return the name of an index's search parameter and the values to try, rising; ("", ()) where it has none."""
    inverted = faiss.try_extract_index_ivf(index)
    if inverted is not None:
        powers = [2**power for power in range(int(np.log2(inverted.nlist)) + 1)]
        return "nprobe", sorted({*powers, inverted.nlist})
    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    if isinstance(inner, faiss.IndexHNSW):
        return "efSearch", [2**power for power in range(4, 12)]
    return "", ()
