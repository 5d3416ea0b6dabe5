"""What is evaluated: query captions, a gallery of videos, and what is known of both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vtr.coverage import Coverage
from vtr.evaluation.correspondence import Correspondence
from vtr.evaluation.duplicates import identical_captions
from vtr.types import Annotations, Video


@dataclass(frozen=True, eq=False)
class Subject:
    """T query captions and a gallery of V videos.

    Attributes:
        coverage: how much of a split's part this is.
        text_ids, texts: ids and text of the T query captions.
        video_of_text: [T] int64, the row of each caption's video, -1 where it describes none of them.
        videos: the V videos of the gallery.
        captions: all captions of each of the V videos, also those that are no queries.
        train: the videos that the model learnt from; empty where that is not known.
        selected_by: ids of the videos its checkpoint was chosen by.
        present: expert -> [V] bool, the videos it found something in; empty where no features are known.
        notes: what else a reader must know of them.
        left_out: how many queries of these videos are not among the texts.
    """

    coverage: Coverage
    text_ids: tuple[str, ...]
    texts: tuple[str, ...]
    video_of_text: NDArray[np.int64]
    videos: tuple[Video, ...]
    captions: tuple[tuple[str, ...], ...]
    train: tuple[Video, ...] = ()
    selected_by: Collection[str] = ()
    present: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: int = 0

    @classmethod
    def of(
        cls,
        annotations: Annotations,
        coverage: Coverage,
        text_ids: Sequence[str],
        video_ids: Sequence[str],
        *,
        train: Sequence[str] = (),
        selected_by: Collection[str] = (),
        present: Mapping[str, Collection[str]] | None = None,
        notes: tuple[str, ...] = (),
        left_out: int = 0,
    ) -> Subject:
        """Return the subject of some captions and videos of annotations.

        Args:
            annotations: where the captions and videos are described.
            coverage: how much of a split's part they are.
            text_ids, video_ids: the query captions and the gallery.
            train, selected_by: ids of videos, see there.
            present: expert -> ids of the videos it found something in.
            notes, left_out: see there.

        Raises:
            KeyError: an id is not in the annotations.
        """
        row = {video_id: place for place, video_id in enumerate(video_ids)}
        captions = [annotations.caption_by_id[caption_id] for caption_id in text_ids]
        known = {expert: frozenset(ids) for expert, ids in (present or {}).items()}
        return cls(
            coverage,
            tuple(text_ids),
            tuple(caption.text for caption in captions),
            np.asarray([row.get(caption.video_id, -1) for caption in captions], np.int64),
            tuple(annotations.video_by_id[video_id] for video_id in video_ids),
            tuple(tuple(caption.text for caption in annotations.captions_by_video[video_id]) for video_id in video_ids),
            tuple(annotations.video_by_id[video_id] for video_id in train),
            selected_by,
            {expert: np.asarray([video_id in ids for video_id in video_ids]) for expert, ids in known.items()},
            notes,
            left_out,
        )

    @cached_property
    def right(self) -> Correspondence:
        """Each caption is right for its own video."""
        return Correspondence.of(self.video_of_text, len(self.videos))

    @cached_property
    def right_by_text(self) -> Correspondence:
        """Each caption is right for every video that carries the identical one."""
        return self.right.with_pairs(*identical_captions(self.texts, self.video_of_text, self.captions))
