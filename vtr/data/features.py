"""Features in memory: one ragged array an expert, from which batches are gathered without a loop over tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vtr.store.reader import FeatureStore
from vtr.types import ExpertBatch, ExpertFeatures, VideoBatch


@dataclass(frozen=True, slots=True)
class Ragged:
    """One expert's features of N videos end to end.

    Attributes:
        values: [sum T, D] in the stored precision.
        mid_seconds: [sum T] float32.
        offsets: [N + 1] int64; video n has rows offsets[n] to offsets[n + 1], none where it lacks the expert.
        aggregate: [N, D] float32, the maximum over a video's features; 0 where it has none.
    """

    values: NDArray[np.floating]
    mid_seconds: NDArray[np.float32]
    offsets: NDArray[np.int64]
    aggregate: NDArray[np.float32]


def make_ragged(features: Sequence[ExpertFeatures | None], dim: int) -> Ragged:
    """Return the features of N videos (None where a video lacks the expert) as one ragged array."""
    lengths = [0 if f is None else len(f.values) for f in features]
    held = [f for f in features if f is not None]
    values = np.concatenate([f.values for f in held]) if held else np.zeros((0, dim), np.float32)
    times = [(f.start_seconds + f.end_seconds) / 2 for f in held]
    aggregate = np.zeros((len(features), dim), np.float32)
    for row, f in enumerate(features):
        if f is not None:
            aggregate[row] = f.values.max(axis=0)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return Ragged(values, np.concatenate(times) if times else np.zeros(0, np.float32), offsets, aggregate)


class FeatureTable:
    """The features of some videos, ready to be batched.

    Args:
        video_ids: N ids, the rows that `batch` counts in.
        features: expert -> video id -> features, for the videos that have them.
        dims: expert -> D.
    """

    def __init__(
        self,
        video_ids: Sequence[str],
        features: Mapping[str, Mapping[str, ExpertFeatures]],
        dims: Mapping[str, int],
    ) -> None:
        self.video_ids = tuple(video_ids)
        self.dims = {name: dims[name] for name in sorted(dims)}
        self._ragged = {
            name: make_ragged([features.get(name, {}).get(video_id) for video_id in video_ids], dim)
            for name, dim in self.dims.items()
        }

    @classmethod
    def load(cls, store: FeatureStore, video_ids: Sequence[str], experts: Sequence[str]) -> FeatureTable:
        """Read the features of some videos and experts from a store."""
        features = {name: store.read(name, video_ids) for name in experts}
        return cls(video_ids, features, {name: store.spec(name).dim for name in experts})

    def batch(self, rows: Sequence[int], max_features: int, generator: np.random.Generator | None = None) -> VideoBatch:
        """Return a batch of B videos.

        Args:
            rows: B places in `video_ids`.
            max_features: temporal features kept of each expert and video.
            generator: draws which are kept, in order of time; None keeps evenly spaced ones.
        """
        chosen = np.asarray(rows, np.int64)
        experts = {name: _gather(ragged, chosen, max_features, generator) for name, ragged in self._ragged.items()}
        present = torch.stack([expert.mask.any(dim=1) for expert in experts.values()], dim=1)
        return VideoBatch(tuple(self.video_ids[row] for row in chosen), experts, present)


def _gather(
    ragged: Ragged, rows: NDArray[np.int64], max_features: int, generator: np.random.Generator | None
) -> ExpertBatch:
    lengths = ragged.offsets[rows + 1] - ragged.offsets[rows]
    kept = np.minimum(lengths, max_features)
    width = max(1, int(kept.max(initial=0)))
    slot = np.arange(width)
    mask = slot < kept[:, None]
    if generator is None:
        # the middles of `kept` equal spans
        place = ((slot + 0.5) * lengths[:, None] / np.maximum(kept, 1)[:, None]).astype(np.int64)
    else:
        place = _draw(lengths, kept, width, generator)
    place = np.where(mask, np.minimum(place, np.maximum(lengths - 1, 0)[:, None]), 0)
    index = np.where(mask, ragged.offsets[rows][:, None] + place, 0)
    if len(ragged.values):
        values = ragged.values[index].astype(np.float32) * mask[..., None]
        seconds = np.where(mask, ragged.mid_seconds[index], np.nan)
    else:
        values = np.zeros((*mask.shape, ragged.aggregate.shape[1]), np.float32)
        seconds = np.full(mask.shape, np.nan)
    return ExpertBatch(
        torch.from_numpy(values),
        torch.from_numpy(seconds.astype(np.float32)),
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
