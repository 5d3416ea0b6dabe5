"""The training cache: an expert's features as a few arrays on disk, mapped into memory, any video at once.

`<workspace>/cache/features/<expert>/<fingerprint of the store's>/` holds

    values.npy      [sum T, D] in the stored precision, the videos end to end
    seconds.npy     [sum T] float32, the middle of each feature's time
    offsets.npy     [N + 1] int64; video n has rows offsets[n] to offsets[n + 1]
    videos.json     the N ids
    max.npy, mean.npy   [N, D] float32, over each video's features; made when a model first asks for it

It is made on first use, takes as much room as the features, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vtr.errors import InputError, WorkspaceError
from vtr.files import atomic_directory, atomic_file, cannot_write, read_json, write_json
from vtr.model_config import Aggregate
from vtr.progress import progress
from vtr.store.reader import FeatureStore

ROWS_AT_ONCE = 1 << 16
LOCK = ".lock"
TRIES = 5
"""How often the features are read anew because the store changed meanwhile, before that is an error."""


class _StoreChangedError(Exception):
    """The store is not what it was when its features began to be read."""


@dataclass(frozen=True)
class CachedFeatures:
    """One expert's features of all its videos, mapped from disk.

    Attributes:
        values: [sum T, D].
        mid_seconds: [sum T] float32.
        offsets: [N + 1] int64.
        aggregate: [N, D] float32.
        row_of: video id -> n.
    """

    values: NDArray[np.floating]
    mid_seconds: NDArray[np.float32]
    offsets: NDArray[np.int64]
    aggregate: NDArray[np.float32]
    row_of: dict[str, int]


def reduce_features(values: NDArray[np.floating], aggregate: Aggregate) -> NDArray[Any]:
    """Return [D], the maximum or the mean over the features [T, D] of one video."""
    return np.asarray(values.max(axis=0) if aggregate == "max" else values.mean(axis=0, dtype=np.float32))


def open_cached(store: FeatureStore, cache: Path, expert: str, aggregate: Aggregate) -> CachedFeatures:
    """Return an expert's features from the cache; they are put there first where they are missing or others.

    Raises:
        WorkspaceError: the expert is not in the store, a shard is damaged, the store changes all the time, or the cache
            cannot be written.
    """
    place = cache / "features" / expert
    folder = place / store.fingerprint([expert])
    whole = folder / f"{aggregate}.npy"
    if not whole.exists():
        with _waiting_for(place / LOCK):
            folder = _made(store, expert, place)
            whole = folder / f"{aggregate}.npy"
            if not whole.exists():
                _write_aggregate(folder, whole, aggregate)
    return _opened(folder, whole)


def find_cached(store: FeatureStore, expert: str, aggregate: Aggregate) -> CachedFeatures | None:
    """Return an expert's features from the cache, None where they are not there or are not those of the store.

    Raises:
        WorkspaceError: the expert is not in the store.
    """
    if store.cache is None:
        return None
    folder = store.cache / "features" / expert / store.fingerprint([expert])
    whole = folder / f"{aggregate}.npy"
    try:
        return _opened(folder, whole) if whole.exists() else None
    except (OSError, InputError):  # another process has just begun to replace it
        return None


def _opened(folder: Path, whole: Path) -> CachedFeatures:
    values, seconds, aggregates = (_mapped(path) for path in (folder / "values.npy", folder / "seconds.npy", whole))
    row_of = {video_id: row for row, video_id in enumerate(read_json(folder / "videos.json"))}
    return CachedFeatures(values, seconds, np.load(folder / "offsets.npy", allow_pickle=False), aggregates, row_of)


def _mapped(path: Path) -> NDArray[Any]:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


@contextlib.contextmanager
def _waiting_for(path: Path) -> Iterator[None]:
    """Hold a lock file while the block runs; wait for whoever holds it, who is making the same."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a")
    except OSError as error:
        raise WorkspaceError(cannot_write(path, error)) from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _made(store: FeatureStore, expert: str, place: Path) -> Path:
    """Return the folder of the features that the store holds now; it is made where it is missing.

    Raises:
        WorkspaceError: the store changed each time before its features were read to the end.
    """  # noqa: DOC501 (_StoreChangedError begins the next try)
    for _ in range(TRIES):
        folder = place / store.fingerprint([expert])
        if folder.exists():
            return folder
        for old in [path for path in place.iterdir() if path.name != LOCK]:
            shutil.rmtree(old)  # of features that have changed since, or left by a killed run
        with contextlib.suppress(_StoreChangedError):
            with atomic_directory(folder) as temporary:
                _write(store, expert, temporary)
                if store.fingerprint([expert]) != folder.name:
                    raise _StoreChangedError
            return folder
    raise WorkspaceError(
        f"the {expert} features in {store.root} changed {TRIES} times while they were read. Wait until `vtr extract` "
        "has ended, and run the same command again."
    )


def _write(store: FeatureStore, expert: str, folder: Path) -> None:
    """Write the arrays.

    Raises:
        _StoreChangedError: the store's rows are no longer those that were counted first.
    """
    counts = store.counts(expert)
    offsets = np.concatenate(([0], np.cumsum([count for count, _ in counts.values()]))).astype(np.int64)
    dtype = np.dtype(np.float32 if any(kind == "float32" for _, kind in counts.values()) else np.float16)
    np.save(folder / "offsets.npy", offsets)
    write_json(folder / "videos.json", list(counts))
    shape = (int(offsets[-1]), store.spec(expert).dim)
    with (
        _array(folder / "values.npy", shape, dtype) as add_values,
        _array(folder / "seconds.npy", shape[:1], np.dtype(np.float32)) as add_seconds,
        progress(f"cache {expert}", len(counts), "videos") as advance,
    ):
        ids = []
        for video_id, features in store.stream(expert):
            if counts.get(video_id) != (len(features.values), features.values.dtype.name):
                raise _StoreChangedError
            ids.append(video_id)
            add_values(features.values)
            add_seconds((features.start_seconds + features.end_seconds) / 2)
            advance(1, "")
    if ids != list(counts):
        raise _StoreChangedError


def _write_aggregate(folder: Path, path: Path, aggregate: Aggregate) -> None:
    values, offsets = _mapped(folder / "values.npy"), np.load(folder / "offsets.npy", allow_pickle=False)
    shape = (len(offsets) - 1, values.shape[1])
    with atomic_file(path) as temporary, _array(temporary, shape, np.dtype(np.float32)) as add:
        for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            add(reduce_features(values[start:end], aggregate))


@contextlib.contextmanager
def _array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Yield what adds the next numbers to an array file of a known shape.

    It is written, not mapped: on a disk that is full, writing to mapped memory kills the process.
    """
    with path.open("wb") as stream:
        header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(stream, header)
        yield lambda values: _add(stream, values, dtype)


def _add(stream: IO[bytes], values: NDArray[Any], dtype: np.dtype[Any]) -> None:
    stream.write(np.ascontiguousarray(values, dtype).data)
