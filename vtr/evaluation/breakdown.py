"""The same ranks looked at in parts: by category, by the length of the caption, by which experts a video has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtr.evaluation.metrics import Direction, measure
from vtr.evaluation.ranks import Counts, TieRule
from vtr.evaluation.subject import Subject
from vtr.types import RetrievalMetrics

CATEGORY, LENGTH, EXPERT = "category", "words in the caption", "expert"
"""What `breakdown` tells queries apart by."""

WORDS_UP_TO = (5, 8, 12, 20)
"""The last number of words of each class of captions; longer ones are a class of their own."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The metrics of some of the queries; the gallery stays whole.

    Attributes:
        group: what the queries are told apart by: "category", "words in the caption", ...
        label: which of them these are.
        text_to_video, video_to_text: their metrics, None where none of a direction's queries is among them.
    """

    group: str
    label: str
    text_to_video: RetrievalMetrics | None
    video_to_text: RetrievalMetrics | None


@dataclass(frozen=True, eq=False, slots=True)
class Counted:
    """What was counted of a subject.

    Attributes:
        subject: what was evaluated.
        t2v, v2t: where the right answers stand.
        ties: the tie rule.
    """

    subject: Subject
    t2v: Counts
    v2t: Counts
    ties: TieRule

    def of_videos(self, group: str, label: str, chosen: NDArray[np.bool_]) -> Slice:
        """Return the metrics of the queries that belong to some of the videos.

        Args:
            group, label: see `Slice`.
            chosen: [V] bool.
        """
        owners = self.subject.video_of_text[self.t2v.queries]
        return Slice(
            group,
            label,
            self._measure(self.t2v.take((owners >= 0) & chosen[owners]), "text_to_video"),
            self._measure(self.v2t.take(chosen[self.v2t.queries]), "video_to_text"),
        )

    def of_texts(self, group: str, label: str, chosen: NDArray[np.bool_]) -> Slice:
        """Return the metrics of some of the captions.

        Args:
            group, label: see `Slice`.
            chosen: [T] bool.
        """
        return Slice(group, label, self._measure(self.t2v.take(chosen[self.t2v.queries]), "text_to_video"), None)

    def _measure(self, counts: Counts, direction: Direction) -> RetrievalMetrics | None:
        return measure(counts, direction=direction, ties=self.ties) if len(counts.queries) else None


def breakdown(counted: Counted) -> Iterator[Slice]:
    """Yield the metrics by category, by words in the caption and by expert."""
    subject = counted.subject
    categories = np.asarray([video.category or "" for video in subject.videos], str)
    for category in sorted(set(categories.tolist()) - {""}):
        yield counted.of_videos(CATEGORY, category, categories == category)
    if len(subject.texts):
        yield from _by_length(counted, [len(text.split()) for text in subject.texts])
    for expert, present in sorted(subject.present.items()):
        if present.all() or not present.any():
            continue
        yield counted.of_videos(EXPERT, f"with {expert}", present)
        yield counted.of_videos(EXPERT, f"without {expert}", ~present)


def _by_length(counted: Counted, words: Sequence[int]) -> Iterator[Slice]:
    length = np.asarray(words)
    least = 1
    for most in (*WORDS_UP_TO, int(length.max())):
        chosen = (length >= least) & (length <= most)
        if chosen.any():
            label = f"{least} to {most}" if most in WORDS_UP_TO else f"{least} or more"
            yield counted.of_texts(LENGTH, label, chosen)
        least = max(least, most + 1)
