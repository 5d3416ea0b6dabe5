"""Collaborative experts (CE; Liu et al. 2019, arXiv 1907.13487) and the mixture of embedding experts it extends."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import batch_norm, linear, mish, normalize

from vtr.errors import ConfigError
from vtr.model_config import CEConfig
from vtr.models.base import RetrievalModel
from vtr.models.gating import GatedEmbeddingUnits, MixtureWeights
from vtr.models.norms import BatchNorm, normalise
from vtr.models.vlad import NetVLAD
from vtr.types import ExpertBatch, TextBatch, TextEmbeddings, VideoBatch, VideoEmbeddings

NO_PAIRS = 1e-11
"""Added to the number of an expert's pairs, as in the released code: an expert that is missing has none."""


class CE(RetrievalModel):
    """Videos: experts pooled over time, then gated by one another. Texts: pooled token states, then gated units.

    With `gating: none` it is the mixture of embedding experts (MoEE; Miech et al. 2018, arXiv 1804.02516), each expert
    with a gated embedding unit of its own, all of the same dim.

    Args:
        config: sizes.
        expert_dims: expert name -> length of its features; E experts, kept in alphabetical order.
        text_dim: H, length of a token state.

    Raises:
        ConfigError: there are no experts, or only one to pair with no other.
    """

    def __init__(self, config: CEConfig, expert_dims: Mapping[str, int], text_dim: int) -> None:
        super().__init__(config, expert_dims, text_dim)
        self.config = config
        paired = config.gating == "pairwise"
        if paired and not config.self_pairs and len(self.experts) < 2:
            raise ConfigError(
                f"model.gating is pairwise and {self.experts[0]} is the only expert: two or more were expected. Use "
                "model.gating=none or model.self_pairs=true."
            )
        pools = {name: config.vlad[name] for name in self.experts if name in config.vlad}
        self.vlad_of = {name: at for at, name in enumerate(pools)}
        self.vlads = nn.ModuleList(NetVLAD(self.expert_dims[name], pool) for name, pool in pools.items())
        pooled = [dim * pools[name].clusters if name in pools else dim for name, dim in self.expert_dims.items()]
        self.text_vlad = NetVLAD(text_dim, config.text_vlad)
        self.text_units = GatedEmbeddingUnits(self.text_vlad.out_dim, len(self.experts), config.dim)
        self.mixture = MixtureWeights(self.text_vlad.out_dim, len(self.experts), dropout=0.0)
        if paired:
            self.reduce = nn.ModuleList(nn.Linear(dim, config.dim) for dim in pooled)
            self.gates = CollaborativeGating(len(self.experts), config.dim, config.layers, config.self_pairs)
        else:
            self.video_units = nn.ModuleList(GatedEmbeddingUnits(dim, 1, config.dim) for dim in pooled)

    def embed_videos(self, videos: VideoBatch) -> VideoEmbeddings:
        """Return the embeddings of B videos; see the base class."""
        self._check_experts(videos)
        pooled = [self._pool(name, expert) for name, expert in videos.experts.items()]
        if self.config.gating == "none":
            units = [unit(values).squeeze(1) for unit, values in zip(self.video_units, pooled, strict=True)]
            vectors = torch.stack(units, dim=1)
        else:
            reduced = [normalize(layer(values), dim=-1) for layer, values in zip(self.reduce, pooled, strict=True)]
            vectors = self.gates(torch.stack(reduced, dim=1), videos.present)
        return VideoEmbeddings(videos.ids, vectors, self._counted(videos))

    def _pool(self, name: str, expert: ExpertBatch) -> Tensor:
        if name not in self.vlad_of:
            return expert.aggregate
        pooled: Tensor = self.vlads[self.vlad_of[name]](expert.values, expert.mask)
        return pooled

    def embed_texts(self, texts: TextBatch) -> TextEmbeddings:
        """Return the embeddings of N texts; see the base class.

        Raises:
            ValueError: the batch holds no states of tokens, or of another dimension.
        """
        if texts.token_states is None or texts.attention_mask is None or texts.token_states.shape[2] != self.text_dim:
            raise ValueError(
                f"CE pools token states: states [N, L, {self.text_dim}] of each token expected in the batch"
            )
        states = self.text_vlad(texts.token_states, texts.attention_mask)
        return TextEmbeddings(texts.ids, self.text_units(states), self.mixture(states))


class CollaborativeGating(nn.Module):
    """Each expert's vector is gated by a vector made of its pairs with all experts (Liu et al. 2019, Sec. 3.2).

    The gate's input is the mean of g([x_i; x_j]) over the experts j the video has; g is a few linear layers with batch
    norm and Mish between them. As in the released code, experts are gated one after another, and those
    behind see the gated vectors of those before.

    Args:
        num_experts: E.
        dim: D.
        layers: linear layers of g.
        self_pairs: whether j may be i.
    """

    def __init__(self, num_experts: int, dim: int, layers: int, self_pairs: bool) -> None:
        super().__init__()
        self.self_pairs = self_pairs
        self.pair = nn.Linear(2 * dim, dim)
        self.norms = nn.ModuleList(PairNorm(dim) for _ in range(layers - 1))
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers - 1))
        self.own = nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_experts))
        self.own_norms = nn.ModuleList(BatchNorm(dim) for _ in range(num_experts))
        self.pair_norms = nn.ModuleList(BatchNorm(dim) for _ in range(num_experts))

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Return gated unit vectors [B, E, D] of vectors [B, E, D].

        Args:
            vectors: [B, E, D].
            present: [B, E] bool, the experts each video has.
        """
        first, second = self.pair.weight.chunk(2, dim=1)  # of [x_i; x_j]
        gated = list(vectors.unbind(1))
        as_second = [linear(x, second) for x in gated]
        for i in range(len(gated)):
            others = [j for j in range(len(gated)) if self.self_pairs or j != i]
            pairs = (
                torch.stack([as_second[j] for j in others], dim=1) + linear(gated[i], first, self.pair.bias)[:, None]
            )
            for norm, layer in zip(self.norms, self.layers, strict=True):
                pairs = layer(mish(norm(pairs)))
            both = (present[:, i : i + 1] & present[:, others]).to(pairs.dtype)
            mean = (pairs * both[..., None]).sum(dim=1) / (both.sum(dim=1, keepdim=True) + NO_PAIRS)
            gate = self.pair_norms[i](mean) + self.own_norms[i](self.own[i](gated[i]))
            gated[i] = normalize(gated[i] * gate.sigmoid(), dim=-1)
            as_second[i] = linear(gated[i], second)
        return torch.stack(gated, dim=1)


class PairNorm(BatchNorm):
    """Batch norm of P pairs at once, each normalised over the batch for itself, as if they came one after another."""

    def forward(self, input: Tensor) -> Tensor:
        """Return [B, P, D] of [B, P, D]."""
        size, pairs, _ = input.shape
        if not self.training:
            return rearrange(super().forward(input.flatten(0, 1)), "(b p) d -> b p d", b=size)
        weight, bias = self.weight.repeat(pairs), self.bias.repeat(pairs)
        if self.group is not None:
            normed, mean, variance = normalise(input.flatten(1), weight, bias, self.eps, self.group)
            self.follow(mean.view(pairs, -1), variance.view(pairs, -1))
        else:
            values = input.detach().to(self.weight.dtype)
            self.follow(values.mean(dim=0), values.var(dim=0))
            normed = batch_norm(input.flatten(1), None, None, weight, bias, training=True, eps=self.eps)
        return rearrange(normed, "b (p d) -> b p d", p=pairs)
