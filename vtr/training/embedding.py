"""Embedding many videos and texts with a model, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from vtr.data.features import FeatureTable
from vtr.data.texts import CaptionTable
from vtr.models.base import RetrievalModel
from vtr.types import TextEmbeddings, VideoEmbeddings

VIDEO_BATCH = 64
TEXT_BATCH = 512


def _nothing(count: int) -> None:
    del count


@torch.inference_mode()
def embed_videos(
    model: RetrievalModel,
    table: FeatureTable,
    rows: Sequence[int],
    device: torch.device,
    advance: Callable[[int], None] = _nothing,
) -> VideoEmbeddings:
    """Return the embeddings of the videos at `rows` of a table, on the CPU in float32."""
    model.eval()
    parts = []
    for at in range(0, len(rows), VIDEO_BATCH):
        batch = table.batch(rows[at : at + VIDEO_BATCH]).to(device)
        parts.append(model.embed_videos(batch))
        advance(len(batch.ids))
    ids = tuple(video_id for part in parts for video_id in part.ids)
    vectors = [part.vectors.float().cpu() for part in parts]
    return VideoEmbeddings(ids, torch.cat(vectors), torch.cat([part.present.float().cpu() for part in parts]))


@torch.inference_mode()
def embed_texts(
    model: RetrievalModel,
    table: CaptionTable,
    rows: Sequence[int],
    device: torch.device,
    advance: Callable[[int], None] = _nothing,
) -> TextEmbeddings:
    """Return the embeddings of the captions at `rows` of a table, on the CPU in float32; there may be none.

    Captions are embedded in order of length, so that little is spent on padding.
    """
    model.eval()
    parts = []
    order = sorted(range(len(rows)), key=lambda place: len(table.captions[rows[place]].text))
    for at in range(0, len(rows), TEXT_BATCH):
        batch = table.batch([rows[place] for place in order[at : at + TEXT_BATCH]]).to(device)
        parts.append(model.embed_texts(batch))
        advance(len(batch.ids))
    if not parts:
        experts, dim = len(model.scored), model.embedded_dim
        return TextEmbeddings((), torch.zeros((0, experts, dim)), torch.zeros((0, experts)))
    back = torch.tensor(order).argsort()
    ids = tuple(table.captions[row].id for row in rows)
    vectors = torch.cat([part.vectors.float().cpu() for part in parts])[back]
    return TextEmbeddings(ids, vectors, torch.cat([part.weights.float().cpu() for part in parts])[back])
