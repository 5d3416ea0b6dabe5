"""CE as plain loops over experts and pairs, from its description; nothing here calls vtr.

It reads weights under the released names (github.com/albanie/collaborative-experts), as `released_state` makes up.
Batch norm is torch's own, one pair after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """What a plain CE is made of.

    Attributes:
        dims: expert -> length of its features, in alphabetical order.
        clusters, ghosts: of each pooled expert, and of "text".
        words: H, length of a word's state.
        shared: D.
    """

    dims: Mapping[str, int]
    clusters: Mapping[str, int]
    ghosts: Mapping[str, int]
    words: int
    shared: int


def released_state(sizes: Sizes, seed: int = 0) -> State:
    """Return random weights and batch norm statistics under the released names, in float64."""
    draw = torch.Generator().manual_seed(seed)
    state: State = {}

    def linear(name: str, rows: int, columns: int) -> None:
        state[f"{name}.weight"] = torch.randn(rows, columns, generator=draw, dtype=torch.float64) * columns**-0.5
        state[f"{name}.bias"] = torch.randn(rows, generator=draw, dtype=torch.float64) * 0.1

    def norm(name: str, size: int) -> None:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            values = torch.randn(size, generator=draw, dtype=torch.float64) * 0.2
            state[f"{name}.{kind}"] = values if kind in ("bias", "running_mean") else values + 1
        state[f"{name}.num_batches_tracked"] = torch.tensor(0)

    def vlad(name: str, dim: int, of: str) -> None:
        held, ghosts = sizes.clusters[of], sizes.ghosts[of]
        state[f"{name}.clusters"] = torch.randn(dim, held + ghosts, generator=draw, dtype=torch.float64)
        state[f"{name}.clusters2"] = torch.randn(1, dim, held, generator=draw, dtype=torch.float64) * 0.5
        norm(f"{name}.batch_norm", held + ghosts)

    d, words = sizes.shared, sizes.words * sizes.clusters["text"]
    for name in sizes.dims:
        if name in sizes.clusters:
            vlad(f"pooling.{name}", sizes.dims[name], name)
    vlad("text_pooling", sizes.words, "text")
    linear("ce.moe_fc", len(sizes.dims), words)
    linear("ce.g_reason_1", d, 2 * d)
    for layer in (0, 3):
        norm(f"ce.g_reason_shared.{layer}", d)
        linear(f"ce.g_reason_shared.{layer + 2}", d, d)
    for at, (name, dim) in enumerate(sizes.dims.items()):
        linear(f"ce.video_dim_reduce.{at}.fc", d, dim * sizes.clusters.get(name, 1))
        linear(f"ce.video_GU.{at}.cg.fc", d, d)
        norm(f"ce.video_GU.{at}.cg.batch_norm", d)
        norm(f"ce.video_GU.{at}.cg.batch_norm2", d)
        linear(f"ce.text_GU.{at}.fc", d, words)
        linear(f"ce.text_GU.{at}.cg.fc", d, d)
        norm(f"ce.text_GU.{at}.cg.batch_norm", d)
    return state


class PlainCE:
    """CE with weights as plain tensors; `state` also receives batch norm's running statistics in training.

    Args:
        state: weights under the released names; those that are learnt require gradients.
        sizes: what they belong to.
        self_pairs, keep_missing: the variant.
        training: batch norm by the batch, and its running statistics move.
    """

    def __init__(self, state: State, sizes: Sizes, *, self_pairs: bool, keep_missing: bool, training: bool) -> None:
        self.sizes, self.training = sizes, training
        self.self_pairs, self.keep_missing = self_pairs, keep_missing
        learnt = ("weight", "bias", "clusters", "clusters2")
        self.state = {name: value.clone() for name, value in state.items()}
        for name, value in self.state.items():
            if name.rsplit(".", 1)[1] in learnt:
                value.requires_grad_()

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def _norm(self, name: str, x: Tensor) -> Tensor:
        running = [self.state[f"{name}.{kind}"] for kind in ("running_mean", "running_var")]
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        if self.training:
            self.state[f"{name}.num_batches_tracked"] += 1
        return nn.functional.batch_norm(x, *running, weight, bias, training=self.training, momentum=0.1)

    def _vlad(self, name: str, clusters: int, sequences: Tensor) -> Tensor:
        size, length, dim = sequences.shape
        logits = self._norm(
            f"{name}.batch_norm", sequences.reshape(size * length, dim) @ self.state[f"{name}.clusters"]
        )
        shares = logits.softmax(1).view(size, length, -1)
        rows = []
        for b in range(size):
            columns = []
            for k in range(clusters):  # the ghosts behind are dropped
                centre = self.state[f"{name}.clusters2"][0, :, k]
                summed = sum(shares[b, n, k] * (sequences[b, n] - centre) for n in range(length))
                columns.append(_unit(summed))
            rows.append(_unit(torch.stack(columns, dim=1).flatten()))  # [D, K]
        return torch.stack(rows)

    def videos(self, features: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Return [B, E, D] of each expert's features, [B, D] or padded [B, T, D]; `present` is [B, E]."""
        names = list(self.sizes.dims)
        x = {}
        for at, name in enumerate(names):
            values = features[name]
            if name in self.sizes.clusters:
                values = self._vlad(f"pooling.{name}", self.sizes.clusters[name], values)
            x[name] = _unit(self._linear(f"ce.video_dim_reduce.{at}.fc", values))
        for at, name in enumerate(names):
            total: Tensor = torch.zeros_like(x[name])
            count = torch.zeros(len(present), 1, dtype=total.dtype)
            for place, other in enumerate(names):
                if other == name and not self.self_pairs:
                    continue
                pair = self._linear("ce.g_reason_1", torch.cat((x[name], x[other]), dim=1))
                for layer in (0, 3):
                    normed = self._norm(f"ce.g_reason_shared.{layer}", pair)
                    mish = normed * torch.tanh(torch.log1p(normed.exp()))
                    pair = self._linear(f"ce.g_reason_shared.{layer + 2}", mish)
                both = (present[:, at] * present[:, place]).to(total.dtype)[:, None]
                total, count = total + pair * both, count + both
            gate = self._norm(f"ce.video_GU.{at}.cg.batch_norm", total / (count + 1e-11))
            own = self._norm(f"ce.video_GU.{at}.cg.batch_norm2", self._linear(f"ce.video_GU.{at}.cg.fc", x[name]))
            x[name] = _unit(x[name] / (1 + (-(gate + own)).exp()))  # experts that follow see it
        return torch.stack([x[name] for name in names], dim=1)

    def texts(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return [N, E, D] and mixture weights [N, E] of padded word states [N, L, H]."""
        pooled = self._vlad("text_pooling", self.sizes.clusters["text"], states)
        vectors = [gated(self._linear, self._norm, f"ce.text_GU.{at}", pooled) for at in range(len(self.sizes.dims))]
        return torch.stack(vectors, dim=1), self._linear("ce.moe_fc", pooled).softmax(1)

    def scores(self, features: Mapping[str, Tensor], present: Tensor, states: Tensor) -> Tensor:
        """Return [T, V]."""
        videos, (texts, weights) = self.videos(features, present), self.texts(states)
        counted = torch.ones_like(present) if self.keep_missing else present
        rows = []
        for t in range(len(texts)):
            for v in range(len(videos)):
                held = weights[t] * counted[v]
                rows.append((held * (texts[t] * videos[v]).sum(1)).sum() / held.sum())
        return torch.stack(rows).view(len(texts), len(videos))


def gated(linear: object, norm: object, name: str, x: Tensor) -> Tensor:
    """Return a gated embedding unit's output: linear, then context gating with batch norm, then L2."""
    y = linear(f"{name}.fc", x)  # type: ignore[operator]
    gate = norm(f"{name}.cg.batch_norm", linear(f"{name}.cg.fc", y))  # type: ignore[operator]
    return _unit(y / (1 + (-gate).exp()))


def _unit(x: Tensor) -> Tensor:
    return x / x.pow(2).sum(-1, keepdim=True).sqrt().clamp_min(1e-12)


def padded(sequences: Sequence[Tensor], length: int) -> Tensor:
    """Return [B, length, D] of sequences [T, D], cut and padded with zeros."""
    found = torch.zeros(len(sequences), length, sequences[0].shape[1], dtype=sequences[0].dtype)
    for row, values in enumerate(sequences):
        found[row, : min(len(values), length)] = values[:length]
    return found
