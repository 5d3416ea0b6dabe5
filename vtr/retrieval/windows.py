"""A video as rows of an index: a short one is one row, a long one is cut into windows of time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vtr.types import ExpertFeatures


@dataclass(frozen=True)
class Row:
    """What is embedded as one.

    Attributes:
        row_id: the video's id, or "VIDEO@START-END".
        start_seconds, end_seconds: the window; None for a whole video.
        features: expert -> the features in it.
    """

    row_id: str
    start_seconds: float | None
    end_seconds: float | None
    features: Mapping[str, ExpertFeatures]


def cut_into_rows(video_id: str, features: Mapping[str, ExpertFeatures], window_seconds: float) -> list[Row]:
    """Return the rows of a video.

    A video of up to two windows is one row. A longer one is cut from its beginning; what is left over at the end is a
    window of its own where it is half of one at least, else part of the last. A feature belongs to the window that
    holds the middle of its time, one without a time to all. Windows in which no expert found anything have no row.

    Args:
        video_id: the video.
        features: expert -> features; none at all is no row.
        window_seconds: length of a window.
    """
    if not features:
        return []
    duration = max((_end(held) for held in features.values()), default=0.0)
    if duration <= 2 * window_seconds:
        return [Row(video_id, None, None, features)]
    count = max(2, math.floor(duration / window_seconds + 0.5))
    edges = [number * window_seconds for number in range(count)] + [duration]
    rows = []
    for start, end in pairwise(edges):
        inside = {name: _within(held, start, end, last=end == duration) for name, held in features.items()}
        there = {name: held for name, held in inside.items() if held is not None}
        if any(np.isfinite(held.start_seconds).any() for held in there.values()):
            rows.append(Row(f"{video_id}@{start:g}-{end:g}", start, end, there))
    return rows


def _end(features: ExpertFeatures) -> float:
    ends = features.end_seconds[np.isfinite(features.end_seconds)]
    return float(ends.max()) if len(ends) else 0.0


def _within(features: ExpertFeatures, start: float, end: float, *, last: bool) -> ExpertFeatures | None:
    middle = (features.start_seconds.astype(np.float64) + features.end_seconds) / 2
    kept = ~np.isfinite(middle) | ((middle >= start) & ((middle < end) | last))
    if not kept.any():
        return None
    return ExpertFeatures(features.values[kept], features.start_seconds[kept], features.end_seconds[kept])
