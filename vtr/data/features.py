"""Features in memory: one ragged array an expert, from which batches are gathered without a loop over tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from vtr.config import Selection, TrainConfig
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
    """One expert's features of N videos end to end.

    Attributes:
        values: [sum T, D] in the stored precision.
        mid_seconds: [sum T] float32.
        offsets: [N + 1] int64; video n has rows offsets[n] to offsets[n + 1], none where it lacks the expert.
        aggregate: [N, D] float32, the maximum or the mean over a video's features; 0 where it has none.
    """

    values: NDArray[np.floating]
    mid_seconds: NDArray[np.float32]
    offsets: NDArray[np.int64]
    aggregate: NDArray[np.float32]


def make_ragged(features: Sequence[ExpertFeatures | None], dim: int, aggregate: Aggregate = "max") -> Ragged:
    """Return the features of N videos (None where a video lacks the expert) as one ragged array."""
    lengths = [0 if f is None else len(f.values) for f in features]
    held = [f for f in features if f is not None]
    values = np.concatenate([f.values for f in held]) if held else np.zeros((0, dim), np.float32)
    times = [(f.start_seconds + f.end_seconds) / 2 for f in held]
    whole = np.zeros((len(features), dim), np.float32)
    for row, f in enumerate(features):
        if f is not None:
            whole[row] = f.values.max(axis=0) if aggregate == "max" else f.values.mean(axis=0, dtype=np.float32)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return Ragged(values, np.concatenate(times) if times else np.zeros(0, np.float32), offsets, whole)


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
        """Read the features of some videos and experts from a store."""
        table = cls(video_ids, {}, {name: store.spec(name).dim for name in experts}, choice)
        for name in table.dims:  # one after another, so that no two copies of all are held
            table._hold(name, store.read(name, video_ids))
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
        lengths = ragged.offsets[rows + 1] - ragged.offsets[rows]
        kept = np.minimum(lengths, self.choice.limits.get(name, self.choice.max_features))
        slot = np.arange(max(1, int(kept.max(initial=0))))
        mask = slot < kept[:, None]
        place = np.where(mask, _places(lengths, kept, slot, self.choice.selection, generator), 0)
        index = np.where(mask, ragged.offsets[rows][:, None] + place, 0)
        if len(ragged.values):
            values = ragged.values[index].astype(np.float32, copy=False)
            values[~mask] = 0
            seconds = np.where(mask, ragged.mid_seconds[index], np.float32(np.nan))
        else:
            values = np.zeros((*mask.shape, ragged.aggregate.shape[1]), np.float32)
            seconds = np.full(mask.shape, np.nan, np.float32)
        return ExpertBatch(
            torch.from_numpy(values),
            torch.from_numpy(seconds),
            torch.from_numpy(mask),
            torch.from_numpy(ragged.aggregate[rows]),
        )


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
