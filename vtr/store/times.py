"""When features are, of all of an expert's videos: small enough to be held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureTimes:
    """The times of one expert's features of N videos, end to end.

    Attributes:
        row_of: video id -> n.
        offsets: [N + 1] int64; video n has the features offsets[n] to offsets[n + 1], one at least.
        start_seconds, end_seconds: [sum T] float32; NaN in both where a feature has no time.
    """

    row_of: dict[str, int]
    offsets: NDArray[np.int64]
    start_seconds: Seconds
    end_seconds: Seconds

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Any, Any]]) -> FeatureTimes:
        """Return those of (video id, start_seconds, end_seconds), the times as the store's blobs."""
        ids, starts, ends = [], [np.zeros(0, "<f4")], [np.zeros(0, "<f4")]
        for video_id, start, end in rows:
            ids.append(video_id)
            starts.append(np.frombuffer(start, "<f4"))
            ends.append(np.frombuffer(end, "<f4"))
        offsets = np.cumsum([len(part) for part in starts], dtype=np.int64)
        return cls(
            {video_id: row for row, video_id in enumerate(ids)}, offsets, np.concatenate(starts), np.concatenate(ends)
        )

    def of_video(self, video_id: str) -> tuple[Seconds, Seconds] | None:
        """Return start and end of each of a video's features, None where it has none."""
        if (row := self.row_of.get(video_id)) is None:
            return None
        part = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return self.start_seconds[part], self.end_seconds[part]

    def last_seconds(self) -> dict[str, float]:
        """Return video id -> the end of its last feature, for the videos that have a feature with a time."""
        if not self.row_of:
            return {}
        last = np.fmax.reduceat(self.end_seconds, self.offsets[:-1])
        return {video_id: float(end) for video_id, end in zip(self.row_of, last, strict=True) if not np.isnan(end)}
