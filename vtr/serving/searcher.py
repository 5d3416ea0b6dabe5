"""The engine behind `vtr search` and the HTTP API: a model, a gallery's index, and what is known of its videos."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vtr.annotations.tables import load_annotations
from vtr.config import TrainConfig
from vtr.embeddings import EmbeddedPart
from vtr.errors import InputError
from vtr.evaluation.postprocess import QueryBank
from vtr.index.search import Found, RetrievalIndex
from vtr.models.base import RetrievalModel
from vtr.models.saved import load_model
from vtr.models.text import TextInput
from vtr.types import PARTS, Annotations, Part, Ranking, TextEmbeddings, VideoBatch
from vtr.workspace import MANIFEST, Run, read_manifest


@dataclass(frozen=True, slots=True)
class Hit:
    """One result.

    Attributes:
        rank: 1 is best.
        score: `vtr.similarity`'s, -1 to 1; about that where the model corrects for hubs.
        video_id: the video found, or the one a found caption describes.
        path: where the video lies (see `vtr.annotations.locators`), None when there is no file.
        caption: the caption found, or one that the video found is known by; None where it has none.
    """

    rank: int
    score: float
    video_id: str
    path: str | None
    caption: str | None


class Searcher:
    """Answers words with videos and videos with captions. It may be used from several threads.

    Args:
        model: the run's best checkpoint, on the CPU.
        config: what it was trained with.
        index: the gallery.
        annotations: the gallery's videos and captions.
        bank: what training captions say about the gallery's videos; words are then answered in the order of QB-Norm.
    """

    def __init__(
        self,
        model: RetrievalModel,
        config: TrainConfig,
        index: RetrievalIndex,
        annotations: Annotations,
        bank: QueryBank | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.part: EmbeddedPart = index.part
        self.annotations = annotations
        self._index = index
        self._bank = bank
        self._text_input = TextInput(config.text)
        self._one_at_a_time = threading.Lock()  # tokenisers are not thread-safe
        self._in_gallery = frozenset(self.part.videos.ids)

    @classmethod
    def load(cls, run: Run, index: RetrievalIndex, bank: QueryBank | None = None) -> Searcher:
        """Return a searcher of a gallery that is open already, with a bank of training captions or without."""
        model, config = load_model(run.checkpoints / "best", "cpu")
        return cls(model, config, index, load_annotations(run.workspace), bank)

    @property
    def order(self) -> str:
        """What videos are ordered by for words: "score", or "QB-Norm"."""
        return "score" if self._bank is None else "QB-Norm"

    def by_text(self, queries: Sequence[str], top: int) -> Ranking:
        """Return the best `top` videos for each query.

        Raises:
            InputError: a query is empty.
        """
        if any(not query.strip() for query in queries):
            raise InputError('the query is empty. Say what to look for, for example "a man is cooking".')
        with self._one_at_a_time, torch.inference_mode():
            texts = self.model.embed_texts(self._text_input.batch(queries, queries))
        found = self._index.videos_for(texts, top) if self._bank is None else self._normalised(texts, top, self._bank)
        return _ranking(tuple(queries), found, self.part.videos.ids)

    def _normalised(self, texts: TextEmbeddings, top: int, bank: QueryBank) -> Found:
        """Return the best videos in the order of QB-Norm, with their scores as they are.

        Every video of the gallery is scored: one that the index ranks low may come up when hubs go down.
        """
        scores = self._index.scores(texts)
        rows = np.argsort(-bank.normalise(scores), axis=1, kind="stable")[:, :top]
        return Found(rows, np.take_along_axis(scores, rows, axis=1))

    def by_videos(self, videos: VideoBatch, top: int) -> Ranking:
        """Return the best `top` captions for each video, which need not be in the gallery.

        Raises:
            WorkspaceError: the gallery has no captions.
        """
        with torch.inference_mode():
            embedded = self.model.embed_videos(videos)
        return _ranking(videos.ids, self._index.captions_for(embedded, top), self.part.texts.ids)

    def video_path(self, video_id: str) -> str | None:
        """Return where a video of the gallery lies, None for any other id or where there is no file."""
        return self.annotations.video_by_id[video_id].path if video_id in self._in_gallery else None

    def video_hits(self, ranking: Ranking) -> list[Hit]:
        """Return the first query's results, videos, with what is known of them."""
        hits = []
        for rank, (video_id, score) in enumerate(zip(ranking.item_ids[0], ranking.scores[0], strict=True), 1):
            captions = self.annotations.captions_by_video[video_id]
            caption = captions[0].text if captions else None
            hits.append(Hit(rank, score, video_id, self.video_path(video_id), caption))
        return hits

    def caption_hits(self, ranking: Ranking) -> list[Hit]:
        """Return the first query's results, captions, with the videos they describe."""
        hits = []
        for rank, (caption_id, score) in enumerate(zip(ranking.item_ids[0], ranking.scores[0], strict=True), 1):
            caption = self.annotations.caption_by_id[caption_id]
            hits.append(Hit(rank, score, caption.video_id, self.video_path(caption.video_id), caption.text))
        return hits


def largest_gallery(
    run: Run, split: str | None = None, part: Part | None = None, *, captions: bool = False
) -> tuple[str, Part] | None:
    """Return split and part of the run's indexed gallery with the most videos, None when none is indexed.

    Args:
        run: the run.
        split, part: only galleries of this split and this part; None for any.
        captions: only galleries that have captions.
    """
    sizes: dict[tuple[str, Part], int] = {}
    for path in sorted(run.index.glob(f"*/{MANIFEST}")):
        name, _, part_name = path.parent.name.rpartition("-")
        counts = read_manifest(path.parent, "vtr index RUN")["counts"]
        for known in PARTS:
            if (
                part_name == known
                and split in (None, name)
                and part in (None, known)
                and counts["captions"] >= captions
            ):
                sizes[name, known] = counts["videos"]
    return max(sizes, key=sizes.__getitem__, default=None)


def _ranking(queries: tuple[str, ...], found: Found, ids: tuple[str, ...]) -> Ranking:
    return Ranking(
        queries,
        tuple(tuple(ids[row] for row in rows if row >= 0) for rows in found.rows),
        tuple(tuple(scores[rows >= 0].tolist()) for rows, scores in zip(found.rows, found.scores, strict=True)),
    )
