"""The text side: gated embedding units, one an expert, and the mixture weights over experts.

Miech et al. 2018 (arXiv 1804.02516), Sec. 3.1 and 3.3; used unchanged by MMT (arXiv 2007.10639, Sec. 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vtr.models.norms import BatchNorm


class GatedEmbeddingUnits(nn.Module):
    """E gated embedding units at once: a text state becomes one unit vector per expert.

    For each expert: `y = W1 x + b1`, then context gating `y * sigmoid(BN(W2 y + b2))`, then L2 normalisation.

    Args:
        text_dim: H, length of the text state.
        num_experts: E.
        dim: D, length of each vector.
    """

    def __init__(self, text_dim: int, num_experts: int, dim: int) -> None:
        super().__init__()
        self.num_experts, self.dim = num_experts, dim
        self.project = nn.Linear(text_dim, num_experts * dim)
        self.gate_weight = nn.Parameter(torch.empty(num_experts, dim, dim))
        self.gate_bias = nn.Parameter(torch.empty(num_experts, dim))
        self.gate_norm = BatchNorm(num_experts * dim)
        for parameter in (self.gate_weight, self.gate_bias):
            nn.init.uniform_(parameter, -(dim**-0.5), dim**-0.5)  # as nn.Linear

    def forward(self, states: Tensor) -> Tensor:
        """Return [N, E, D] unit vectors of text states [N, H].

        Raises:
            ValueError: N is 1 in training, where batch norm needs more than one text.
        """
        if self.training and len(states) < 2 and self.gate_norm.group is None:
            raise ValueError(f"{len(states)} text in a training batch: batch norm needs at least 2 (or model.eval())")
        vectors = self.project(states).unflatten(1, (self.num_experts, self.dim))
        gates = torch.einsum("ned,efd->nef", vectors, self.gate_weight) + self.gate_bias
        gates = self.gate_norm(gates.flatten(1)).unflatten(1, (self.num_experts, self.dim))
        return normalize(vectors * gates.sigmoid(), dim=-1)


class MixtureWeights(nn.Module):
    """The softmax weights a text gives to the E experts.

    Args:
        text_dim: H, length of the text state.
        num_experts: E.
        dropout: applied to the state first.
    """

    def __init__(self, text_dim: int, num_experts: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(text_dim, num_experts)

    def forward(self, states: Tensor) -> Tensor:
        """Return [N, E] weights, rows summing to 1, of text states [N, H]."""
        weights: Tensor = self.linear(self.dropout(states)).softmax(dim=-1)
        return weights
