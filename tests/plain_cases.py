"""Random batches in the form of the plain MMT and of vtr's, and vtr's model with the plain one's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_mmt import EXPERT_IDS, NO_TIME, PlainVideos
from torch import Tensor

from vtr.interop.mmt_checkpoint import load_mmt_checkpoint
from vtr.models.mmt import MMT
from vtr.types import Batch, ExpertBatch, TextBatch, VideoBatch

TEXT_BERT = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
}
TIMELESS = ("face", "ocr", "speech")


def random_videos(
    draw: np.random.Generator, dims: Mapping[str, int], present: np.ndarray, slots: int, most: int
) -> PlainVideos:
    """Return random videos, padded to `slots` features an expert as the released loader does.

    Args:
        draw: decides all.
        dims: expert -> D.
        present: [B, E] bool, the experts each video has.
        slots, most: the length of the padded sequences, and the most features in one.
    """
    parts: tuple[dict[str, Tensor], ...] = ({}, {}, {}, {})
    for place, (name, dim) in enumerate(dims.items()):
        counts = present[:, place] * draw.integers(1, most + 1, len(present))
        mask = np.arange(slots) < counts[:, None]
        values = draw.normal(size=(len(present), slots, dim)) * mask[..., None]
        seconds = np.sort(draw.uniform(-3, 40, mask.shape), axis=1) + 2
        unknown = ~mask | (draw.random(mask.shape) < 0.1) | (name in TIMELESS)
        largest = values.max(axis=1) + draw.random((len(present), dim))  # also of features that were not drawn
        found = (values, np.where(unknown, NO_TIME, seconds), mask, largest * present[:, place, None])
        for part, array in zip(parts, found, strict=True):
            part[name] = torch.from_numpy(array.astype(np.float32))
    return PlainVideos(*parts)


def random_captions(
    lengths: Sequence[int], draw: np.random.Generator, vocabulary: int, width: int = 30
) -> tuple[Tensor, Tensor]:
    """Return ids and mask [N, width] of captions of so many random tokens."""
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    ids = torch.from_numpy(draw.integers(1, vocabulary, (len(lengths), width)))
    return ids * mask, mask.long()


def as_videos(videos: PlainVideos) -> VideoBatch:
    """Return the videos as vtr's loader would: each expert cut to its longest sequence, NaN where there is no time."""
    experts = {}
    for name, mask in videos.mask.items():
        longest = max(1, int(mask.sum(1).max()))
        times = videos.times[name][:, :longest]
        experts[name] = ExpertBatch(
            videos.features[name][:, :longest],
            (times - 2).masked_fill(times == NO_TIME, torch.nan),
            mask[:, :longest] > 0,
            videos.maxpool[name],
        )
    present = torch.stack([mask.amax(1) > 0 for mask in videos.mask.values()], 1)
    return VideoBatch(tuple(f"v{row}" for row in range(len(videos))), experts, present)


def as_texts(token_ids: Tensor, token_mask: Tensor) -> TextBatch:
    """Return captions as vtr's loader would: cut to the longest."""
    longest = int(token_mask.sum(1).max())
    ids = tuple(f"t{row}" for row in range(len(token_ids)))
    return TextBatch(ids, input_ids=token_ids[:, :longest], attention_mask=token_mask[:, :longest])


def as_batch(videos: PlainVideos, token_ids: Tensor, token_mask: Tensor) -> Batch:
    """Return pairs in vtr's form."""
    return Batch(as_videos(videos), as_texts(token_ids, token_mask))


def vtr_model(
    weights: Mapping[str, Tensor],
    folder: Path,
    text_bert: Mapping[str, Any] = TEXT_BERT,
    *,
    heads: int,
    keep_missing: bool,
    dtype: torch.dtype = torch.float32,
    dropout: float = 0.0,
) -> MMT:
    """Return vtr's model with weights in the released layout, through a checkpoint file and in evaluation mode."""
    path = folder / "checkpoint.pth"
    torch.save({"state_dict": dict(weights)}, path)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # so that float64 weights are not rounded on their way
    try:
        read = load_mmt_checkpoint(
            path, {**text_bert, **rates}, heads=heads, keep_missing=keep_missing, expert_ids=EXPERT_IDS
        )
        config = read.config.model_copy(update={"dropout": dropout})
        model = MMT(config, read.expert_dims, read.text_dim, read.text_encoder, read.expert_ids)
    finally:
        torch.set_default_dtype(default)
        path.unlink()
    model.load_state_dict(read.state_dict())
    return model.eval()
