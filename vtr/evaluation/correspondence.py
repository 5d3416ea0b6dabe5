"""Which texts describe which videos: one a text, several, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Owners = NDArray[np.integer[Any]] | Sequence[int] | Tensor
"""[T]: the video of each text, -1 for a text that describes none of the videos (a distractor)."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Correspondence:
    """The right answers of both directions, as pairs of a text and a video it describes.

    Texts and videos without a pair are distractors: they are ranked, and are not queries.

    Attributes:
        num_texts, num_videos: T and V, the shape of the scores.
        texts, videos: [N] int64 each, the pairs, sorted by text and then by video, each once.

    Raises:
        ValueError: the pairs are not sorted, occur twice, or name a text or a video that is not there.
    """

    num_texts: int
    num_videos: int
    texts: Rows
    videos: Rows

    def __post_init__(self) -> None:
        if self.texts.ndim != 1 or self.texts.shape != self.videos.shape:
            raise ValueError(
                f"texts {self.texts.shape} and videos {self.videos.shape} of the pairs: [N] twice expected"
            )
        for what, rows, count in (("texts", self.texts, self.num_texts), ("videos", self.videos, self.num_videos)):
            if len(rows) and not (rows.min() >= 0 and rows.max() < count):
                raise ValueError(f"the pairs name {what} {rows.min()} to {rows.max()}, the scores have {count}")
        if (np.diff(self.texts * self.num_videos + self.videos) <= 0).any():
            raise ValueError("the pairs are not sorted by text and video, or one occurs twice")

    @classmethod
    def of(cls, video_of_text: Owners, num_videos: int) -> Correspondence:
        """Return that of texts that describe at most one video each.

        Args:
            video_of_text: [T], the column of each text's video, -1 where it has none.
            num_videos: V.

        Raises:
            ValueError: a text names a video that is not among the columns.
        """
        owners = np.asarray(video_of_text, np.int64)
        if owners.ndim != 1 or (len(owners) and not (owners.min() >= -1 and owners.max() < num_videos)):
            raise ValueError(
                f"video_of_text {owners.shape} holds columns {owners.min(initial=0)} to {owners.max(initial=0)}, "
                f"the scores have {num_videos}: [T] of -1 (none) to {num_videos - 1} expected"
            )
        texts = np.flatnonzero(owners >= 0)
        return cls(len(owners), num_videos, texts, owners[texts])

    @classmethod
    def of_captions(
        cls, num_videos: int, captions_per_video: int, there: NDArray[np.bool_] | None = None
    ) -> Correspondence:
        """Return that of the published layout: C rows a video, in the videos' order, some of which may be missing.

        A missing caption is no query and must not be ranked either: drop its row from the scores
        (`scores[there.ravel()]`) before anything is counted.

        Args:
            num_videos, captions_per_video: V and C.
            there: [V, C] bool, False where a caption is missing; None when all are there.

        Raises:
            ValueError: `there` has another shape.
        """
        owners = np.repeat(np.arange(num_videos), captions_per_video)
        if there is not None:
            if there.shape != (num_videos, captions_per_video):
                raise ValueError(f"there {there.shape}: [{num_videos}, {captions_per_video}] expected")
            owners = owners[there.astype(bool).ravel()]
        return cls.of(owners, num_videos)

    def with_pairs(self, texts: Rows, videos: Rows) -> Correspondence:
        """Return it with further right answers.

        Args:
            texts, videos: [M] each; pairs that are there already change nothing.
        """
        keys = np.concatenate([self.texts, texts]) * self.num_videos + np.concatenate([self.videos, videos])
        both = np.unique(keys)
        return Correspondence(self.num_texts, self.num_videos, both // self.num_videos, both % self.num_videos)

    @property
    def video_queries(self) -> Rows:
        """The videos that have a text, ascending."""
        return np.unique(self.videos)

    @property
    def text_queries(self) -> Rows:
        """The texts that have a video, ascending."""
        return np.unique(self.texts)


def as_correspondence(right: Owners | Correspondence, shape: tuple[int, ...]) -> Correspondence:
    """Return `right` as a correspondence that fits scores of a shape.

    Raises:
        ValueError: it does not fit; both shapes are named.
    """
    if len(shape) != 2:
        raise ValueError(f"scores have shape {shape}, [T, V] was expected")
    if not isinstance(right, Correspondence):
        owners = np.asarray(right, np.int64)
        if owners.shape != shape[:1]:
            raise ValueError(f"scores {shape} and video_of_text {owners.shape}: [T, V] and [T] expected")
        return Correspondence.of(owners, shape[1])
    if (right.num_texts, right.num_videos) != shape:
        raise ValueError(
            f"scores {shape} and a correspondence of {right.num_texts} texts and {right.num_videos} videos"
        )
    return right
