"""Which evaluated videos share their source with training videos, and which of them overlap one in time.

Sources are compared as they are written: MSR-VTT gives all of its URLs in one form.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtr.types import Video


@dataclass(frozen=True, eq=False, slots=True)
class Leaks:
    """What a gallery of V videos shares with the training videos. `str()` says it in a sentence.

    Attributes:
        shared: [V] bool, the video's source is also a training video's.
        overlapping: [V] bool, moreover their times overlap. Where a time is unknown no overlap is counted.
        known: how many of the V videos have a known source.
        num_train, known_train: how many training videos there are, and how many of them have a known source.
    """

    shared: NDArray[np.bool_]
    overlapping: NDArray[np.bool_]
    known: int
    num_train: int
    known_train: int

    @property
    def num_shared(self) -> int:
        """How many of the V videos share a source with a training video."""
        return int(self.shared.sum())

    @property
    def num_overlapping(self) -> int:
        """How many of the V videos overlap a training video in time."""
        return int(self.overlapping.sum())

    def __str__(self) -> str:
        total = len(self.shared)
        sources = f"{self.known:,} of {total:,} and {self.known_train:,} of {self.num_train:,} sources are known"
        if not (self.known and self.known_train):
            return f"whether these {total:,} videos share sources with the training videos cannot be told: {sources}"
        unknown = "" if (self.known, self.known_train) == (total, self.num_train) else f" ({sources})"
        cut = "cut from a source that training videos are cut from"
        if not self.num_shared:
            return f"none of these {total:,} videos is {cut}{unknown}"
        are = "is" if self.num_shared == 1 else "are"
        overlap = f"{self.num_overlapping:,} of them overlap{'s' if self.num_overlapping == 1 else ''}"
        times = f"{overlap if self.num_overlapping else 'none of them is known to overlap'} one in time"
        return f"{self.num_shared:,} of these {total:,} videos {are} {cut}, {times}{unknown}"


def leaks(gallery: Sequence[Video], train: Sequence[Video]) -> Leaks:
    """Return which gallery videos share a source with a training video, and which overlap one in time.

    Two clips of a source overlap when each starts before the other ends; clips that only touch do not. A source that is
    None or empty is unknown.

    Args:
        gallery: the V evaluated videos.
        train: the videos that a model learns from.
    """
    clips: defaultdict[str, list[Video]] = defaultdict(list)
    for video in train:
        if video.source_id:
            clips[video.source_id].append(video)
    found = [clips.get(video.source_id or "", []) for video in gallery]
    return Leaks(
        shared=np.array([bool(others) for others in found], bool),
        overlapping=np.array(
            [any(_overlap(video, other) for other in others) for video, others in zip(gallery, found, strict=True)],
            bool,
        ),
        known=sum(bool(video.source_id) for video in gallery),
        num_train=len(train),
        known_train=sum(map(len, clips.values())),
    )


def _overlap(one: Video, other: Video) -> bool:
    if one.start_seconds is None or one.end_seconds is None or other.start_seconds is None or other.end_seconds is None:
        return False
    return one.start_seconds < other.end_seconds and other.start_seconds < one.end_seconds
