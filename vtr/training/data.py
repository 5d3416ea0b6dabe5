"""What the training loop reads: one feature table, one caption table, and which row belongs to which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from vtr.data.corpus import Corpus
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.data.positives import KnownPositives
from vtr.data.sampling import Pair
from vtr.data.texts import CaptionTable
from vtr.types import Batch


@dataclass(frozen=True)
class TrainingData:
    """What the loop reads.

    Attributes:
        table, captions: the features and captions of the training and validation parts.
        train: video row -> its caption rows.
        validation_videos, validation_texts: rows of the validation part; empty where the split has none.
        video_of_text: for each validation text, its place among the validation videos.
    """

    table: FeatureTable
    captions: CaptionTable
    train: dict[int, list[int]]
    validation_videos: list[int]
    validation_texts: list[int]
    video_of_text: list[int] = field(default_factory=list)

    @cached_property
    def positives(self) -> KnownPositives:
        """Which captions are known to describe which training videos."""
        video_of = {caption: video for video, captions in self.train.items() for caption in captions}
        texts = [caption.text for caption in self.captions.captions]
        return KnownPositives(texts, [video_of.get(row, -1) for row in range(len(texts))])

    def batch(self, pairs: Sequence[Pair], generator: np.random.Generator | None, device: torch.device) -> Batch:
        """Return the batch of some (video row, caption row) pairs, on a device; see `FeatureTable.batch`."""
        videos = self.table.batch([video for video, _ in pairs], generator)
        return Batch(videos, self.captions.batch([caption for _, caption in pairs])).to(device)


def make_data(corpus: Corpus, captions: CaptionTable, choice: FeatureChoice | None = None) -> TrainingData:
    """Return the training and validation parts of a corpus as rows of one feature table and one caption table."""
    train, validation = corpus.video_ids("train"), corpus.video_ids("validation")
    table = FeatureTable.open(corpus.store, train + validation, corpus.experts, choice)
    video_row = {video_id: row for row, video_id in enumerate(table.video_ids)}
    caption_row = {caption.id: row for row, caption in enumerate(captions.captions)}
    queries = corpus.queries("validation")
    captions_of: dict[int, list[int]] = {video_row[video_id]: [] for video_id in train}
    for caption in corpus.captions("train"):
        captions_of[video_row[caption.video_id]].append(caption_row[caption.id])
    return TrainingData(
        table,
        captions,
        captions_of,
        [video_row[video_id] for video_id in validation],
        [caption_row[caption.id] for caption in queries],
        [video_row[caption.video_id] - len(train) for caption in queries],
    )
