"""A BERT-style encoder over packed tokens: post-norm blocks, exact gelu, scaled dot-product attention."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

LAYER_NORM_EPS = 1e-12
"""BERT's."""


class Packing(NamedTuple):
    """Which of B sequences each of N tokens belongs to. Padding exists only where attention is computed.

    Attributes:
        cells: [N] int64, each token's place in a padded batch [B * L].
        length: L, of the longest sequence.
        attendable: [B, 1, 1, L] bool, the cells that tokens look at.
    """

    cells: Tensor
    length: int
    attendable: Tensor

    @classmethod
    def of(cls, owner: Tensor, seen: Tensor, sequences: int) -> Packing:
        """Return the packing of N tokens.

        Args:
            owner: [N] int64, each token's sequence, from 0 to B - 1, in any order.
            seen: [N] bool, whether others look at a token.
            sequences: B.
        """
        counts = torch.bincount(owner, minlength=sequences)
        length = int(counts.max())
        order = owner.argsort(stable=True)
        before = counts.cumsum(0) - counts  # tokens of earlier sequences
        rank = torch.empty_like(owner)
        rank[order] = torch.arange(len(owner), device=owner.device) - before[owner[order]]
        cells = owner * length + rank
        attendable = torch.zeros(sequences * length, dtype=torch.bool, device=owner.device)
        attendable[cells] = seen
        return cls(cells, length, attendable.view(sequences, 1, 1, length))

    def pad(self, x: Tensor) -> Tensor:
        """Return [B, L, *] of packed [N, *], zero on padding."""
        padded = x.new_zeros((self.attendable.numel(), *x.shape[1:]))
        return rearrange(padded.index_copy(0, self.cells, x), "(b l) ... -> b l ...", l=self.length)


class Block(nn.Module):
    """Self-attention and feed-forward, each with dropout, residual and layer norm behind it (Devlin et al. 2019)."""

    def __init__(self, dim: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout_rate = heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.widen = nn.Linear(dim, feed_forward)
        self.narrow = nn.Linear(feed_forward, dim)
        self.output_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.gelu = nn.GELU()

    def forward(self, x: Tensor, packing: Packing, wanted: Tensor | None = None) -> Tensor:
        """Return tokens [N, D] from packed tokens [N, D], or [W, D] of the rows that are wanted.

        Args:
            x: [N, D].
            packing: which sequence each token belongs to.
            wanted: [W] rows whose outputs are read, as many of each sequence, one sequence after the other; behind a
                last block, that spares most of its work.
        """
        sequences = len(packing.attendable)
        if wanted is None:
            query, key, value = self._heads(packing.pad(self.qkv(x))).chunk(3, dim=1)
        else:
            query_part, rest = self.qkv.weight.tensor_split([x.shape[1]]), self.qkv.bias.tensor_split([x.shape[1]])
            key, value = self._heads(packing.pad(nn.functional.linear(x, query_part[1], rest[1]))).chunk(2, dim=1)
            x = x[wanted]
            queries = nn.functional.linear(x, query_part[0], rest[0])
            query = self._heads(rearrange(queries, "(b w) d -> b w d", b=sequences))
        rate = self.dropout_rate if self.training else 0.0
        seen = scaled_dot_product_attention(query, key, value, attn_mask=packing.attendable, dropout_p=rate)
        seen = rearrange(seen, "b h l d -> (b l) (h d)")
        seen = self.attention_out(seen if wanted is not None else seen[packing.cells])
        x = self.attention_norm(x + self.dropout(seen))
        output: Tensor = self.output_norm(x + self.dropout(self.narrow(self.gelu(self.widen(x)))))
        return output

    def _heads(self, x: Tensor) -> Tensor:
        """Return [B, parts * heads, L, d] of [B, L, parts * heads * d]."""
        return rearrange(x, "b l (h d) -> b h l d", d=self.attention_out.in_features // self.heads)
