"""Features for batches: one ragged array an expert, in memory or mapped from the training cache, from which batches are
gathered without a loop over tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from vtr.config import Selection, TrainConfig
from vtr.data.feature_cache import CachedFeatures, open_cached, reduce_features
from vtr.model_config import Aggregate, CEConfig
from vtr.store.reader import FeatureStore
from vtr.types import ExpertBatch, ExpertFeatures, VideoBatch


@dataclass(frozen=True)
class FeatureChoice:
    """Which of a video's features a model is given.

    Attributes:
        max_features: temporal features kept of each expert and video.
        limits: expert -> that number, for experts with one of their own.
        selection: see `vtr.config.DataConfig`.
        aggregate: what `ExpertBatch.aggregate` holds.
    """

    max_features: int = 30
    limits: Mapping[str, int] = field(default_factory=dict)
    selection: Selection = "spaced"
    aggregate: Aggregate = "max"

    @classmethod
    def of(cls, config: TrainConfig) -> FeatureChoice:
        """Return what a run's configuration asks for."""
        data, model = config.data, config.model
        limits = {}
        if isinstance(model, CEConfig):
            limits = {name: vlad.length for name, vlad in model.vlad.items() if vlad.length is not None}
        return cls(data.max_features, limits, data.selection, model.aggregate)


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

    def aggregates(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [B, D] the aggregates of the videos at `rows`; 0 where a video lacks the expert."""
        whole = self.whole[rows]
        if not len(self.aggregate):
            return np.zeros((len(rows), self.aggregate.shape[1]), np.float32)
        found: NDArray[np.float32] = self.aggregate[np.maximum(whole, 0)]
        found[whole < 0] = 0
        return found


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


class FeatureTable:
    """The features of some videos, ready to be batched.

    Args:
        video_ids: N ids, the rows that `batch` counts in.
        features: expert -> video id -> features, for the videos that have them.
        dims: expert -> D.
        choice: which features a batch holds.
    """

    def __init__(
        self,
        video_ids: Sequence[str],
        features: Mapping[str, Mapping[str, ExpertFeatures]],
        dims: Mapping[str, int],
        choice: FeatureChoice | None = None,
    ) -> None:
        self.video_ids = tuple(video_ids)
        self.dims = {name: dims[name] for name in sorted(dims)}
        self.choice = choice or FeatureChoice()
        self._ragged: dict[str, Ragged] = {}
        for name in self.dims:
            self._hold(name, features.get(name, {}))

    @classmethod
    def load(
        cls,
        store: FeatureStore,
        video_ids: Sequence[str],
        experts: Sequence[str],
        choice: FeatureChoice | None = None,
    ) -> FeatureTable:
        """Read the features of some videos and experts from a store into memory."""
        table = cls(video_ids, {}, {name: store.spec(name).dim for name in experts}, choice)
        for name in table.dims:  # one after another, so that no two copies of all are held
            table._hold(name, store.read(name, video_ids))
        return table

    @classmethod
    def open(
        cls,
        store: FeatureStore,
        video_ids: Sequence[str],
        experts: Sequence[str],
        choice: FeatureChoice | None = None,
    ) -> FeatureTable:
        """Open the features of some videos and experts through the store's cache, which is made on first use.

        Batches are the same to the bit as those of `load`, and memory holds only what is read. Without a cache it is
        `load`.
        """
        if store.cache is None:
            return cls.load(store, video_ids, experts, choice)
        table = cls(video_ids, {}, {name: store.spec(name).dim for name in experts}, choice)
        for name in table.dims:
            cached = open_cached(store, store.cache, name, table.choice.aggregate)
            table._ragged[name] = choose_cached(cached, table.video_ids)
        return table

    def _hold(self, name: str, features: Mapping[str, ExpertFeatures]) -> None:
        of_videos = [features.get(video_id) for video_id in self.video_ids]
        self._ragged[name] = make_ragged(of_videos, self.dims[name], self.choice.aggregate)

    def batch(self, rows: Sequence[int], generator: np.random.Generator | None = None) -> VideoBatch:
        """Return a batch of B videos.

        Args:
            rows: B places in `video_ids`.
            generator: draws which features are kept, in order of time; None keeps the same ones always.
        """
        chosen = np.asarray(rows, np.int64)
        experts = {name: self._gather(name, chosen, generator) for name in self.dims}
        present = torch.stack([expert.mask.any(dim=1) for expert in experts.values()], dim=1)
        return VideoBatch(tuple(self.video_ids[row] for row in chosen), experts, present)

    def _gather(self, name: str, rows: NDArray[np.int64], generator: np.random.Generator | None) -> ExpertBatch:
        ragged = self._ragged[name]
        lengths = ragged.lengths[rows]
        kept = np.minimum(lengths, self.choice.limits.get(name, self.choice.max_features))
        slot = np.arange(max(1, int(kept.max(initial=0))))
        mask = slot < kept[:, None]
        thinned = bool((kept < lengths).any())
        place = _places(lengths, kept, slot, self.choice.selection, generator) if thinned else slot
        index = np.where(mask, ragged.starts[rows][:, None] + place, 0)
        if len(ragged.values):
            gathered = None if thinned else _blocks(ragged.values, index[:, 0], len(slot))
            if gathered is None:
                gathered = np.take(ragged.values, index, axis=0, mode="clip")  # "raise" would buffer
            values = torch.from_numpy(gathered).float().numpy()  # far faster than numpy with float16
            values[~mask] = 0
            seconds = np.where(mask, ragged.mid_seconds[index], np.float32(np.nan))
        else:
            values = np.zeros((*mask.shape, ragged.aggregate.shape[1]), np.float32)
            seconds = np.full(mask.shape, np.nan, np.float32)
        return ExpertBatch(
            torch.from_numpy(values),
            torch.from_numpy(seconds),
            torch.from_numpy(mask),
            torch.from_numpy(ragged.aggregates(rows)),
        )


def _blocks(values: NDArray[np.floating], starts: NDArray[np.int64], height: int) -> NDArray[np.floating] | None:
    """Return [B, height, D], the rows of `values` from each of `starts` on; None where some would lie behind the end.

    Whole blocks are copied faster than rows one by one.
    """
    last = len(values) - height
    if last < starts.max(initial=0):
        return None
    windows = as_strided(values, (last + 1, height, values.shape[1]), (values.strides[0], *values.strides))
    return np.asarray(windows[starts])


def _draw(
    lengths: NDArray[np.int64], kept: NDArray[np.int64], width: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return [B, width] places drawn without repetition from each row's `lengths`, ascending in its first `kept`."""
    longest = max(1, int(lengths.max(initial=0)))
    keys = generator.random((len(lengths), longest))
    keys[np.arange(longest) >= lengths[:, None]] = np.inf
    drawn = np.argsort(keys, axis=1, kind="stable")[:, :width]
    drawn = np.where(np.arange(drawn.shape[1]) < kept[:, None], drawn, longest)
    drawn.sort(axis=1)
    return drawn


def _places(
    lengths: NDArray[np.int64],
    kept: NDArray[np.int64],
    slot: NDArray[np.int64],
    selection: Selection,
    generator: np.random.Generator | None,
) -> NDArray[np.int64]:
    """Return [B, width] places among each row's features, ascending; those from `kept` on mean nothing.

    Args:
        lengths, kept: [B], how many features there are and how many are kept.
        slot: 0 to width - 1.
        selection: see `vtr.config.DataConfig`.
        generator: for random places; None for the same ones always.
    """
    if selection == "first":
        return np.broadcast_to(slot, (len(lengths), len(slot)))
    if generator is not None:
        return _draw(lengths, kept, len(slot), generator)
    if selection == "mmt":
        return _released(lengths, kept, len(slot))
    middles = (slot + 0.5) * lengths[:, None] / np.maximum(kept, 1)[:, None]  # of `kept` equal spans
    return np.minimum(middles.astype(np.int64), np.maximum(lengths - 1, 0)[:, None])


def _released(lengths: NDArray[np.int64], kept: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Return the places MMT's released loader keeps in evaluation: drawn by numpy's generator of seed 0, sorted."""
    places = np.zeros((len(lengths), width), np.int64)
    for row, (length, count) in enumerate(zip(lengths.tolist(), kept.tolist(), strict=True)):
        drawn = np.random.RandomState(0).choice(length, count, replace=False) if length > count else np.arange(count)
        places[row, :count] = np.sort(drawn)
    return places
