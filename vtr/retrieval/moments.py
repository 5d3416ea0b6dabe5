"""The best moment: a video is cut into windows of time, and the model scores each as if it were a video."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from vtr.data.features import FeatureChoice, FeatureTable
from vtr.models.base import RetrievalModel
from vtr.retrieval.hits import Moment, Stretch
from vtr.retrieval.stored import Features, StoredFeatures
from vtr.similarity import score_matrix
from vtr.types import ExpertFeatures, TextEmbeddings, VideoEmbeddings

MOST_WINDOWS = 8
LEAST_SECONDS = 2.0
"""A window is about this long at least, so that a few features of each expert lie in it."""

WINDOWS_AT_ONCE = 64
"""Windows that are embedded at once."""

HELD_BYTES = 1 << 27
"""What the windows' embeddings that are kept may take."""

EQUAL = 1e-6
"""Scores that differ by less do so by rounding."""

ROUNDING = 1e-3
"""Seconds that the last window is longer, so that a feature at the very end lies in it."""


@dataclass(frozen=True)
class Window:
    """A stretch of a video, and the features in it, their times counted from its beginning."""

    moment: Moment
    features: Features


def cut(features: Features, stretch: Stretch | None = None) -> list[Window]:
    """Return a video's windows: equal, side by side, from its first feature to the end of its last.

    A feature is in the window that holds its middle, and in those whose middle it covers. One without a time is in all.

    Args:
        features: expert -> the video's.
        stretch: only cut this part of the video.

    Returns:
        At most MOST_WINDOWS; one where the video is short; none where it has no times and no stretch bounds it.
    """
    timed = [(held, known) for held in features.values() if (known := _timed(held)).any()]
    if stretch is not None:
        begin, end = stretch.start_seconds, stretch.end_seconds
    elif timed:
        begin = max(0.0, min(float(held.start_seconds[known].min()) for held, known in timed))
        end = max(float(held.end_seconds[known].max()) for held, known in timed)
    else:
        return []
    count = min(MOST_WINDOWS, max(1, int((end - begin) / LEAST_SECONDS))) if timed else 1
    edges = np.linspace(begin, end, count + 1).tolist()
    windows = []
    for number, (start, stop) in enumerate(pairwise(edges), 1):
        inside = {name: _inside(held, start, stop, last=number == count) for name, held in features.items()}
        there = {name: held for name, held in inside.items() if held is not None}
        if there or count == 1:
            windows.append(Window(Moment(start, stop), there))
    return windows


def _timed(features: ExpertFeatures) -> NDArray[np.bool_]:
    return ~(np.isnan(features.start_seconds) | np.isnan(features.end_seconds))


def _inside(features: ExpertFeatures, start: float, stop: float, *, last: bool) -> ExpertFeatures | None:
    """Return an expert's features in a window, None where there are none."""
    starts, ends = features.start_seconds.astype(np.float64), features.end_seconds.astype(np.float64)
    middle, centre = (starts + ends) / 2, (start + stop) / 2
    until = stop + ROUNDING if last else stop
    kept = ~_timed(features) | ((middle >= start) & (middle < until)) | ((starts <= centre) & (ends > centre))
    if not kept.any():
        return None
    times = (np.clip(edge[kept], start, stop) - start for edge in (starts, ends))
    return ExpertFeatures(features.values[kept], *(edge.astype(np.float32) for edge in times))


@dataclass(frozen=True)
class _Embedded:
    """The windows of a video; `videos` None where there are fewer than two, and so nothing to choose."""

    moments: tuple[Moment, ...]
    videos: VideoEmbeddings | None

    @property
    def nbytes(self) -> int:
        return 0 if self.videos is None else self.videos.vectors.nbytes


class Moments:
    """Finds the moments of a gallery's items that match best. It may be used from several threads.

    The embeddings of windows are kept, those used last, up to HELD_BYTES.

    Args:
        model: embeds the windows.
        choice: which features its batches hold.
        stored: the features of the videos.
        items: item id -> which part of which video it is, for the items that are not whole videos.
    """

    def __init__(
        self,
        model: RetrievalModel,
        choice: FeatureChoice,
        stored: StoredFeatures,
        items: Mapping[str, Stretch] | None = None,
    ) -> None:
        self._model = model
        self._choice = choice
        self._stored = stored
        self._items = items or {}
        self._held: OrderedDict[str, _Embedded] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()

    def best(self, asked: TextEmbeddings, item_ids: Sequence[str]) -> list[Moment | None]:
        """Return the moment of each item that scores highest with a query, None where there are no times.

        Of several that score the same, it is the first.

        Args:
            asked: the one query.
            item_ids: ids of the gallery's items.

        Raises:
            WorkspaceError: a shard of the features is damaged.
        """
        windows = self._windows(item_ids)
        chosen: dict[str, Moment | None] = {}
        several: list[tuple[str, VideoEmbeddings]] = []
        for item_id, held in windows.items():
            if held.videos is None:
                chosen[item_id] = held.moments[0] if held.moments else None
            else:
                several.append((item_id, held.videos))
        if several:
            at = 0
            scores = score_matrix(asked, _joined([videos for _, videos in several]))[0]
            for item_id, videos in several:
                own = scores[at : at + len(videos.ids)]
                first = int((own >= own.max() - EQUAL).nonzero()[0])
                chosen[item_id] = windows[item_id].moments[first]
                at += len(videos.ids)
        return [chosen[item_id] for item_id in item_ids]

    def _windows(self, item_ids: Sequence[str]) -> dict[str, _Embedded]:
        with self._lock:
            found = {item_id: self._held[item_id] for item_id in item_ids if item_id in self._held}
            for item_id in found:
                self._held.move_to_end(item_id)
        if missing := [item_id for item_id in dict.fromkeys(item_ids) if item_id not in found]:
            made = self._embed(missing)
            self._keep(made)
            found |= made
        return found

    def _embed(self, item_ids: Sequence[str]) -> dict[str, _Embedded]:
        stretches = {item_id: self._items.get(item_id) for item_id in item_ids}
        video_of = {item_id: part.video_id if part else item_id for item_id, part in stretches.items()}
        features = self._stored.read(frozenset(video_of.values()))
        windows = {item_id: cut(features.get(video_of[item_id], {}), part) for item_id, part in stretches.items()}
        wanted = [window.features for held in windows.values() if len(held) > 1 for window in held]
        blocks = (wanted[at : at + WINDOWS_AT_ONCE] for at in range(0, len(wanted), WINDOWS_AT_ONCE))
        embedded = _joined([self._embed_some(block) for block in blocks])
        made, at = {}, 0
        for item_id, held in windows.items():
            videos = None
            if len(held) > 1:
                rows = slice(at, at + len(held))
                at += len(held)
                videos = VideoEmbeddings(embedded.ids[rows], embedded.vectors[rows].clone(), embedded.present[rows])
            made[item_id] = _Embedded(tuple(window.moment for window in held), videos)
        return made

    def _embed_some(self, windows: Sequence[Features]) -> VideoEmbeddings:
        ids = [str(number) for number in range(len(windows))]
        dims = self._model.expert_dims
        by_expert = {
            name: {item: held[name] for item, held in zip(ids, windows, strict=True) if name in held} for name in dims
        }
        batch = FeatureTable(ids, by_expert, dims, self._choice).batch(range(len(ids)))
        with torch.inference_mode():
            return self._model.embed_videos(batch)

    def _keep(self, made: Mapping[str, _Embedded]) -> None:
        with self._lock:
            for item_id, embedded in made.items():
                if item_id not in self._held:
                    self._held_bytes += embedded.nbytes
                self._held[item_id] = embedded
            while self._held_bytes > HELD_BYTES:
                _, oldest = self._held.popitem(last=False)
                self._held_bytes -= oldest.nbytes


def _joined(parts: Sequence[VideoEmbeddings]) -> VideoEmbeddings:
    if not parts:
        return VideoEmbeddings((), torch.zeros(0, 0, 0), torch.zeros(0, 0))
    ids = tuple(item for part in parts for item in part.ids)
    return VideoEmbeddings(
        ids, torch.cat([part.vectors for part in parts]), torch.cat([part.present for part in parts])
    )
