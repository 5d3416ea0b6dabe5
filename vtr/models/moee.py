"""The mixture of embedding experts (MoEE; Miech et al. 2018, arXiv 1804.02516) over pooled features, in members."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from vtr.model_config import MoEEConfig
from vtr.models.base import RetrievalModel
from vtr.models.gating import GatedEmbeddingUnits, MixtureWeights
from vtr.types import ExpertBatch, TextBatch, TextEmbeddings, VideoBatch, VideoEmbeddings

TINY = 1e-6
"""Added to the size of pooled features before dividing by it."""


class MoEE(RetrievalModel):
    """Videos: each expert's features pooled over time, scaled, and gated. Texts: gated units and mixture weights.

    Every expert has K gated units a side, the members. A member's score is the mixture of its units' cosines, under
    mixture weights that all members share; the model's is the mean of its members'. Each learns from its own score
    alone, so that they are an ensemble that is embedded, indexed and searched as one model.

    Args:
        config: sizes.
        expert_dims: expert name -> length of its features; E experts, kept in alphabetical order.
        text_dim: H, length of the text state.
        text_encoder: a `transformers` encoder trained with the rest; None when batches carry frozen states.

    Raises:
        ConfigError: there are no experts.
    """

    def __init__(
        self,
        config: MoEEConfig,
        expert_dims: Mapping[str, int],
        text_dim: int,
        text_encoder: nn.Module | None = None,
    ) -> None:
        super().__init__(config, expert_dims, text_dim, text_encoder)
        self.config = config
        self.members = config.members
        self.dim = config.members * config.dim
        widths = [len(config.pooling) * dim for dim in self.expert_dims.values()]
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.video_units = nn.ModuleList(GatedEmbeddingUnits(width, config.members, config.dim) for width in widths)
        self.text_units = GatedEmbeddingUnits(text_dim, len(self.experts) * config.members, config.dim)
        self.mixture = MixtureWeights(text_dim, len(self.experts), config.dropout)

    def embed_videos(self, videos: VideoBatch) -> VideoEmbeddings:
        """Return the embeddings of B videos; see the base class."""
        self._check_experts(videos)
        vectors = [
            self._gated(cast(GatedEmbeddingUnits, unit), self._pooled(expert), videos.present[:, place])
            for place, (unit, expert) in enumerate(zip(self.video_units, videos.experts.values(), strict=True))
        ]
        return VideoEmbeddings(videos.ids, self._joined(torch.stack(vectors, dim=1)), self._counted(videos))

    def _pooled(self, expert: ExpertBatch) -> Tensor:
        """Return [B, P * D], an expert's features pooled, each video's scaled to numbers of size 1 on average."""
        seen = expert.mask.unsqueeze(-1)
        pools = {
            "mean": lambda: (expert.values * seen).sum(dim=1) / seen.sum(dim=1).clamp_min(1),
            "max": lambda: expert.values.masked_fill(~seen, -torch.inf).amax(dim=1).nan_to_num(neginf=0.0),
        }
        scaled = []
        for name in self.config.pooling:
            pooled = pools[name]()
            scaled.append(pooled / (pooled.square().mean(dim=1, keepdim=True).sqrt() + TINY))
        dropped: Tensor = self.feature_dropout(torch.cat(scaled, dim=1))
        return dropped

    def _gated(self, units: GatedEmbeddingUnits, pooled: Tensor, present: Tensor) -> Tensor:
        """Return unit vectors [B, K, D]; videos without the expert have no part in the units' batch norm.

        Without it they are 0, and so is the only video in a training batch that has it: batch norm needs two.
        """
        if self.keep_missing:
            gated: Tensor = units(pooled)
            return gated
        rows = present.nonzero().squeeze(1)
        if self.training and len(rows) == 1 and units.gate_norm.group is None:
            rows = rows[:0]
        if not len(rows) and units.gate_norm.group is None:
            return pooled.new_zeros((len(pooled), units.num_experts, units.dim))
        some: Tensor = units(pooled[rows])
        return some.new_zeros((len(pooled), *some.shape[1:])).index_copy(0, rows, some)

    def _joined(self, vectors: Tensor) -> Tensor:
        """Return [N, E, K * D] of the members' unit vectors [N, E, K, D]."""
        return vectors.flatten(2) / math.sqrt(self.members)

    def embed_texts(self, texts: TextBatch) -> TextEmbeddings:
        """Return the embeddings of N texts; see the base class."""
        states = self._sentence_states(texts)
        vectors = self.text_units(states).unflatten(1, (len(self.experts), self.members))
        return TextEmbeddings(texts.ids, self._joined(vectors), self.mixture(states))
