"""Features for batches, gathered without a loop over tokens from one ragged array an expert.

The array is in memory, mapped from the training cache, or on a device.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from vtr.config import Selection, TrainConfig
from vtr.data.feature_cache import open_cached
from vtr.data.ragged import Picked, Ragged, Resident, choose_cached, make_ragged
from vtr.data.resident import send_together
from vtr.model_config import Aggregate, CEConfig
from vtr.store.reader import FeatureStore
from vtr.types import ExpertBatch, ExpertFeatures, VideoBatch

HOST = torch.device("cpu")


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
        self._held: dict[str, Ragged | Resident] = {}
        self._device = HOST
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
            table._held[name] = choose_cached(cached, table.video_ids)
        return table

    def _hold(self, name: str, features: Mapping[str, ExpertFeatures]) -> None:
        of_videos = [features.get(video_id) for video_id in self.video_ids]
        self._held[name] = make_ragged(of_videos, self.dims[name], self.choice.aggregate)

    def to(self, device: torch.device, room: int) -> tuple[FeatureTable, int]:
        """Return a table with the features of as many experts as fit on a device, and the bytes they take there.

        A batch is then made on the device, the same to the bit, and is all there. The largest experts go first; this
        table stays as it is.

        Args:
            device: where to; on a CPU, mapped features are copied into memory.
            room: bytes they may take.
        """
        table, taken = copy.copy(self), 0
        table._device, table._held = device, dict(self._held)
        ragged = {name: held for name, held in self._held.items() if isinstance(held, Ragged)}
        for name in sorted(ragged, key=lambda name: -ragged[name].nbytes):
            if taken + ragged[name].nbytes <= room:
                taken += ragged[name].nbytes
                table._held[name] = Resident.of(ragged[name], device)
        return table, taken

    @property
    def on_host(self) -> tuple[str, ...]:
        """The experts whose features are not on a device, as `to` puts them."""
        return tuple(name for name, held in self._held.items() if isinstance(held, Ragged))

    def has_features(self, row: int) -> bool:
        """Return whether a video has a feature of any expert."""
        return any(held.lengths[row] > 0 for held in self._held.values())

    def batch(
        self, rows: Sequence[int], generator: np.random.Generator | None = None, part: slice | None = None
    ) -> VideoBatch:
        """Return a batch of B videos, on the device the table is on.

        Args:
            rows: B places in `video_ids`.
            generator: draws which features are kept, in order of time; None keeps the same ones always.
            part: the places in `rows` that are gathered, None for all. What is drawn depends on all `rows`, so the
                parts of a batch hold together what the whole does.
        """
        chosen = np.asarray(rows, np.int64)
        part = slice(None) if part is None else part
        picked = {name: self._pick(name, chosen, generator, part) for name in self.dims}
        whole = np.stack([places.whole for places in picked.values()])
        experts: dict[str, ExpertBatch] = {}
        resident = [name for name, held in self._held.items() if isinstance(held, Resident)]
        sent = send_together([whole, *(picked[name].places for name in resident)], self._device)
        places = dict(zip(resident, sent[1:], strict=True))
        for at, (name, held) in enumerate(self._held.items()):
            if isinstance(held, Resident):
                experts[name] = held.batch(places[name], sent[0][at])
            else:
                experts[name] = held.batch(picked[name]).to(self._device)
        return VideoBatch(tuple(self.video_ids[row] for row in chosen[part]), experts, (sent[0] >= 0).T.contiguous())

    def _pick(self, name: str, rows: NDArray[np.int64], generator: np.random.Generator | None, part: slice) -> Picked:
        held = self._held[name]
        lengths = held.lengths[rows]
        kept = np.minimum(lengths, self.choice.limits.get(name, self.choice.max_features))
        slot = np.arange(max(1, int(kept.max(initial=0))))
        thinned = bool((kept < lengths).any())
        place = _places(lengths, kept, slot, self.choice.selection, generator)[part] if thinned else slot[None]
        rows, kept = rows[part], kept[part]
        width = max(1, int(kept.max(initial=0)))
        places = np.where(slot[:width] < kept[:, None], held.starts[rows][:, None] + place[:, :width], -1)
        return Picked(places, held.whole[rows], together=not thinned)


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
