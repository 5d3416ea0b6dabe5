"""The multi-modal transformer for video retrieval (MMT; Gabeur et al. 2020, arXiv 2007.10639)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vtr.config import MMTConfig
from vtr.errors import ConfigError
from vtr.models.gating import GatedEmbeddingUnits, MixtureWeights
from vtr.models.transformer import LAYER_NORM_EPS, Block
from vtr.similarity import score_matrix
from vtr.types import Batch, ExpertBatch, TextBatch, TextEmbeddings, VideoBatch, VideoEmbeddings

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


class MMT(nn.Module):
    """Videos: a transformer over [CLS] and every expert's aggregate and temporal tokens. Texts: gated units.

    A token is `L2(linear(feature)) + expert embedding + position embedding`, layer-normed, with dropout. The aggregate
    token's feature is the maximum over the expert's features; its output, L2-normalised, is the expert's embedding
    of the video (Sec. 3.1). An expert the video lacks is looked at by no token. The score is `vtr.similarity`'s.

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
        super().__init__()
        if config.dim % config.heads:
            raise ConfigError(
                f"model.dim is {config.dim} and model.heads is {config.heads}: a multiple of the heads was expected. "
                "Change one of them."
            )
        if not expert_dims:
            raise ConfigError("the model has no experts, at least one was expected. Name some under `experts`.")
        self.config = config
        self.expert_dims = {name: expert_dims[name] for name in sorted(expert_dims)}
        self.experts = tuple(self.expert_dims)
        self.expert_ids = _check_ids(self.experts, expert_ids)
        self.text_dim = text_dim
        self.text_encoder = text_encoder
        self.reduce = nn.ModuleDict({name: nn.Linear(dim, config.dim) for name, dim in self.expert_dims.items()})
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

    def _tokens(self, name: str, expert: ExpertBatch) -> tuple[Tensor, Tensor]:
        """Return one expert's tokens [B, 1 + T, D], the aggregate first, and positions [B, 1 + T]."""
        features = torch.cat((expert.aggregate.unsqueeze(1), expert.values), dim=1)
        kind = self.expert_embedding.weight[self.expert_ids[name]]
        unknown = expert.mid_seconds.isnan()
        temporal = (expert.mid_seconds.nan_to_num() + FIRST_SECOND_POSITION).clamp(0, self.config.max_position)
        temporal = temporal.long().masked_fill(unknown, UNKNOWN_POSITION)
        positions = nn.functional.pad(temporal, (1, 0), value=AGGREGATE_POSITION)
        return normalize(self.reduce[name](features), dim=-1) + kind, positions

    def embed_videos(self, videos: VideoBatch) -> VideoEmbeddings:
        """Return the embeddings of B videos.

        Raises:
            ValueError: the batch's experts are not the model's.
        """
        if tuple(videos.experts) != self.experts:
            raise ValueError(
                f"the batch has experts {', '.join(videos.experts)}; the model has {', '.join(self.experts)}"
            )
        size = len(videos.ids)
        cls = self.expert_embedding.weight[0].expand(size, 1, -1)  # [CLS] has no feature
        tokens, positions = [cls], [videos.present.new_zeros((size, 1), dtype=torch.long)]
        attendable = [videos.present.new_ones((size, 1))]
        aggregate_at, length = [], 1
        for place, (name, expert) in enumerate(videos.experts.items()):
            values, position = self._tokens(name, expert)
            tokens.append(values)
            positions.append(position)
            attendable += [videos.present[:, place : place + 1], expert.mask]
            aggregate_at.append(length)
            length += values.shape[1]
        x = torch.cat(tokens, dim=1) + self.position_embedding(torch.cat(positions, dim=1))
        x = self.dropout(self.input_norm(x))
        mask = torch.cat(attendable, dim=1)[:, None, None, :]
        for block in self.blocks[:-1]:
            x = block(x, mask)
        vectors = normalize(self.blocks[-1](x, mask, aggregate_at), dim=-1)
        present = torch.ones_like(videos.present) if self.config.keep_missing else videos.present
        return VideoEmbeddings(videos.ids, vectors, present)

    def embed_texts(self, texts: TextBatch) -> TextEmbeddings:
        """Return the embeddings of N texts.

        Raises:
            ValueError: the batch carries tokens where the model expects frozen states, or the other way round.
        """
        states = self._text_states(texts)
        return TextEmbeddings(texts.ids, self.text_units(states), self.mixture(states))

    def _text_states(self, texts: TextBatch) -> Tensor:
        if self.text_encoder is None:
            if texts.states is None or texts.states.shape[1] != self.text_dim:
                raise ValueError(f"the text encoder is frozen: states [N, {self.text_dim}] expected in the batch")
            return texts.states
        if texts.input_ids is None:
            raise ValueError("the text encoder is trained with the model: tokens expected in the batch")
        encoded = self.text_encoder(input_ids=texts.input_ids, attention_mask=texts.attention_mask)
        state: Tensor = encoded.last_hidden_state[:, 0]
        return state

    def forward(self, batch: Batch) -> Tensor:
        """Return scores [B, B] of a batch, texts in rows, in float32."""
        texts, videos = self.embed_texts(batch.texts), self.embed_videos(batch.videos)
        with torch.autocast(texts.vectors.device.type, enabled=False):
            return score_matrix(
                TextEmbeddings(texts.ids, texts.vectors.float(), texts.weights.float()),
                VideoEmbeddings(videos.ids, videos.vectors.float(), videos.present),
            )
