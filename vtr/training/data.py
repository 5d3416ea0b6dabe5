"""What the training loop reads: one feature table, one caption table, and which row belongs to which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from vtr.data.corpus import Corpus
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.data.positives import KnownPositives
from vtr.data.sampling import Pair
from vtr.data.texts import CaptionTable
from vtr.progress import say
from vtr.types import Batch

SHARE = 0.5
"""The share of a GPU's free memory that features and captions may take; the rest is for what a step needs."""

GIB = 1 << 30


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

    def batch(
        self,
        pairs: Sequence[Pair],
        generator: np.random.Generator | None,
        device: torch.device,
        part: slice | None = None,
    ) -> Batch:
        """Return the batch of some (video row, caption row) pairs, or of a part of them; see `FeatureTable.batch`."""
        videos = self.table.batch([video for video, _ in pairs], generator, part)
        rows = [caption for _, caption in (pairs if part is None else pairs[part])]
        return Batch(videos, self.captions.batch(rows)).to(device)

    def to(self, device: torch.device, share: float = SHARE) -> TrainingData:
        """Return the same data with features and captions on a GPU, as far as they fit, and say what stays behind.

        Where they are on it, a batch is made there of the places of its rows. On a CPU, all stays as it is.

        Args:
            device: where the model is; put it there first.
            share: of the device's free memory that they may take, 0 to 1.
        """
        if device.type == "cpu":
            return self
        free, _ = torch.cuda.mem_get_info(device)
        return self.within(device, int(share * free))

    def within(self, device: torch.device, room: int) -> TrainingData:
        """Return `to` with the bytes that features and captions may take, on any device."""
        captions, of_captions = self.captions.to(device, room)
        table, of_features = self.table.to(device, room - of_captions)
        kept = [f"the features of {', '.join(table.on_host)}"] if table.on_host else []
        kept += [] if of_captions else ["the captions"]
        behind = f"; {' and '.join(kept)} stay on the host, as there is room for {room / GIB:.2f} GiB" if kept else ""
        say(f"on {device}: {(of_captions + of_features) / GIB:.2f} GiB of features and captions{behind}")
        return replace(self, table=table, captions=captions)


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
