"""The stored features of the few videos that a search shows, read without touching the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vtr.data.feature_cache import CachedFeatures, find_cached
from vtr.model_config import Aggregate
from vtr.store.reader import FeatureStore
from vtr.store.times import FeatureTimes
from vtr.types import ExpertFeatures

Features = Mapping[str, ExpertFeatures]
"""Expert -> the features of one video."""


class StoredFeatures:
    """Reads single videos' features: mapped from the training cache where it holds them, else from the store.

    Args:
        store: where features are.
        experts: the experts to read; those that the store does not hold are passed over.
        times: expert -> when its features are.
        aggregate: what the model's batches hold, see `vtr.data.feature_cache`.
    """

    def __init__(
        self, store: FeatureStore, experts: Sequence[str], times: Mapping[str, FeatureTimes], aggregate: Aggregate
    ) -> None:
        self._store = store
        self._times = {name: times[name] for name in experts if name in times}
        self._cached = {name: find_cached(store, name, aggregate) for name in self._times}

    def read(self, video_ids: Collection[str]) -> dict[str, Features]:
        """Return video id -> its features; a video without any has no entry.

        Raises:
            WorkspaceError: a shard is damaged.
        """
        found: dict[str, dict[str, ExpertFeatures]] = {}
        for name, times in self._times.items():
            asked = [video_id for video_id in video_ids if video_id in times.row_of]
            cached = self._cached[name]
            held = {} if cached is None else _mapped(cached, times, asked)
            if left := [video_id for video_id in asked if video_id not in held]:
                held |= self._store.read(name, left)
            for video_id, features in held.items():
                found.setdefault(video_id, {})[name] = features
        return dict(found)


def _mapped(cached: CachedFeatures, times: FeatureTimes, video_ids: Sequence[str]) -> dict[str, ExpertFeatures]:
    held = {}
    for video_id in video_ids:
        row, of_video = cached.row_of.get(video_id), times.of_video(video_id)
        if row is None or of_video is None:
            continue
        values = cached.values[int(cached.offsets[row]) : int(cached.offsets[row + 1])]
        if len(values) == len(of_video[0]):
            held[video_id] = ExpertFeatures(values, *of_video)
    return held
