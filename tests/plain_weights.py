"""Random weights of MMT in the released layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from plain_mmt import make_bert
from torch import Tensor

POSITIONS, TYPES = 32, 19


def random_weights(
    expert_dims: Mapping[str, int],
    text_bert: Mapping[str, Any],
    *,
    dim: int,
    layers: int,
    feed_forward: int,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return random weights in the released layout, large enough that a wrong row or place shows."""
    draw = torch.Generator().manual_seed(seed)
    text_dim = int(text_bert["hidden_size"])
    weights: dict[str, Tensor] = {}

    def random(name: str, *shape: int, around: float = 0.0, spread: float = 0.1) -> None:
        weights[name] = around + spread * torch.randn(shape, generator=draw)

    def linear(name: str, out: int, into: int) -> None:
        random(f"{name}.weight", out, into, spread=into**-0.5)
        random(f"{name}.bias", out)

    def norm(name: str) -> None:
        random(f"{name}.weight", dim, around=1.0)
        random(f"{name}.bias", dim)

    random("vid_bert.embeddings.position_embeddings.weight", POSITIONS, dim, spread=0.3)
    random("vid_bert.embeddings.token_type_embeddings.weight", TYPES, dim, spread=0.3)
    norm("vid_bert.embeddings.layer_norm")
    linear("vid_bert.pooler.dense", dim, dim)
    for layer in range(layers):
        _random_block(f"vid_bert.encoder.layer.{layer}", dim, feed_forward, linear, norm)
    for name, size in expert_dims.items():
        linear(f"video_dim_reduce.{name}.fc", dim, size)
        linear(f"text_GU.{name}.fc", dim, text_dim)
        linear(f"text_GU.{name}.cg.fc", dim, dim)
        norm(f"text_GU.{name}.cg.batch_norm")
        random(f"text_GU.{name}.cg.batch_norm.running_mean", dim)
        weights[f"text_GU.{name}.cg.batch_norm.running_var"] = 0.5 + torch.rand(dim, generator=draw)
        weights[f"text_GU.{name}.cg.batch_norm.num_batches_tracked"] = torch.tensor(3)
        linear(f"moe_fc_txt.{name}", 1, text_dim)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        bert = make_bert(text_bert, 0.0)
    return weights | {f"txt_bert.{name}": value for name, value in bert.state_dict().items()}


def _random_block(
    name: str, dim: int, feed_forward: int, linear: Callable[[str, int, int], None], norm: Callable[[str], None]
) -> None:
    for part in ("self.query", "self.key", "self.value", "output.dense"):
        linear(f"{name}.attention.{part}", dim, dim)
    linear(f"{name}.intermediate.dense", feed_forward, dim)
    linear(f"{name}.output.dense", dim, feed_forward)
    norm(f"{name}.attention.output.layer_norm")
    norm(f"{name}.output.layer_norm")
