"""MMT the way the released code computes it: a batch at a time, every token of 1 + 7 (1 + 30), every pair's weights."""

from __future__ import annotations

import math

import torch
from plain_mmt import BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, LAYER_NORM_EPS, MASKED, PlainMMT, PlainVideos
from torch import Tensor
from torch.nn import functional as F


class StackedMMT(PlainMMT):
    """`PlainMMT` in the released style: lists of tokens stacked to [B, L, D], dense layers, dropout throughout."""

    def embed_videos(self, videos: PlainVideos) -> Tensor:
        """Return [B, E, D]."""
        kinds = self.weights["vid_bert.embeddings.token_type_embeddings.weight"]
        positions = self.weights["vid_bert.embeddings.position_embeddings.weight"]
        size, aggregate_at = len(videos), []
        nothing, first = kinds.new_zeros((size, kinds.shape[1])), kinds.new_zeros(size, dtype=torch.long)
        features, kind, position, attended = [nothing], [first], [first], [first + 1]
        for name in self.experts:
            aggregate_at.append(len(features))
            reduced = self._reduce(name, videos.features[name])
            at = videos.times[name].clamp(0, len(positions) - 1).long()
            features += [self._reduce(name, videos.maxpool[name]), *reduced.unbind(1)]
            kind += [first + self.expert_ids[name]] * (1 + reduced.shape[1])
            position += [first, *at.unbind(1)]
            attended += [videos.mask[name].amax(1).long(), *videos.mask[name].long().unbind(1)]
        x = torch.stack(features, 1) + kinds[torch.stack(kind, 1)] + positions[torch.stack(position, 1)]
        x = self._drop(self._layer_norm("vid_bert.embeddings.layer_norm", x))
        additive = (1 - torch.stack(attended, 1)[:, None, None].to(x.dtype)) * MASKED
        for layer in range(self.layers):
            x = self._block(f"vid_bert.encoder.layer.{layer}", x, additive)
        return torch.stack([F.normalize(x[:, at], dim=-1) for at in aggregate_at], 1)

    def _block(self, name: str, x: Tensor, additive: Tensor) -> Tensor:
        """Return [B, L, D] of tokens [B, L, D]; `additive` is [B, 1, 1, L]."""
        split = (*x.shape[:2], self.heads, -1)
        query, key, value = (
            self._linear(f"{name}.attention.self.{part}", x).view(split).permute(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1]) + additive
        seen = (self._drop(scores.softmax(-1)) @ value).permute(0, 2, 1, 3).flatten(2)
        attention = self._drop(self._linear(f"{name}.attention.output.dense", seen))
        x = self._layer_norm(f"{name}.attention.output.layer_norm", x + attention)
        wide = self._linear(f"{name}.intermediate.dense", x)
        wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
        narrow = self._drop(self._linear(f"{name}.output.dense", wide))
        return self._layer_norm(f"{name}.output.layer_norm", x + narrow)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(
            x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], LAYER_NORM_EPS
        )

    def _batch_norm(self, name: str, x: Tensor) -> Tensor:
        parts = (self.weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        self.weights[f"{name}.num_batches_tracked"] += self.training
        return F.batch_norm(x, *parts, self.training, BATCH_NORM_MOMENTUM, BATCH_NORM_EPS)

    def _mixture(self, states: Tensor) -> Tensor:
        return super()._mixture(self._drop(states))

    def similarities(self, texts: Tensor, weights: Tensor, vectors: Tensor, videos: PlainVideos) -> Tensor:
        """Return [N, B]."""
        has = torch.stack([videos.mask[name].amax(1) for name in self.experts], 1)
        return stacked_similarities(texts, weights, vectors, torch.ones_like(has) if self.keep_missing else has)


def stacked_similarities(texts: Tensor, weights: Tensor, vectors: Tensor, present: Tensor) -> Tensor:
    """Return scores [T, V] by way of the weights of all pairs [T, V, E], as released.

    Args:
        texts, weights: [T, E, D] and [T, E].
        vectors, present: [V, E, D] and [V, E].
    """
    of_pairs = present.to(weights.dtype)[None] * weights[:, None]
    total = of_pairs.sum(2, keepdim=True)
    of_pairs = of_pairs / total.masked_fill(total == 0, 1e-5)
    scores = weights.new_zeros((len(texts), len(vectors)))
    for at in range(texts.shape[1]):
        scores = scores + of_pairs[:, :, at] * (texts[:, at] @ vectors[:, at].T)
    return scores


def stacked_max_margin(scores: Tensor, margin: float) -> Tensor:
    """Return the same from all 2 B^2 hinges, those off the diagonal picked out."""
    own = scores.diagonal().unsqueeze(1).expand_as(scores)
    hinges = F.relu(margin - torch.cat((own - scores, own - scores.T)))
    others = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return hinges[torch.cat((others, others))].mean()
