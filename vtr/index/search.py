"""An index that is searched: videos by words, captions by videos, from files that are mapped into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtr.coverage import Coverage
from vtr.embeddings import CAPTIONS, VIDEOS, CaptionBatch, EmbeddedPart
from vtr.errors import WorkspaceError
from vtr.index.gallery import Gallery
from vtr.index.gpu import gpu_wanted
from vtr.index.kinds import set_parameters
from vtr.index.layout import MAKE, State, open_state, patterns
from vtr.index.ranking import (
    Asked,
    Clips,
    Found,
    Words,
    all_scores,
    search_approximately,
    search_exactly,
    text_rows,
    video_rows,
)
from vtr.index.segment import Rows, Segment
from vtr.similarity import ExactGallery, flat_videos
from vtr.types import TextEmbeddings, VideoEmbeddings
from vtr.workspace import check_made_from

__all__ = ["Found", "RetrievalIndex", "Rows", "text_rows", "video_rows"]

EXACT_AMONG = 200_000
"""Up to so many allowed rows are answered exactly, whatever the kind of index."""

HELD_BYTES = 1 << 28
"""Galleries whose vectors take at most so much in float64 are held so; others are converted a block at a time."""

Allowed = NDArray[np.bool_]


class RetrievalIndex:
    """The index of one embedded part: videos and captions. Answers are exact where `exact` is True.

    It holds all that searching needs, mapped into memory: ids, texts, vectors. Rows count the videos, or the captions,
    that there are to find, in the order of `video_ids` and `caption_ids`. It may be used from several threads.

    Args:
        state: what the manifest says.
        segments: what it names.
        device: where FAISS searches: "cpu", "cuda", or "auto" for a GPU where there is one.

    Attributes:
        state: see above.
        kind: what FAISS was asked to make, and its search parameters.
    """

    def __init__(self, state: State, segments: Sequence[Segment], *, device: str = "cpu") -> None:
        self.state = state
        gpu = gpu_wanted(device)
        self._segments = tuple(segments)
        for side in (VIDEOS, CAPTIONS):
            index = getattr(self._segments[0], side).approximate
            if index is not None:
                set_parameters(index, state.kinds[side]["parameters"])
        self._videos = Gallery([s.videos for s in segments], [s.live_videos() for s in segments], gpu=gpu)
        self._captions = Gallery([s.captions for s in segments], [s.live_captions() for s in segments], gpu=gpu)
        self._patterns = torch.tensor(patterns(state), dtype=torch.float64).reshape(-1, len(state.experts))

    @classmethod
    def open(
        cls,
        folder: Path,
        part: EmbeddedPart | None = None,
        *,
        embed_output: str | None = None,
        train_output: str | None = None,
        device: str = "cpu",
    ) -> RetrievalIndex:
        """Map what `build_index` wrote into memory.

        Args:
            folder: where it is.
            part: the embeddings it should be of, None to take it as it is.
            embed_output: their fingerprint, None not to ask.
            train_output: the fingerprint of the model that queries come from, None not to ask.
            device: see the class.

        Raises:
            WorkspaceError: it is missing, damaged, of an early layout, or of other embeddings or another model.
            UnavailableError: the device is not there.
        """
        state, segments = open_state(folder)
        for stage, output in (("embed", embed_output), ("train", train_output)):
            if output is not None and (stage == "embed" or stage in state.inputs):
                check_made_from(folder, stage, state.inputs, output, MAKE)
        opened = cls(state, segments, device=device)
        if part is not None and (opened.video_ids, opened.caption_ids) != (part.videos.ids, part.texts.ids):
            raise WorkspaceError(
                f"the index {folder} is damaged: its ids are not those of the {len(part.videos.ids)} videos that were "
                f"embedded. Delete the folder and run `{MAKE}` again."
            )
        return opened

    @property
    def exact(self) -> bool:
        """Whether nothing is missed, in both directions."""
        return self._videos.exact and self._captions.exact

    @property
    def kind(self) -> str:
        """The kind of index and its search parameters; that of the captions too, where it is another."""
        kinds = [
            " ".join(filter(None, (self.state.kinds[side]["factory"], self.state.kinds[side]["parameters"])))
            for side in (VIDEOS, CAPTIONS)
        ]
        return kinds[0] if kinds[0] == kinds[1] or not self.num_captions else f"{kinds[0]}, captions {kinds[1]}"

    @property
    def generation(self) -> str:
        """Changes whenever the index does."""
        return self.state.output

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts' names, the order of axis 1 of the vectors."""
        return self.state.experts

    @property
    def coverage(self) -> Coverage:
        """How much of a part it is."""
        return self.state.coverage

    @property
    def num_videos(self) -> int:
        """How many videos there are to find."""
        return self._videos.total

    @property
    def num_captions(self) -> int:
        """How many captions there are to find."""
        return self._captions.total

    @cached_property
    def video_ids(self) -> tuple[str, ...]:
        """The videos' ids, row after row."""
        return self._videos.column("id")

    @cached_property
    def caption_ids(self) -> tuple[str, ...]:
        """The captions' ids, row after row."""
        return self._captions.column("id")

    @cached_property
    def caption_texts(self) -> tuple[str, ...]:
        """The captions' texts, row after row."""
        return self._captions.column("text")

    @cached_property
    def video_of_caption(self) -> Rows:
        """[T] the row of the video that each caption describes."""
        found, before = [np.zeros(0, np.int64)], 0
        for segment in self._segments:
            live, owners = segment.live_videos(), np.asarray(segment.owners)
            if live is not None:
                owners = np.searchsorted(live, owners[segment.live_captions()])
            found.append(owners + before)
            before += len(segment.videos) if live is None else len(live)
        return np.concatenate(found)

    def videos_at(self, rows: Rows) -> VideoEmbeddings:
        """Return some of its videos. An expert's vector is zero where the expert does not count."""
        return VideoEmbeddings(self._videos.column_at("id", rows), *self._videos.gather(rows))

    def captions_at(self, rows: Rows) -> CaptionBatch:
        """Return some of its captions."""
        texts = TextEmbeddings(self._captions.column_at("id", rows), *self._captions.gather(rows))
        return CaptionBatch(texts, self._captions.column_at("text", rows), self.video_of_caption[rows])

    def video_blocks(self) -> Iterator[Rows]:
        """Yield the rows of all videos, some at a time."""
        return self._videos.blocks()

    def caption_blocks(self) -> Iterator[Rows]:
        """Yield the rows of all captions, some at a time."""
        return self._captions.blocks()

    @cached_property
    def part(self) -> EmbeddedPart:
        """All it holds. Vectors are mapped; copied where videos were added or removed since it was built."""
        return EmbeddedPart(
            self.experts,
            VideoEmbeddings(self.video_ids, *self._videos.whole()),
            TextEmbeddings(self.caption_ids, *self._captions.whole()),
            self.caption_texts,
            self.video_of_caption,
            self.coverage,
        )

    def check(self, part: EmbeddedPart) -> None:
        """Check that it holds exactly these embeddings, in their order.

        Raises:
            WorkspaceError: it holds others.
        """
        for what, gallery, vectors, per_expert in (
            (
                "videos",
                self._videos,
                flat_videos(part.videos).reshape(part.videos.vectors.shape),
                part.videos.present,
            ),
            ("captions", self._captions, part.texts.vectors, part.texts.weights),
        ):
            same = gallery.total == len(vectors)
            for rows in gallery.blocks() if same else ():
                held = gallery.gather(rows)
                chosen = torch.from_numpy(rows)
                same = (
                    same and torch.equal(held[0], vectors[chosen]) and torch.equal(held[1], per_expert[chosen].float())
                )
            if not same:
                raise WorkspaceError(
                    f"the index of the {what} holds other vectors than the embeddings. Run `{MAKE}` again."
                )

    def videos_for(self, texts: TextEmbeddings, wanted: int, among: Allowed | None = None) -> Found:
        """Return the best `wanted` videos of each text (all, where there are fewer).

        Args:
            texts: Q texts.
            wanted: K.
            among: [V] bool, the videos to look at, None for all. The answer is then exact, but for approximate indexes
                with more than `EXACT_AMONG` videos to look at.

        Raises:
            ValueError: the texts have other experts or another dimension than the gallery, or the mask another length.
        """
        self._check_shapes(texts.vectors, "texts")
        asked = Words(texts, self._held, self._patterns)
        return self._search(self._videos, asked, wanted, among, VIDEOS)

    def scores(self, texts: TextEmbeddings) -> NDArray[np.float32]:
        """Return the exact scores [Q, V] of some texts with every video of the gallery.

        Raises:
            ValueError: the texts have other experts or another dimension than the gallery.
        """
        self._check_shapes(texts.vectors, "texts")
        asked = Words(texts, self._held, self._patterns)
        return all_scores(self._videos, asked, np.arange(len(texts.ids)), None)

    def captions_for(self, videos: VideoEmbeddings, wanted: int, among: Allowed | None = None) -> Found:
        """Return the best `wanted` captions of each video (all, where there are fewer).

        Args:
            videos: Q videos.
            wanted: K.
            among: [T] bool, the captions to look at; see `videos_for`.

        Raises:
            WorkspaceError: the part has no captions.
            ValueError: the videos have other experts or dim than the captions, or the mask another length.
        """
        if not self.num_captions:
            raise WorkspaceError(
                f"{self.coverage} has no captions to answer with. Search it with words, or prepare it with "
                "--captions and train, embed and index again."
            )
        self._check_shapes(videos.vectors, "videos")
        return self._search(self._captions, Clips(videos, self._captions), wanted, among, CAPTIONS)

    @cached_property
    def _held(self) -> ExactGallery | None:
        """The videos in float64, where these are few."""
        if 8 * self._videos.total * self._videos.width > HELD_BYTES:
            return None
        return ExactGallery(VideoEmbeddings(("",) * self._videos.total, *self._videos.whole()))

    def _check_shapes(self, vectors: Tensor, what: str) -> None:
        experts, dim = len(self.experts), self.state.dim
        if tuple(vectors.shape[1:]) != (experts, dim):
            raise ValueError(
                f"{what} {tuple(vectors.shape)} and an index of [N, {experts}, {dim}]: [Q, E, D] with the same experts "
                "and dim expected"
            )

    def _search(self, gallery: Gallery, asked: Asked, wanted: int, among: Allowed | None, side: str) -> Found:
        allowed: Rows | None = None
        if among is not None:
            if among.shape != (gallery.total,):
                raise ValueError(f"a mask of {among.shape} for {gallery.total} {side}: one value each was expected")
            allowed = np.flatnonzero(among)
        if not gallery.exact and (allowed is None or len(allowed) > EXACT_AMONG):
            depth = int(self.state.kinds[side]["candidates"])
            found = search_approximately(gallery, asked, wanted, allowed, depth)
            if found is not None:
                return found
        return search_exactly(gallery, asked, wanted, allowed)
