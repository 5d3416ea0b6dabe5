"""One expert's features of many videos as one ragged array, in memory, mapped from disk or on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from torch import Tensor

from vtr.data.feature_cache import CachedFeatures, reduce_features
from vtr.data.resident import put, take
from vtr.model_config import Aggregate
from vtr.types import ExpertBatch, ExpertFeatures


@dataclass(frozen=True, slots=True)
class Ragged:
    """One expert's features of N videos, and maybe of others, end to end.

    Attributes:
        values: [sum T, D] in the stored precision.
        mid_seconds: [sum T] float32.
        starts, lengths: [N] int64; video n has `lengths[n]` rows from `starts[n]`, none where it lacks the expert.
        aggregate: [A, D] float32, the maximum or the mean over a video's features.
        whole: [N] int64, the video's row of `aggregate`; -1 where it lacks the expert.
    """

    values: NDArray[np.floating]
    mid_seconds: NDArray[np.float32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    aggregate: NDArray[np.float32]
    whole: NDArray[np.int64]

    def batch(self, picked: Picked) -> ExpertBatch:
        """Return what was picked."""
        index = np.maximum(picked.places, 0)
        mask = picked.places >= 0
        if len(self.values):
            gathered = _blocks(self.values, index[:, 0], index.shape[1]) if picked.together else None
            if gathered is None:
                gathered = np.take(self.values, index, axis=0, mode="clip")  # "raise" would buffer
            values = torch.from_numpy(gathered).float().numpy()  # far faster than numpy with float16
            values[~mask] = 0
            seconds = np.where(mask, self.mid_seconds[index], np.float32(np.nan))
        else:
            values = np.zeros((*mask.shape, self.aggregate.shape[1]), np.float32)
            seconds = np.full(mask.shape, np.nan, np.float32)
        parts = (values, seconds, mask, self._aggregates(picked.whole))
        return ExpertBatch(*(torch.from_numpy(part) for part in parts))

    def _aggregates(self, whole: NDArray[np.int64]) -> NDArray[np.float32]:
        if not len(self.aggregate):
            return np.zeros((len(whole), self.aggregate.shape[1]), np.float32)
        found: NDArray[np.float32] = self.aggregate[np.maximum(whole, 0)]
        found[whole < 0] = 0
        return found

    @property
    def nbytes(self) -> int:
        """The bytes that `Resident.of` takes."""
        rows, held, dim = int(self.lengths.sum()), int((self.whole >= 0).sum()), int(self.aggregate.shape[1])
        return rows * (dim * self.values.itemsize + 4) + held * dim * 4


@dataclass(frozen=True, slots=True)
class Picked:
    """Where the features of a batch's B videos lie, for one expert.

    Attributes:
        places: [B, T] int64 rows of `values`; -1 where there is no feature.
        whole: [B] int64 rows of `aggregate`; -1 where the video lacks the expert.
        together: whether each video's places follow one another.
    """

    places: NDArray[np.int64]
    whole: NDArray[np.int64]
    together: bool


@dataclass(frozen=True, slots=True)
class Resident:
    """One expert's features of N videos on a device; the attributes are those of `Ragged`, the first three tensors."""

    values: Tensor
    mid_seconds: Tensor
    aggregate: Tensor
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    whole: NDArray[np.int64]

    @classmethod
    def of(cls, ragged: Ragged, device: torch.device) -> Resident:
        """Return a copy on a device, of the N videos alone."""
        starts = np.cumsum(ragged.lengths) - ragged.lengths
        rows = np.repeat(ragged.starts - starts, ragged.lengths) + np.arange(int(ragged.lengths.sum()))
        held = ragged.whole >= 0
        return cls(
            put(ragged.values, device, rows),
            put(ragged.mid_seconds, device, rows),
            put(ragged.aggregate, device, ragged.whole[held]),
            starts,
            ragged.lengths,
            np.where(held, np.cumsum(held) - 1, -1),
        )

    def batch(self, places: Tensor, whole: Tensor) -> ExpertBatch:
        """Return what was picked; `places` [B, T] and `whole` [B] are on the device."""
        values = take(self.values, places, 0.0)
        return ExpertBatch(
            values, take(self.mid_seconds, places, float("nan")), places >= 0, take(self.aggregate, whole, 0.0)
        )


def make_ragged(features: Sequence[ExpertFeatures | None], dim: int, aggregate: Aggregate = "max") -> Ragged:
    """Return the features of N videos (None where a video lacks the expert) as one ragged array."""
    lengths = np.array([0 if f is None else len(f.values) for f in features], np.int64)
    held = [f for f in features if f is not None]
    values = np.concatenate([f.values for f in held]) if held else np.zeros((0, dim), np.float32)
    times = [(f.start_seconds + f.end_seconds) / 2 for f in held]
    whole = np.zeros((len(held), dim), np.float32)
    for row, f in enumerate(held):
        whole[row] = reduce_features(f.values, aggregate)
    row_of = np.where(lengths > 0, np.cumsum(lengths > 0) - 1, -1)
    mid_seconds = np.concatenate([np.zeros(0, np.float32), *times])
    return Ragged(values, mid_seconds, np.cumsum(lengths) - lengths, lengths, whole, row_of)


def choose_cached(cached: CachedFeatures, video_ids: Sequence[str]) -> Ragged:
    """Return the features of some videos, where they are."""
    if not cached.row_of:
        return make_ragged([None] * len(video_ids), cached.values.shape[1])
    rows = np.array([cached.row_of.get(video_id, -1) for video_id in video_ids], np.int64)
    held = np.where(rows >= 0, rows, 0)
    starts = cached.offsets[held]
    lengths = np.where(rows >= 0, cached.offsets[held + 1] - starts, 0)
    return Ragged(cached.values, cached.mid_seconds, starts, lengths, cached.aggregate, rows)


def _blocks(values: NDArray[np.floating], starts: NDArray[np.int64], height: int) -> NDArray[np.floating] | None:
    """Return [B, height, D], the rows of `values` from each of `starts` on; None where some would lie behind the end.

    Whole blocks are copied faster than rows one by one.
    """
    last = len(values) - height
    if last < starts.max(initial=0):
        return None
    windows = as_strided(values, (last + 1, height, values.shape[1]), (values.strides[0], *values.strides))
    return np.asarray(windows[starts])
