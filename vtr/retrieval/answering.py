"""From the rows that a search found to its results: with moments, shares and what is known of the videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from vtr.index.search import text_rows
from vtr.retrieval.gallery import Gallery, Pick
from vtr.retrieval.hits import NO_SHARES, Hit, Moment, Snippet
from vtr.retrieval.moments import Moments
from vtr.similarity import expert_shares
from vtr.types import TextEmbeddings, VideoEmbeddings

HUBS = "hubs"
"""What the share of the numbers that correct for hubs is called."""

MOMENTS_AT_ONCE = 64
"""Videos whose windows are in memory at once."""


class Answering:
    """A gallery, and what makes results of its rows. One search works on one of these from beginning to end.

    Args:
        gallery: what is searched.
        dim: how many numbers of each expert's vector compare; those behind them correct for hubs.
        moments: finds best moments; None where the videos' features are not known.
    """

    def __init__(self, gallery: Gallery, dim: int, moments: Moments | None = None) -> None:
        self.gallery = gallery
        self._dim = dim
        self._moments = moments

    @property
    def scored(self) -> tuple[str, ...]:
        """What the score adds up, the keys of shares."""
        index = self.gallery.index
        return (*index.experts, HUBS) if index.state.dim > self._dim else index.experts

    def hits(self, asked: TextEmbeddings, picks: Sequence[Pick], words: str, details: bool) -> list[Hit]:
        """Return the results of picks, which may answer several queries.

        Args:
            asked: the queries, which the picks count in.
            picks: best first.
            words: the query in words, which a snippet may share; "" where a video asked.
            details: also find moments, shares and snippets.
        """
        gallery = self.gallery
        ids = [gallery.video_ids[pick.row] for pick in picks]
        moments: Sequence[Moment | None] = [None] * len(picks)
        shares, snippets = [NO_SHARES] * len(picks), list[Snippet | None]([None] * len(picks))
        if details:
            moments = self._best_moments(asked, picks)
            videos = gallery.index.videos_at(np.array([pick.row for pick in picks], np.int64))
            queries = torch.tensor([pick.query for pick in picks], dtype=torch.int64)
            shares = self._shares(asked, videos, queries, torch.arange(len(picks)))
            snippets = [
                gallery.facts.snippet(video_id, moment, words, of_experts)
                for video_id, moment, of_experts in zip(ids, moments, shares, strict=True)
            ]
        hits = []
        for at, (pick, video_id) in enumerate(zip(picks, ids, strict=True)):
            found = (moments[at], shares[at], snippets[at])
            hits.append(self._hit(at + 1, pick.score, video_id, gallery.caption(video_id), *found))
        return hits

    def captions(self, video: VideoEmbeddings, k: int, details: bool) -> list[Hit]:
        """Return the best `k` captions of one video.

        Raises:
            WorkspaceError: the gallery has no captions.
        """
        found = self.gallery.index.captions_for(video, k)
        rows, scores = found.rows[0][found.rows[0] >= 0], found.scores[0][found.rows[0] >= 0]
        texts = self.gallery.index.captions_at(rows).texts
        shares = [NO_SHARES] * len(rows)
        if details:
            at = torch.arange(len(rows))
            shares = self._shares(texts, video, at, torch.zeros_like(at))
        hits = []
        for rank, (caption_id, score, of_experts) in enumerate(zip(texts.ids, scores.tolist(), shares, strict=True), 1):
            caption = self.gallery.annotations.caption_by_id[caption_id]
            hits.append(self._hit(rank, score, caption.video_id, caption.text, None, of_experts, None))
        return hits

    def _hit(
        self,
        rank: int,
        score: float,
        video_id: str,
        caption: str | None,
        moment: Moment | None,
        shares: Mapping[str, float],
        snippet: Snippet | None,
    ) -> Hit:
        facts, path = self.gallery.facts, self.gallery.path(video_id)
        known = (facts.category(video_id), facts.duration_seconds(video_id), facts.has_speech(video_id))
        return Hit(rank, score, video_id, path, caption, moment, shares, snippet, *known)

    def _best_moments(self, asked: TextEmbeddings, picks: Sequence[Pick]) -> list[Moment | None]:
        if self._moments is None:
            return [None] * len(picks)
        found: dict[Pick, Moment | None] = {}
        for query in sorted({pick.query for pick in picks}):
            some = [pick for pick in picks if pick.query == query]
            of_one = text_rows(asked, np.asarray([query]))
            for at in range(0, len(some), MOMENTS_AT_ONCE):
                block = some[at : at + MOMENTS_AT_ONCE]
                best = self._moments.best(of_one, [self.gallery.index.video_ids[pick.row] for pick in block])
                found |= dict(zip(block, best, strict=True))
        return [found[pick] for pick in picks]

    def _shares(
        self, texts: TextEmbeddings, videos: VideoEmbeddings, text_at: Tensor, video_at: Tensor
    ) -> list[Mapping[str, float]]:
        """Return what each expert adds to the scores of pairs; an expert that does not count has no entry."""
        names = self.scored
        counted = texts.weights[text_at] * videos.present[video_at] > 0
        counted = pad(counted, (0, 1), value=names[-1] == HUBS)
        found = expert_shares(texts, videos, text_at, video_at, self._dim)
        return [
            dict(zip(compress(names, there), shares[there].tolist(), strict=True))
            for shares, there in zip(found, counted, strict=True)
        ]
