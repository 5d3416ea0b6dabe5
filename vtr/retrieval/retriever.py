"""What `vtr search`, the HTTP API and Python callers search with: a model, an index, and what is known of videos."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from vtr.annotations.tables import load_annotations
from vtr.config import TrainConfig
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.embeddings import EmbeddedPart
from vtr.errors import InputError
from vtr.evaluation.postprocess import QueryBank
from vtr.index.search import Found, RetrievalIndex, video_rows
from vtr.models import text_input
from vtr.models.base import RetrievalModel
from vtr.models.saved import load_model
from vtr.retrieval.filters import ANY, Filters
from vtr.retrieval.galleries import embed_and_index, largest_gallery
from vtr.retrieval.hits import Hit
from vtr.retrieval.library import open_library
from vtr.retrieval.query_bank import query_banks
from vtr.types import Annotations, ExpertFeatures, Part, TextEmbeddings, VideoBatch, VideoEmbeddings
from vtr.workspace import Run

Features = Mapping[str, ExpertFeatures]
"""Expert -> the features of one video."""


class Retriever:
    """Answers words with videos, and a video with videos or captions. It may be used from several threads.

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
        self._text_input = text_input(config)
        self._one_at_a_time = threading.Lock()  # tokenisers are not thread-safe
        self._in_gallery = {video_id: row for row, video_id in enumerate(self.part.videos.ids)}

    @classmethod
    def load(
        cls,
        run: Path | str | Run,
        *,
        workspace: Path | None = None,
        split: str | None = None,
        part: Part | None = None,
        captions: bool = False,
        qb_norm: bool = False,
    ) -> Retriever:
        """Return a retriever of a run; its gallery is embedded and indexed first where that is missing or stale.

        Videos without features are left out: `gallery` says how many.

        Args:
            run: a trained run.
            workspace: search this workspace's videos instead of those the run was trained on.
            split, part: the gallery; by default the largest that is indexed, else see `vtr.data.corpus.resolve_part`.
            captions: by default the largest that is indexed and has captions.
            qb_norm: answer words in the order of QB-Norm; its bank of training captions is made where it is missing.

        Raises:
            WorkspaceError: the run is not trained, or the gallery has no features.
        """
        opened = run if isinstance(run, Run) else Run.open(Path(run), workspace)
        if split is None and part is None and (library := open_library(opened)) is not None:
            bank = query_banks(opened, library.indexed, captions=False).texts if qb_norm else None
            model, config = load_model(opened.checkpoints / "best", "cpu")
            return cls(model, config, library.indexed.index, load_annotations(library.workspace), bank)
        if split is None and part is None and (largest := largest_gallery(opened, captions=captions)) is not None:
            split, part = largest
        indexed = embed_and_index(opened, split, part, available_only=True)
        bank = query_banks(opened, indexed, captions=False).texts if qb_norm else None
        model, config = load_model(opened.checkpoints / "best", "cpu")
        return cls(model, config, indexed.index, load_annotations(opened.workspace), bank)

    @property
    def gallery(self) -> str:
        """What is searched, in words, with its coverage."""
        return str(self.part.coverage)

    @property
    def num_videos(self) -> int:
        """How many videos are searched."""
        return len(self.part.videos.ids)

    @property
    def num_captions(self) -> int:
        """How many captions a video can be answered with."""
        return len(self.part.texts.ids)

    @property
    def order(self) -> str:
        """What videos are ordered by for words: "score", or "QB-Norm"."""
        return "score" if self._bank is None else "QB-Norm"

    def search(self, queries: Sequence[str], k: int = 10, *, filters: Filters = ANY) -> list[list[Hit]]:
        """Return the best `k` videos for each query, best first.

        Raises:
            InputError: a query is empty.
        """
        del filters
        if any(not query.strip() for query in queries):
            raise InputError('the query is empty. Say what to look for, for example "a man is cooking".')
        with self._one_at_a_time, torch.inference_mode():
            texts = self.model.embed_texts(self._text_input.batch(queries, queries))
        found = self._index.videos_for(texts, k) if self._bank is None else self._normalised(texts, k, self._bank)
        return self._video_hits(found)

    def similar(self, video_id: str, k: int = 10, *, filters: Filters = ANY) -> list[Hit]:
        """Return the best `k` other videos like one of the gallery, best first.

        Raises:
            InputError: the gallery has no such video.
        """
        if (row := self._in_gallery.get(video_id)) is None:
            raise InputError(f"the gallery has no video '{video_id}'. Ids are those that a search answers.")
        alike = self._alike(video_rows(self.part.videos, np.asarray([row])), k + 1, filters)
        others = [hit for hit in alike if hit.video_id != video_id][:k]
        return [Hit(rank, hit.score, hit.video_id, hit.path, hit.caption) for rank, hit in enumerate(others, 1)]

    def similar_to(self, features: Features, k: int = 10, *, filters: Filters = ANY) -> list[Hit]:
        """Return the best `k` videos like one that need not be in the gallery, best first.

        Raises:
            InputError: none of the model's experts found anything, or features have another dim.
        """
        return self._alike(self._embed(features), k, filters)

    def captions_for(self, features: Features, k: int = 10) -> list[Hit]:
        """Return the best `k` captions for a video, which need not be in the gallery, best first.

        Raises:
            InputError: none of the model's experts found anything, or features have another dim.
            WorkspaceError: the gallery has no captions.
        """
        return self._caption_hits(self._index.captions_for(self._embed(features), k))

    def video_path(self, video_id: str) -> str | None:
        """Return where a video of the gallery lies, None for any other id or where there is no file."""
        return self.annotations.video_by_id[video_id].path if video_id in self._in_gallery else None

    def _normalised(self, texts: TextEmbeddings, k: int, bank: QueryBank) -> Found:
        """Return the best videos in the order of QB-Norm, with their scores as they are.

        Every video of the gallery is scored: one that the index ranks low may come up when hubs go down.
        """
        scores = self._index.scores(texts)
        rows = np.argsort(-bank.normalise(scores), axis=1, kind="stable")[:, :k]
        return Found(rows, np.take_along_axis(scores, rows, axis=1))

    def _alike(self, videos: VideoEmbeddings, k: int, filters: Filters) -> list[Hit]:
        """Return the best videos for a video: the mean over the experts that both have of their cosines."""
        del filters
        matched = videos.vectors.clone()
        matched[:, :, self.model.dim :] = 0  # what corrects for hubs says nothing of two videos
        present = videos.present.float()
        asked = TextEmbeddings(videos.ids, matched, present / present.sum(dim=1, keepdim=True).clamp_min(1))
        return self._video_hits(self._index.videos_for(asked, k))[0]

    def _embed(self, features: Features) -> VideoEmbeddings:
        with torch.inference_mode():
            return self.model.embed_videos(self._batch(features))

    def _batch(self, features: Features) -> VideoBatch:
        known = {name: found for name, found in features.items() if name in self.model.expert_dims}
        if not known:
            raise InputError(
                f"the video shows nothing that the model's experts see ({', '.join(self.model.expert_dims)})."
            )
        for name, found in known.items():
            if found.dim != self.model.expert_dims[name]:
                raise InputError(
                    f"{name} features have dim {found.dim}, the model takes {self.model.expert_dims[name]}. "
                    "Extract with the expert the model was trained on."
                )
        of_one = {name: {"": found} for name, found in known.items()}
        return FeatureTable([""], of_one, self.model.expert_dims, FeatureChoice.of(self.config)).batch([0])

    def _video_hits(self, found: Found) -> list[list[Hit]]:
        return [
            [
                self._video_hit(rank, row, score)
                for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True), 1)
                if row >= 0
            ]
            for rows, scores in zip(found.rows, found.scores, strict=True)
        ]

    def _video_hit(self, rank: int, row: int, score: float) -> Hit:
        video_id = self.part.videos.ids[row]
        captions = self.annotations.captions_by_video[video_id]
        return Hit(rank, score, video_id, self.video_path(video_id), captions[0].text if captions else None)

    def _caption_hits(self, found: Found) -> list[Hit]:
        hits = []
        for rank, (row, score) in enumerate(zip(found.rows[0].tolist(), found.scores[0].tolist(), strict=True), 1):
            if row >= 0:
                caption = self.annotations.caption_by_id[self.part.texts.ids[row]]
                path = self.video_path(caption.video_id)
                hits.append(Hit(rank, score, caption.video_id, path, caption.text))
        return hits
