"""The multi-modal transformer for video retrieval (MMT; Gabeur et al. 2020, arXiv 2007.10639)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import normalize

from vtr.errors import ConfigError
from vtr.model_config import MMTConfig
from vtr.models.base import RetrievalModel
from vtr.models.gating import GatedEmbeddingUnits, MixtureWeights
from vtr.models.transformer import LAYER_NORM_EPS, Block, Packing
from vtr.types import TextBatch, TextEmbeddings, VideoBatch, VideoEmbeddings

AGGREGATE_POSITION = 0
"""The position of [CLS] and of aggregate tokens."""

UNKNOWN_POSITION = 1
"""The position of a feature that has no time."""

FIRST_SECOND_POSITION = 2
"""The position of features in a video's first second; those in each later second have the next one."""


def _check_ids(experts: tuple[str, ...], ids: Mapping[str, int] | None) -> dict[str, int]:
    if ids is None:
        return {name: place for place, name in enumerate(experts, 1)}
    chosen = {name: ids[name] for name in experts if name in ids}
    if len(chosen) < len(experts) or len(set(chosen.values())) < len(experts) or min(chosen.values()) < 1:
        raise ValueError(f"expert ids {dict(ids)} for {', '.join(experts)}: one number from 1 up for each expected")
    return chosen


class Tokens(NamedTuple):
    """The tokens of a batch of videos.

    Attributes:
        values: [N, D].
        packing: which video each belongs to.
        aggregates: [B * E] rows of the experts' aggregate tokens, of a video after the other.
    """

    values: Tensor
    packing: Packing
    aggregates: Tensor


class MMT(RetrievalModel):
    """Videos: a transformer over [CLS] and every expert's aggregate and temporal tokens. Texts: gated units.

    A token is `L2(linear(feature)) + expert embedding + position embedding`, layer-normed, with dropout. The aggregate
    token's feature is the maximum over the expert's features; its output, L2-normalised, is the expert's embedding
    of the video (Sec. 3.1). An expert the video lacks is looked at by no token. Only the tokens there are are
    computed.

    Args:
        config: sizes.
        expert_dims: expert name -> length of its features; E experts, kept in alphabetical order.
        text_dim: H, length of the text state.
        text_encoder: a `transformers` encoder trained with the rest; None when batches carry frozen states.
        expert_ids: expert name -> row of the expert embedding, as the released models number them (0 is [CLS]'s);
            by default 1, 2, ... in alphabetical order.

    Raises:
        ConfigError: the heads do not divide the dimension, or there are no experts.
        ValueError: `expert_ids` lacks an expert, or gives two the same row or one [CLS]'s.
    """

    def __init__(
        self,
        config: MMTConfig,
        expert_dims: Mapping[str, int],
        text_dim: int,
        text_encoder: nn.Module | None = None,
        expert_ids: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(config, expert_dims, text_dim, text_encoder)
        if config.dim % config.heads:
            raise ConfigError(
                f"model.dim is {config.dim} and model.heads is {config.heads}: a multiple of the heads was expected. "
                "Change one of them."
            )
        self.config = config
        self.expert_ids = _check_ids(self.experts, expert_ids)
        self._module_of = {name: name.replace(".", "-") for name in self.experts}  # torch allows no dot in a name
        self.reduce = nn.ModuleDict(
            {self._module_of[name]: nn.Linear(dim, config.dim) for name, dim in self.expert_dims.items()}
        )
        self.expert_embedding = nn.Embedding(max(self.expert_ids.values()) + 1, config.dim)
        self.position_embedding = nn.Embedding(config.max_position + 1, config.dim)
        self.input_norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.feed_forward, config.dropout) for _ in range(config.layers)
        )
        self._initialise()
        self.text_units = GatedEmbeddingUnits(text_dim, len(self.experts), config.dim)
        self.mixture = MixtureWeights(text_dim, len(self.experts), config.dropout)

    def _initialise(self) -> None:
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)  # BERT's
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.expert_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def embed_videos(self, videos: VideoBatch) -> VideoEmbeddings:
        """Return the embeddings of B videos; see the base class."""
        self._check_experts(videos)
        tokens = self._pack(videos)
        x = self.dropout(self.input_norm(tokens.values))
        for block in self.blocks[:-1]:
            x = block(x, tokens.packing)
        vectors = normalize(self.blocks[-1](x, tokens.packing, tokens.aggregates), dim=-1)
        return VideoEmbeddings(
            videos.ids, rearrange(vectors, "(b e) d -> b e d", e=len(self.experts)), self._counted(videos)
        )

    def _pack(self, videos: VideoBatch) -> Tokens:
        """Return the tokens there are, end to end: each expert's aggregates and temporal ones, and [CLS] of each video.

        Aggregates of missing experts are among them: nothing looks at them, but they look at the others.
        """
        size, device = len(videos.ids), videos.present.device
        rows = torch.arange(size, device=device)
        cls = self.expert_embedding.weight[0] + self.position_embedding.weight[AGGREGATE_POSITION]  # it has no feature
        values, owner, seen = [cls.expand(size, -1)], [rows], [torch.ones_like(rows, dtype=torch.bool)]
        for place, (name, expert) in enumerate(videos.experts.items()):
            mask = expert.mask
            features = torch.cat((expert.aggregate, expert.values[mask]))
            temporal = self._positions(expert.mid_seconds[mask])
            positions = torch.cat((torch.full_like(rows, AGGREGATE_POSITION), temporal))
            kind = self.expert_embedding.weight[self.expert_ids[name]]
            unit = normalize(self.reduce[self._module_of[name]](features), dim=-1)
            values.append(unit + kind + self.position_embedding(positions))
            of_temporal = rows[:, None].expand_as(mask)[mask]
            owner += [rows, of_temporal]
            seen += [videos.present[:, place], torch.ones_like(of_temporal, dtype=torch.bool)]
        starts = torch.tensor([len(part) for part in values[:-1]], device=device).cumsum(0)
        aggregates = (rows[:, None] + starts).flatten()  # an expert's first tokens are its aggregates
        packing = Packing.of(torch.cat(owner), torch.cat(seen), size)
        return Tokens(torch.cat(values), packing, aggregates)

    def _positions(self, mid_seconds: Tensor) -> Tensor:
        """Return the positions [N] of N features in the middle of these seconds; NaN where a feature has no time."""
        places = (mid_seconds.nan_to_num() + FIRST_SECOND_POSITION).clamp(0, self.config.max_position).long()
        return places.masked_fill(mid_seconds.isnan(), UNKNOWN_POSITION)

    def embed_texts(self, texts: TextBatch) -> TextEmbeddings:
        """Return the embeddings of N texts; see the base class."""
        states = self._sentence_states(texts)
        return TextEmbeddings(texts.ids, self.text_units(states), self.mixture(states))
