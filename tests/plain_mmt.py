"""MMT as it was released, plain and slow: loops over videos, experts, tokens and pairs, on weights as released.

Nothing here comes from vtr, which is tested against it. `stacked_mmt.py` computes the same a batch at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

EXPERT_IDS = {"s3d": 1, "vggish": 2, "face": 3, "rgb": 5, "speech": 6, "ocr": 7, "scene": 9}
"""The rows of the released models' token type embedding; row 0 is [CLS]'s."""

NO_TIME = 1.0
"""Stands for the time of a feature that has none, and of no feature."""

MASKED = -10000.0
LAYER_NORM_EPS = 1e-12
BATCH_NORM_EPS, BATCH_NORM_MOMENTUM = 1e-5, 0.1


@dataclass(frozen=True)
class PlainVideos:
    """B videos as the released loader hands them over: expert -> tensor, zeros where there is nothing.

    Attributes:
        features: [B, T, D].
        times: [B, T], the middle of each feature's time in seconds plus 2; `NO_TIME` where there is none.
        mask: [B, T], 1 where a feature is.
        maxpool: [B, D], the maximum over all of a video's features.
    """

    features: dict[str, Tensor]
    times: dict[str, Tensor]
    mask: dict[str, Tensor]
    maxpool: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.mask.values())))

    def has(self, row: int, expert: str) -> bool:
        """Return whether the video has any feature of the expert."""
        return bool(self.mask[expert][row].max() > 0)

    def to(self, to: torch.dtype | torch.device | str) -> PlainVideos:
        """Return a copy in another precision or on another device."""
        parts = (self.features, self.times, self.mask, self.maxpool)
        return PlainVideos(*({name: value.to(to) for name, value in part.items()} for part in parts))


class PlainMMT:
    """The model, whose dropout here is BERT's alone.

    Args:
        weights: the state dict, as released.
        text_bert: the configuration of its BERT.
        heads: of the video transformer.
        keep_missing: whether experts that a video lacks count in the score.
        expert_ids: expert -> row of the token type embedding.
        dtype: of all that is computed.
        dropout: its rate.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        text_bert: Mapping[str, Any],
        *,
        heads: int,
        keep_missing: bool,
        expert_ids: Mapping[str, int] = EXPERT_IDS,
        dtype: torch.dtype = torch.float32,
        dropout: float = 0.0,
    ) -> None:
        self.heads, self.keep_missing, self.expert_ids, self.dropout = heads, keep_missing, expert_ids, dropout
        self.training = False
        self.bert = make_bert(text_bert, dropout)
        prefix = "txt_bert."
        self.bert.load_state_dict({n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)})
        self.bert.to(dtype).eval()
        self.weights: dict[str, Tensor] = {}
        for name, value in weights.items():
            if not name.startswith(prefix):
                own = value.clone().to(dtype) if value.is_floating_point() else value.clone()
                self.weights[name] = own.requires_grad_(own.is_floating_point() and ".running_" not in name)
        self.experts = sorted({name.split(".")[1] for name in weights if name.startswith("video_dim_reduce.")})
        self.layers = len({name.split(".")[3] for name in weights if name.startswith("vid_bert.encoder.")})

    def train(self) -> None:
        """Let batch norm use the batch's statistics, and dropout drop."""
        self.training = True
        self.bert.train()

    def to(self, device: str) -> None:
        """Move the weights to a device."""
        self.bert.to(device)
        for name, value in self.weights.items():
            self.weights[name] = value.detach().to(device).requires_grad_(value.requires_grad)

    def parameters(self) -> dict[str, Tensor]:
        """Return what is learnt, by its released name."""
        own = {name: value for name, value in self.weights.items() if value.requires_grad}
        return own | {f"txt_bert.{name}": value for name, value in self.bert.named_parameters()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return all weights in the released layout, apart from the model's own."""
        held = self.weights | {f"txt_bert.{name}": value for name, value in self.bert.state_dict().items()}
        return {name: value.detach().clone() for name, value in held.items()}

    def scores(self, videos: PlainVideos, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Return scores [N, B] of B videos and N captions [N, L]."""
        return self.similarities(*self.embed_texts(token_ids, token_mask), self.embed_videos(videos), videos)

    def embed_videos(self, videos: PlainVideos) -> Tensor:
        """Return [B, E, D]."""
        return torch.stack([self._embed_video(videos, row) for row in range(len(videos))])

    def _embed_video(self, videos: PlainVideos, row: int) -> Tensor:
        """Return [E, D] of one video: all its tokens go through the transformer, the aggregates' outputs are taken."""
        tokens, attended, aggregate_at = self._tokens(videos, row)
        x = torch.stack(tokens)
        additive = torch.tensor([0.0 if seen else MASKED for seen in attended], dtype=x.dtype)
        for layer in range(self.layers):
            x = self._block(f"vid_bert.encoder.layer.{layer}", x, additive)
        return torch.stack([unit(x[place]) for place in aggregate_at])

    def _tokens(self, videos: PlainVideos, row: int) -> tuple[list[Tensor], list[bool], list[int]]:
        """Return a video's tokens, whether each may be attended to, and the places of the aggregate ones."""
        none = torch.zeros_like(self.weights["vid_bert.embeddings.position_embeddings.weight"][0])
        tokens, attended, aggregate_at = [self._token(none, 0, 0)], [True], []
        last = len(self.weights["vid_bert.embeddings.position_embeddings.weight"]) - 1
        for name in self.experts:
            kind = self.expert_ids[name]
            aggregate_at.append(len(tokens))
            tokens.append(self._token(self._reduce(name, videos.maxpool[name][row]), kind, 0))
            attended.append(videos.has(row, name))
            for slot in range(videos.mask[name].shape[1]):
                position = int(min(max(float(videos.times[name][row, slot]), 0.0), float(last)))
                tokens.append(self._token(self._reduce(name, videos.features[name][row, slot]), kind, position))
                attended.append(bool(videos.mask[name][row, slot] > 0))
        return tokens, attended, aggregate_at

    def _token(self, feature: Tensor, kind: int, position: int) -> Tensor:
        kinds = self.weights["vid_bert.embeddings.token_type_embeddings.weight"]
        positions = self.weights["vid_bert.embeddings.position_embeddings.weight"]
        return self._layer_norm("vid_bert.embeddings.layer_norm", feature + kinds[kind] + positions[position])

    def _reduce(self, name: str, feature: Tensor) -> Tensor:
        return unit(self._linear(f"video_dim_reduce.{name}.fc", feature))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _layer_norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = (centred.square().mean(-1, keepdim=True) + LAYER_NORM_EPS).sqrt()
        return centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _block(self, name: str, x: Tensor, additive: Tensor) -> Tensor:
        """Return [L, D] of tokens [L, D] after a layer; `additive` [L] is added to what they score as keys."""
        query, key, value = (self._linear(f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
        size = x.shape[1] // self.heads
        seen = []
        for head in range(self.heads):
            at = slice(head * size, (head + 1) * size)
            weights = torch.softmax(query[:, at] @ key[:, at].T / math.sqrt(size) + additive, dim=1)
            seen.append(weights @ value[:, at])
        attention = self._linear(f"{name}.attention.output.dense", torch.cat(seen, dim=1))
        x = self._layer_norm(f"{name}.attention.output.layer_norm", x + attention)
        wide = self._linear(f"{name}.intermediate.dense", x)
        wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
        return self._layer_norm(f"{name}.output.layer_norm", x + self._linear(f"{name}.output.dense", wide))

    def embed_texts(self, token_ids: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return vectors [N, E, D] and weights [N, E] of captions [N, L]."""
        states = self.bert(input_ids=token_ids, attention_mask=token_mask).last_hidden_state[:, 0]
        vectors = torch.stack([self._gated_unit(f"text_GU.{name}", states) for name in self.experts], dim=1)
        return vectors, self._mixture(states)

    def _mixture(self, states: Tensor) -> Tensor:
        return torch.softmax(torch.cat([self._linear(f"moe_fc_txt.{n}", states) for n in self.experts], 1), dim=1)

    def _gated_unit(self, name: str, states: Tensor) -> Tensor:
        x = self._linear(f"{name}.fc", states)
        return unit(x * torch.sigmoid(self._batch_norm(f"{name}.cg.batch_norm", self._linear(f"{name}.cg.fc", x))))

    def _batch_norm(self, name: str, x: Tensor) -> Tensor:
        mean, variance = (self.weights[f"{name}.running_{what}"] for what in ("mean", "var"))
        if self.training:
            mean, variance = x.mean(0), (x - x.mean(0)).square().mean(0)
            found = {"mean": mean, "var": variance * len(x) / (len(x) - 1)}
            for what, new in found.items():
                running = self.weights[f"{name}.running_{what}"]
                running.copy_((1 - BATCH_NORM_MOMENTUM) * running + BATCH_NORM_MOMENTUM * new.detach())
            self.weights[f"{name}.num_batches_tracked"] += 1
        normed = (x - mean) / (variance + BATCH_NORM_EPS).sqrt()
        return normed * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def similarities(self, texts: Tensor, weights: Tensor, vectors: Tensor, videos: PlainVideos) -> Tensor:
        """Return [N, B] of texts [N, E, D] with weights [N, E] and vectors [B, E, D] of the videos."""
        rows = []
        for text, weight in zip(texts, weights, strict=True):
            row = []
            for place, video in enumerate(vectors):
                counted = [at for at, name in enumerate(self.experts) if self.keep_missing or videos.has(place, name)]
                score = text.new_zeros(())
                for at in counted:
                    score = score + weight[at] / weight[counted].sum() * (text[at] * video[at]).sum()
                row.append(score)
            rows.append(torch.stack(row))
        return torch.stack(rows)


def plain_max_margin(scores: Tensor, margin: float) -> Tensor:
    """Return the mean over all 2 (B^2 - B) hinges, one at a time."""
    hinges = []
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                hinges.append((scores[i, j] - scores[i, i] + margin).clamp_min(0))
                hinges.append((scores[j, i] - scores[i, i] + margin).clamp_min(0))
    return torch.stack(hinges).mean()


def unit(x: Tensor) -> Tensor:
    """Return vectors of length 1 along the last dimension."""
    return x / x.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-12)


def make_bert(config: Mapping[str, Any], dropout: float) -> BertModel:
    """Return a BERT with random weights, its attention written out as it was when MMT was released."""
    values = {name: value for name, value in config.items() if name not in ("model_type", "transformers_version")}
    values |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return BertModel(BertConfig(**values, attn_implementation="eager"))
