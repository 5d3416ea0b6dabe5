"""What was asked of what, in words that a table can carry: queries, gallery, tie rule."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from vtr.evaluation.metrics import TIE_RULE
from vtr.evaluation.correspondence import Owners


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a part is evaluated.

    Attributes:
        name: captions a video, in short ("20 captions a video").
        text_to_video, video_to_text: queries, gallery and tie rule of each direction.
    """

    name: str
    text_to_video: str
    video_to_text: str


def describe(video_of_text: Owners, num_videos: int) -> Protocol:
    """Return the protocol of a part, from its queries and its gallery.

    Args:
        video_of_text: [T], each query caption's video.
        num_videos: V, the size of the gallery.
    """
    queries, captions = np.unique(np.asarray(video_of_text), return_counts=True)
    num_texts = int(captions.sum())
    least, most = int(captions.min()), int(captions.max())
    each = f"{least} caption{'s' if least > 1 else ''}" if least == most else f"{least} to {most} captions"
    bare = num_videos - len(queries)
    gallery = f"{num_videos:,} videos" + (f" ({bare:,} of them without captions)" if bare else "")
    own = "its caption" if most == 1 else "the best-ranked of its own captions"
    return Protocol(
        f"{each} a video",
        f"each of {num_texts:,} captions ranks {gallery}; {TIE_RULE}",
        f"each of {len(queries):,} videos ranks {num_texts:,} captions and counts by {own}; {TIE_RULE}",
    )


def selection_notes(gallery: Collection[str], train: Collection[str], validation: Collection[str]) -> tuple[str, ...]:
    """Return what a reader must know when evaluated videos were used for training or for choosing the checkpoint.

    Args:
        gallery: ids of the evaluated videos.
        train, validation: ids of the videos the run learnt from, and of those its checkpoint was chosen by.
    """
    notes = []
    if learnt := len(set(gallery) & set(train)):
        notes.append(f"The model was trained on {learnt:,} of these {len(gallery):,} videos: this is no test.")
    if chosen := len(set(gallery) & set(validation)):
        notes.append(
            f"The checkpoint was chosen by {chosen:,} of these {len(gallery):,} videos, so the figures are optimistic."
        )
    return tuple(notes)
