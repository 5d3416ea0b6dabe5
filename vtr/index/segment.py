"""Segments: the files that an index's videos and captions lie in. They are mapped into memory and never changed.

A segment is a folder. For the videos, and for the captions:

    videos.arrow        their ids, and the captions' texts; the user's strings
    videos.f32          [N, E*D] vectors; a video's are zero where an expert does not count, a caption's are as they are
    videos.experts.f32  [N, E] the videos' availability, or the captions' mixture weights
    videos.faiss        what FAISS needs besides, for kinds that are not exact; large lists in videos.ivfdata
    captions.owners     [T] int64, the row in the segment's videos that a caption describes
    videos.keys         [V, 2] uint64, hashes of the ids in rising order and their rows, to find a video by its id

The vectors of the exact kind are scanned where they lie, so they are there once.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import faiss
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtr.embeddings import CAPTIONS, VIDEOS, PartSource
from vtr.similarity import flat_videos

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]

BLOCK_BYTES = 1 << 25
"""Vectors that are read, folded or gathered at once."""

_turned = threading.Lock()

MAP = getattr(faiss, "IO_FLAG_MMAP_IFC", 0)
"""How FAISS maps files of every kind into memory; early versions read them."""


@dataclass(frozen=True)
class Items:
    """The videos, or the captions, of a segment.

    Attributes:
        table: columns id and, of captions, text.
        vectors: [N, E*D] float32.
        per_expert: [N, E] float32, availability or mixture weights.
        folded: whether `vectors` are folded with `per_expert`; else FAISS is shown their product.
        approximate: FAISS's index of the folded vectors, None for the exact kind.
    """

    table: pa.Table
    vectors: Vectors
    per_expert: Vectors
    folded: bool
    approximate: faiss.Index | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def fold(self, rows: slice | Rows) -> Vectors:
        """Return the folded vectors [n, E*D] of some rows, float32 and contiguous."""
        vectors = np.asarray(self.vectors[rows])
        if self.folded:
            return np.ascontiguousarray(vectors)
        weights = np.asarray(self.per_expert[rows])
        product = vectors.reshape(*weights.shape, -1) * weights[:, :, None]
        return np.ascontiguousarray(product.reshape(len(vectors), -1))


@dataclass(frozen=True)
class Segment:
    """An opened segment.

    Attributes:
        name: its folder's.
        videos, captions: what it holds.
        owners: [T] int64, the row in `videos` that each caption describes.
        keys: [V, 2] uint64, hashes of the videos' ids, rising, and their rows.
        removed: rows of videos that count no more, rising.
    """

    name: str
    videos: Items
    captions: Items
    owners: Rows
    keys: NDArray[np.uint64]
    removed: Rows = field(default_factory=lambda: np.zeros(0, np.int64))

    def find(self, video_ids: Sequence[str]) -> Rows:
        """Return the rows of those of some videos that it holds and that count, rising; it takes no look at others."""
        hashes, found = self.keys[:, 0], []
        for video_id in video_ids:
            key = _hash(video_id)
            at = int(np.searchsorted(hashes, key))
            while at < len(hashes) and hashes[at] == key:
                row = int(self.keys[at, 1])
                if self.videos.table["id"][row].as_py() == video_id:
                    found.append(row)
                at += 1
        rows = np.unique(np.asarray(found, np.int64))
        return rows[~np.isin(rows, self.removed, assume_unique=True)]

    def live_videos(self) -> Rows | None:
        """Return the rows of the videos that count; None for all."""
        return None if not len(self.removed) else _others(len(self.videos), self.removed)

    def live_captions(self) -> Rows | None:
        """Return the rows of the captions of these videos; None for all."""
        return None if not len(self.removed) else np.flatnonzero(~np.isin(self.owners, self.removed))


def _others(count: int, removed: Rows) -> Rows:
    keep = np.ones(count, bool)
    keep[removed] = False
    return np.flatnonzero(keep)


@dataclass(frozen=True)
class Written:
    """What a segment holds: numbers of videos and captions, and the rows [P, E] that occur as videos' availability."""

    videos: int
    captions: int
    patterns: tuple[tuple[float, ...], ...]


def write_segment(folder: Path, source: PartSource) -> Written:
    """Write a source's vectors, ids and texts into `folder`, a batch at a time, without any index of FAISS's.

    Raises:
        ValueError: a video's id occurs twice, or a batch has other experts or another dim than the source.
        OSError: it cannot be written.
    """
    patterns: set[tuple[float, ...]] = set()
    hashes: list[NDArray[np.uint64]] = []
    shape = len(source.experts), source.dim
    with _Writer(folder, VIDEOS, {"id": pa.string()}) as videos:
        for found in source.videos():
            present = found.present.float()
            patterns.update(map(tuple, torch.unique(present, dim=0).tolist()))
            hashes.append(np.asarray([_hash(video_id) for video_id in found.ids], np.uint64))
            videos.write({"id": found.ids}, flat_videos(found).float(), present, shape)
    with (
        _Writer(folder, CAPTIONS, {"id": pa.string(), "text": pa.string()}) as captions,
        (folder / "captions.owners").open("wb") as owners,
    ):
        for batch in source.captions():
            vectors = batch.texts.vectors.float().flatten(1)
            captions.write({"id": batch.texts.ids, "text": batch.plain}, vectors, batch.texts.weights.float(), shape)
            owners.write(np.ascontiguousarray(batch.video_of_text, np.int64).data)
    keys = np.concatenate([*hashes, np.zeros(0, np.uint64)])
    order = np.argsort(keys, kind="stable")
    (folder / "videos.keys").write_bytes(np.stack([keys[order], order.astype(np.uint64)], axis=1).tobytes())
    _check_unique(folder, keys[order], order)
    return Written(videos.count, captions.count, tuple(sorted(patterns)))


def _check_unique(folder: Path, keys: NDArray[np.uint64], order: Rows) -> None:
    """Check that no two videos have one id."""
    same = np.flatnonzero(keys[1:] == keys[:-1])
    if not len(same):
        return
    ids = _table(folder / "videos.arrow")["id"]
    for at in same:
        if (first := ids[int(order[at])].as_py()) == ids[int(order[at + 1])].as_py():
            raise ValueError(f"the videos to index hold '{first}' twice, ids that are unique were expected")


class _Writer:
    """Writes the files of the videos or of the captions."""

    def __init__(self, folder: Path, kind: str, columns: dict[str, Any]) -> None:
        self.count = 0
        self._schema = pa.schema(list(columns.items()))
        self._folder, self._kind = folder, kind
        self._stack = ExitStack()

    def __enter__(self) -> _Writer:
        place = self._folder / self._kind
        self._table = self._stack.enter_context(pa.ipc.new_file(str(place) + ".arrow", self._schema))
        self._vectors: IO[bytes] = self._stack.enter_context(Path(f"{place}.f32").open("wb"))
        self._per_expert: IO[bytes] = self._stack.enter_context(Path(f"{place}.experts.f32").open("wb"))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def write(
        self, columns: dict[str, Sequence[str]], vectors: Tensor, per_expert: Tensor, shape: tuple[int, int]
    ) -> None:
        experts, dim = shape
        if vectors.shape[1] != experts * dim or per_expert.shape[1] != experts:
            raise ValueError(
                f"vectors {tuple(vectors.shape)} of {per_expert.shape[1]} experts: {experts} experts of {dim} expected"
            )
        arrays = [pa.array(columns[name], pa.string()) for name in self._schema.names]
        self._table.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._vectors.write(np.ascontiguousarray(vectors.cpu().numpy(), np.float32).data)
        self._per_expert.write(np.ascontiguousarray(per_expert.cpu().numpy(), np.float32).data)
        self.count += len(vectors)


def open_segment(
    folder: Path,
    videos: int,
    captions: int,
    experts: int,
    dim: int,
    *,
    removed: Rows | None = None,
    indexed: Sequence[str] = (),
) -> Segment:
    """Map a segment into memory.

    Args:
        folder: where it is.
        videos, captions: how many it holds.
        experts, dim: E and D.
        removed: rows of videos that count no more.
        indexed: those of "videos" and "captions" that have an index of FAISS's.

    Raises:
        ValueError: a file holds another number of rows than expected.
        OSError, pyarrow.ArrowInvalid, RuntimeError: a file is missing or damaged.
    """
    sides = {}
    for kind, count in ((VIDEOS, videos), (CAPTIONS, captions)):
        table = _table(folder / f"{kind}.arrow")
        if table.num_rows != count:
            raise ValueError(f"{kind}.arrow holds {table.num_rows} rows, {count} were expected")
        sides[kind] = Items(
            table,
            _mapped(folder / f"{kind}.f32", np.dtype(np.float32), (count, experts * dim)),
            _mapped(folder / f"{kind}.experts.f32", np.dtype(np.float32), (count, experts)),
            kind == VIDEOS,
            _faiss(folder / f"{kind}.faiss", count, experts * dim) if kind in indexed else None,
        )
    return Segment(
        folder.name,
        sides[VIDEOS],
        sides[CAPTIONS],
        _mapped(folder / "captions.owners", np.dtype(np.int64), (captions,)),
        _mapped(folder / "videos.keys", np.dtype(np.uint64), (videos, 2)),
        np.zeros(0, np.int64) if removed is None else removed,
    )


def _faiss(path: Path, count: int, width: int) -> faiss.Index:
    on_disk = path.with_suffix(".ivfdata").exists()  # FAISS maps that by itself
    with quiet() if on_disk else nullcontext():
        index = faiss.read_index(str(path), faiss.IO_FLAG_ONDISK_SAME_DIR if on_disk else MAP)
    if (index.ntotal, index.d) != (count, width):
        raise ValueError(f"{path.name} holds {index.ntotal} vectors of {index.d}, {count} of {width} were expected")
    return index


@contextmanager
def quiet() -> Iterator[None]:
    """Send to stderr what FAISS prints of lists on the disk; stdout is for results. One thread at a time."""
    with _turned:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
        try:
            yield
        finally:
            ctypes.CDLL(None).fflush(None)
            os.dup2(kept, 1)
            os.close(kept)


def _table(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    size = path.stat().st_size
    if size != dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"{path.name} holds {size} bytes, {shape} of {dtype} were expected")
    if not size:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "c", shape=shape)  # torch warns of arrays that cannot be written; nobody writes


def read_blocks(items: Items) -> Iterator[tuple[int, Vectors]]:
    """Yield first row and folded vectors of successive rows, read, not mapped: they count as memory while held only."""
    rows = rows_at_once(items.vectors.shape[1])
    held = items.vectors
    if not isinstance(held, np.memmap):
        for at in range(0, len(items), rows):
            yield at, items.fold(slice(at, at + rows))
        return
    with Path(str(held.filename)).open("rb") as stream:
        for at in range(0, len(items), rows):
            count = min(rows, len(items) - at)
            block = np.fromfile(stream, np.float32, count * held.shape[1]).reshape(count, -1)
            part = Items(items.table, block, items.per_expert[at : at + count], items.folded)
            yield at, part.fold(slice(None))


def rows_at_once(width: int) -> int:
    """Return how many vectors of `width` float32 numbers make a block."""
    return max(1, BLOCK_BYTES // (4 * width))


def _hash(video_id: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(video_id.encode(), digest_size=8).digest(), "little"))
