"""What `vtr search`, the HTTP API and Python callers search with: a model, an index, and what is known of videos."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from vtr.config import TrainConfig
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.embeddings import EmbeddedPart
from vtr.errors import InputError, VtrError, counted, nearest
from vtr.evaluation.postprocess import QueryBank
from vtr.index.search import RetrievalIndex
from vtr.models import text_input
from vtr.models.base import RetrievalModel
from vtr.models.saved import load_model
from vtr.progress import say
from vtr.retrieval.answering import Answering
from vtr.retrieval.filters import ANY, Filters
from vtr.retrieval.finds import describe
from vtr.retrieval.galleries import embed_and_index, largest_gallery
from vtr.retrieval.gallery import Gallery, Pick
from vtr.retrieval.hits import Hit, Stretch
from vtr.retrieval.library import SPLIT
from vtr.retrieval.library_source import library_source
from vtr.retrieval.moments import Moments
from vtr.retrieval.source import PartSource, Source
from vtr.retrieval.stored import Features, StoredFeatures
from vtr.store.reader import FeatureStore
from vtr.types import Annotations, Part, TextEmbeddings, VideoBatch, VideoEmbeddings
from vtr.workspace import Run, read_manifest

LIBRARY = "the library"
"""What the videos that `vtr ingest` put in are called."""

MOST_COMPARED = 5_000
"""Of so many videos an id that is not there is compared with all; of more, that would take longer than a search."""


class Retriever:
    """Answers words with videos, and a video with videos or captions. It may be used from several threads.

    Args:
        model: the run's best checkpoint, on the CPU.
        config: what it was trained with.
        index: the gallery.
        annotations: the gallery's videos and captions.
        bank: what training captions say about the gallery's videos; words are then answered in the order of QB-Norm.
        items: row id of the gallery -> the part of a video that the row is, where it is not a whole one. Each video is
            answered once, by its best row.
        store: the videos' features; without it there are no moments and snippets, and fewer facts.
        generation: which generation of its index the gallery is, changed whenever the index is.
        source: where the gallery is opened anew, for `refresh`.
        finds: what this gallery can find, in one or two sentences; by default what its experts read.
    """

    def __init__(
        self,
        model: RetrievalModel,
        config: TrainConfig,
        index: RetrievalIndex,
        annotations: Annotations,
        bank: QueryBank | None = None,
        *,
        items: Mapping[str, Stretch] | None = None,
        store: FeatureStore | None = None,
        generation: str = "",
        source: Source | None = None,
        finds: str | None = None,
    ) -> None:
        self.model = model
        self.config = config
        gallery = Gallery(index, annotations, bank, items=items, store=store, generation=generation)
        self._searched = self._prepare(gallery)
        self._source = source
        self._finds = finds
        self._text_input = text_input(config)
        self._one_at_a_time = threading.Lock()  # tokenisers are not thread-safe
        self._refreshing = threading.Lock()
        self._refused = ""

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
            split, part: the gallery; by default the run's library, else the largest that is indexed, else see
                `vtr.data.corpus.resolve_part`.
            captions: by default the largest that is indexed and has captions.
            qb_norm: answer words in the order of QB-Norm; its bank of training captions is made where it is missing.

        Raises:
            WorkspaceError: the run is not trained, or the gallery has no features.
        """
        opened = run if isinstance(run, Run) else Run.open(Path(run), workspace)
        trained = str(read_manifest(opened.root, "vtr train")["output"])
        source: Source
        library = None
        if split is None and part is None:
            library = library_source(opened, trained, captions=captions, qb_norm=qb_norm)
        if library is None:
            split, part = (split, part) if split or part else largest_gallery(opened, captions=captions) or (None, None)
            indexed = embed_and_index(opened, split, part, available_only=True)
            of_part = PartSource(opened, indexed.split, indexed.part, qb_norm, trained)
            source, found = of_part, of_part.gallery(indexed)
        else:
            source, found = library, library.open()
        model, config = load_model(opened.checkpoints / "best", "cpu")
        return cls(
            *(model, config, found.index, found.annotations, found.bank),
            items=found.items,
            store=found.store,
            generation=found.generation,
            source=source,
            finds=model.finds,
        )

    @property
    def part(self) -> EmbeddedPart:
        """The embeddings of the gallery, mapped into memory where they can be."""
        return self._searched.gallery.index.part

    @property
    def annotations(self) -> Annotations:
        """The gallery's videos and captions."""
        return self._searched.gallery.annotations

    @property
    def gallery(self) -> str:
        """What is searched, in words, with its coverage."""
        return f"{self.place}: {counted(self.num_videos, 'video')}" if self.place == LIBRARY else self.place

    @property
    def place(self) -> str:
        """What is searched, in words: "the library", or a part with its coverage."""
        coverage = self._searched.gallery.index.coverage
        return LIBRARY if coverage.split == SPLIT else str(coverage)

    @property
    def num_videos(self) -> int:
        """How many videos are searched."""
        return len(self._searched.gallery.rows_of)

    @property
    def num_captions(self) -> int:
        """How many captions a video can be answered with."""
        return self._searched.gallery.index.num_captions

    @property
    def order(self) -> str:
        """What videos are ordered by for words: "score", or "QB-Norm"."""
        return "score" if self._searched.gallery.bank is None else "QB-Norm"

    @property
    def experts(self) -> tuple[str, ...]:
        """What the score adds up, the keys of `Hit.shares`; "hubs" is last, where the model corrects for them."""
        return self._searched.scored

    @property
    def categories(self) -> Mapping[str, int]:
        """Category -> how many of the gallery's videos are of it, in alphabetical order."""
        return self._searched.gallery.row_facts.categories

    @property
    def has_durations(self) -> bool:
        """Whether the duration of any video is known, so that it can be filtered by."""
        return self._searched.gallery.row_facts.has_durations

    @property
    def has_speech(self) -> bool:
        """Whether words are spoken in any video, as far as an expert heard."""
        return self._searched.gallery.row_facts.has_speech

    @property
    def finds(self) -> str:
        """What this gallery can find, in one or two sentences."""
        return self._finds or describe(self.model.experts, self._searched.gallery.store)

    @property
    def generation(self) -> str:
        """Which generation of its index the gallery is."""
        return self._searched.gallery.generation

    def refresh(self) -> bool:
        """Open the gallery anew where its index has changed on disk, and return whether it was.

        Searches under way end with the gallery they began with. A gallery that cannot be opened, since it is just being
        replaced or is damaged, leaves the one there is; that is said once.
        """
        if self._source is None or not self._refreshing.acquire(blocking=False):
            return False
        try:
            now = self._source.generation()
            if now == self.generation:
                return False
            self._searched = self._prepare(self._source.open())
            self._refused = ""
        except VtrError as error:
            if str(error) != self._refused:
                say(f"the gallery is not opened anew, the one before is still searched: {error}")
            self._refused = str(error)
            return False
        else:
            return True
        finally:
            self._refreshing.release()

    def search(
        self, queries: Sequence[str], k: int = 10, *, filters: Filters = ANY, details: bool = True
    ) -> list[list[Hit]]:
        """Return the best `k` videos for each query, best first.

        Args:
            queries: what to look for.
            k: how many videos, fewer where there are fewer.
            filters: which videos may answer.
            details: also find moments, shares and snippets.

        Raises:
            InputError: a query is empty, or a filter asks for what is not known here.
        """
        if any(not query.strip() for query in queries):
            raise InputError('the query is empty. Say what to look for, for example "a man is cooking".')
        with self._one_at_a_time, torch.inference_mode():
            texts = self.model.embed_texts(self._text_input.batch(queries, queries))
        searched = self._searched
        best = searched.gallery.best(texts, k, filters, normalised=True)
        return [searched.hits(texts, picks, words, details) for picks, words in zip(best, queries, strict=True)]

    def similar(self, video_id: str, k: int = 10, *, filters: Filters = ANY, details: bool = True) -> list[Hit]:
        """Return the best `k` other videos like one of the gallery, best first.

        A video of several rows is alike by the two rows that are most alike.

        Raises:
            InputError: the gallery has no such video, or a filter asks for what is not known here.
        """
        searched = self._searched
        if (rows := searched.gallery.rows_of.get(video_id)) is None:
            raise InputError(
                f"the gallery has no video '{video_id}'.{self._nearest(video_id)} Ids are those that a search answers."
            )
        asked = self._as_texts(searched.gallery.index.videos_at(np.asarray(rows)))
        alike = self._alike(searched.gallery, asked, k + 1, filters)
        others = [pick for pick in alike if searched.gallery.video_ids[pick.row] != video_id]
        return searched.hits(asked, others[:k], "", details)

    def similar_to(self, features: Features, k: int = 10, *, filters: Filters = ANY, details: bool = True) -> list[Hit]:
        """Return the best `k` videos like one that need not be in the gallery, best first.

        Raises:
            InputError: none of the model's experts found anything, features have another dim, or a filter asks for what
                is not known here.
        """
        searched, asked = self._searched, self._as_texts(self._embed(features))
        return searched.hits(asked, self._alike(searched.gallery, asked, k, filters), "", details)

    def captions_for(self, features: Features, k: int = 10, *, details: bool = True) -> list[Hit]:
        """Return the best `k` captions for a video, which need not be in the gallery, best first.

        Raises:
            InputError: none of the model's experts found anything, or features have another dim.
            WorkspaceError: the gallery has no captions.
        """
        return self._searched.captions(self._embed(features), k, details)

    def video_path(self, video_id: str) -> str | None:
        """Return where a video of the gallery lies, None for any other id or where there is no file."""
        return self._searched.gallery.path(video_id)

    def duration_seconds(self, video_id: str) -> float | None:
        """Return how long a video of the gallery is, None for any other id or where it is not known."""
        gallery = self._searched.gallery
        return gallery.facts.duration_seconds(video_id) if video_id in gallery.rows_of else None

    def _prepare(self, gallery: Gallery) -> Answering:
        """Return a gallery ready to be searched: what is known of its videos is read now, not by the first search."""
        _ = gallery.row_facts
        if gallery.store is None:
            return Answering(gallery, self.model.dim)
        choice = FeatureChoice.of(self.config)
        stored = StoredFeatures(gallery.store, self.model.experts, gallery.facts.times, choice.aggregate)
        return Answering(gallery, self.model.dim, Moments(self.model, choice, stored, gallery.items))

    def _nearest(self, video_id: str) -> str:
        """Return a question for the id that was perhaps meant, "" where none is close."""
        known = self._searched.gallery.rows_of
        return nearest(video_id, list(known)) if len(known) <= MOST_COMPARED else ""

    def _as_texts(self, videos: VideoEmbeddings) -> TextEmbeddings:
        """Return videos as queries: the score is the mean over the experts that both have of their cosines."""
        matched = videos.vectors.clone()
        matched[:, :, self.model.dim :] = 0  # what corrects for hubs says nothing of two videos
        present = videos.present.float()
        return TextEmbeddings(videos.ids, matched, present / present.sum(dim=1, keepdim=True).clamp_min(1))

    def _alike(self, gallery: Gallery, asked: TextEmbeddings, k: int, filters: Filters) -> list[Pick]:
        """Return the best videos for any of some queries, each by its best row and query."""
        found = (pick for picks in gallery.best(asked, k, filters) for pick in picks)
        best: dict[str, Pick] = {}
        for pick in sorted(found, key=lambda pick: (-pick.score, pick.row, pick.query)):
            best.setdefault(gallery.video_ids[pick.row], pick)
        return list(best.values())[:k]

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
