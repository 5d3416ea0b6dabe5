"""The feature store against one h5 file a video and a plain memory-mapped array, for benchmarks/extraction.py."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from extraction_times import Times, in_turn
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from page import Target

from feature_extraction.plan import Group, cut
from feature_extraction.shards import ShardWriter
from feature_extraction.spool import Spool, Spooled
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.extract_config import ExtractConfig
from vtr.store.reader import FeatureStore
from vtr.store.schema import encode_row
from vtr.types import ExpertFeatures, ExpertSpec

VIDEOS, FEATURES, DIM, BATCH = 2048, 30, 512, 64
"""30 features of 512 numbers a video, as frames of a CLIP ViT-B give; batches as in training."""
LOOKS = 1000
"""Videos looked up at random."""
SPEC = ExpertSpec("appearance", DIM, "image", 0.5, "benchmark")
VTR, PARQUET, H5, SYNCED, ARRAY = "vtr", "parquet", "h5", "h5 synced", "array"

Halves = NDArray[np.float16]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StoreTimes:
    """Seconds of VIDEOS videos by way of keeping them.

    Attributes:
        write: from features in memory to files that a power cut cannot take; H5 only to closed files.
        epoch: all videos in random order, in batches [BATCH, FEATURES, DIM] float32; Parquet in stored order.
        look: LOOKS single videos at random, as float32.
        spooled: one file a video, as extraction leaves them until a shard is complete.
    """

    write: Times
    epoch: Times
    look: Times
    spooled: float

    @property
    def milliseconds(self) -> float:
        """What one video takes from the training cache."""
        return self.look.median(VTR) / LOOKS * 1e3

    def targets(self) -> list[Target]:
        """Return the ratios that were promised."""
        found = []
        for what, times, h5 in (("writing the store", self.write, SYNCED), ("an epoch", self.epoch, H5)):
            to_h5, to_array = times.ratio(h5, VTR), times.ratio(ARRAY, VTR)
            also = ", as safely" if h5 == SYNCED else ""
            found.append(Target(f"rate of {what}, to one h5 file a video{also}", f"{to_h5:.1f}", ">= 8", to_h5 >= 8))
            found.append(Target("the same, to a memory-mapped array", f"{to_array:.2f}", ">= 0.6", to_array >= 0.6))
        single = self.milliseconds
        return [*found, Target("one video from the training cache", f"{single:.3f} ms", "< 1 ms", single < 1)]


class _Kept:
    """The same features, kept in every way under one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.values = np.random.default_rng(0).standard_normal((VIDEOS, FEATURES, DIM), np.float32)
        self.starts: Floats = np.arange(FEATURES, dtype=np.float32) / np.float32(2)
        self.ends: Floats = self.starts + np.float32(0.5)
        self.ids = [f"video{number}" for number in range(VIDEOS)]
        self.config = ExtractConfig(experts=(SPEC.name,), dtype="float16")
        self.groups = cut(self.ids, self.config.shard_videos)
        self.at = {video_id: row for row, video_id in enumerate(self.ids)}
        self._table: FeatureTable | None = None
        self._array: Halves | None = None

    def done(self, video_id: str) -> Spooled:
        """Return a video as a worker hands it on."""
        features = ExpertFeatures(self.values[self.at[video_id]], self.starts, self.ends)
        return Spooled(video_id, {SPEC.name: encode_row(video_id, features, None, "float16")}, (SPEC.name,), ())

    def write_store(self) -> None:
        """Write shards and manifests, as extraction does once their videos are done."""
        shutil.rmtree(self.folder / VTR, ignore_errors=True)
        writer = ShardWriter(FeatureStore(self.folder / VTR), self.config, "", self.groups)
        for group in self.groups:
            writer.write(group, SPEC.name, (SPEC, ""), _Memory(self, group))

    def write_h5(self, *, synced: bool) -> None:
        """Write one file a video, as many releases of features are; `synced` to the disk, as the others are."""
        shutil.rmtree(self.folder / H5, ignore_errors=True)
        (self.folder / H5).mkdir()
        for video_id, values in zip(self.ids, self.values, strict=True):
            with h5py.File(self.folder / H5 / f"{video_id}.h5", "w") as file:
                file["values"] = values.astype(np.float16)
                file["start_seconds"], file["end_seconds"] = self.starts, self.ends
            if synced:
                _sync(self.folder / H5 / f"{video_id}.h5")

    def write_array(self) -> None:
        """Write one array of values and one of times, to the disk like the store's shards."""
        shutil.rmtree(self.folder / ARRAY, ignore_errors=True)
        (self.folder / ARRAY).mkdir()
        values = open_memmap(self.folder / ARRAY / "values.npy", "w+", np.float16, (VIDEOS, FEATURES, DIM))
        times = open_memmap(self.folder / ARRAY / "times.npy", "w+", np.float32, (VIDEOS, 2, FEATURES))
        for row, given in enumerate(self.values):
            values[row] = given
            times[row] = self.starts, self.ends
        for name, array in (("values", values), ("times", times)):
            array.flush()
            _sync(self.folder / ARRAY / f"{name}.npy")

    def spool(self) -> None:
        """Leave one file a video, as extraction does until a shard is complete."""
        spool = Spool(self.folder / "spool", {})
        for video_id in self.ids[:BATCH]:
            spool.put(self.done(video_id))
        spool.drop(self.ids[:BATCH])

    def table(self) -> FeatureTable:
        """Return the features as training opens them: the cache is made once, by the store that was written last."""
        if self._table is None:
            store = FeatureStore(self.folder / VTR, self.folder / "cache")
            self._table = FeatureTable.open(store, self.ids, (SPEC.name,), FeatureChoice(max_features=FEATURES))
        return self._table

    def from_cache(self, rows: NDArray[np.int64]) -> Floats:
        """Return [B, FEATURES, DIM] as a model is given them; masks and times are made too."""
        values: Floats = self.table().batch(rows.tolist()).experts[SPEC.name].values.numpy()
        return values

    def from_array(self, rows: NDArray[np.int64]) -> Floats:
        """Return [B, FEATURES, DIM] from the memory-mapped array."""
        if self._array is None:
            self._array = np.load(self.folder / ARRAY / "values.npy", mmap_mode="r")
        return _single(self._array[rows])

    def from_h5(self, rows: NDArray[np.int64]) -> Floats:
        """Return [B, FEATURES, DIM] from B files."""
        held = []
        for row in rows:
            with h5py.File(self.folder / H5 / f"{self.ids[row]}.h5") as file:
                held.append(file["values"][()])
        return _single(np.stack(held))

    def from_parquet(self) -> Iterator[Floats]:
        """Yield batches in stored order, every page's checksum checked."""
        held: list[NDArray[np.floating]] = []
        for _, features in FeatureStore(self.folder / VTR).stream(SPEC.name):
            held.append(features.values)
            if len(held) == BATCH:
                yield _single(np.stack(held))
                held.clear()


def _single(values: NDArray[np.floating]) -> Floats:
    """Return numbers in single precision, by torch, which is much faster at it than numpy."""
    found: Floats = torch.from_numpy(values).float().numpy()
    return found


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


class _Memory(Spool):
    """A group's finished videos, already read from the spool: what is measured is the store."""

    def __init__(self, kept: _Kept, group: Group) -> None:
        self._done = {video_id: kept.done(video_id) for video_id in group.ids}

    def get(self, video_id: str) -> Spooled | None:
        return self._done.get(video_id)


def measure_store(rounds: int) -> StoreTimes:
    """Return how long writing, an epoch and looking up take, in turn; what is read is what was written.

    Raises:
        AssertionError: two ways give other features.
    """
    with tempfile.TemporaryDirectory() as name:
        kept = _Kept(Path(name))
        write = in_turn(
            rounds,
            {
                VTR: kept.write_store,
                H5: partial(kept.write_h5, synced=False),
                SYNCED: partial(kept.write_h5, synced=True),
                ARRAY: kept.write_array,
            },
        )
        _check_equal(kept)
        order = np.random.default_rng(1).permutation(VIDEOS)
        batches = order.reshape(-1, BATCH)
        epoch = in_turn(
            rounds,
            {
                VTR: lambda: [kept.from_cache(rows).shape for rows in batches],
                H5: lambda: [kept.from_h5(rows).shape for rows in batches],
                ARRAY: lambda: [kept.from_array(rows).shape for rows in batches],
                PARQUET: lambda: [batch.shape for batch in kept.from_parquet()],
            },
        )
        single = [order[place : place + 1] for place in range(LOOKS)]
        look = in_turn(
            rounds,
            {
                VTR: lambda: [kept.from_cache(rows).shape for rows in single],
                H5: lambda: [kept.from_h5(rows).shape for rows in single],
                ARRAY: lambda: [kept.from_array(rows).shape for rows in single],
            },
        )
        spooled = in_turn(rounds, {"spool": kept.spool}).median("spool") / BATCH
        return StoreTimes(write, epoch, look, spooled)


def _check_equal(kept: _Kept) -> None:
    rows = np.arange(0, VIDEOS, 7)
    wanted = kept.values[rows].astype(np.float16).astype(np.float32)
    for found in (kept.from_cache(rows), kept.from_array(rows), kept.from_h5(rows)):
        assert np.array_equal(found, wanted), "other features than were written"
