"""A BERT-style encoder over feature tokens: post-norm blocks, exact gelu, scaled dot-product attention."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

LAYER_NORM_EPS = 1e-12
"""BERT's."""


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

    def forward(self, x: Tensor, attendable: Tensor, wanted: Sequence[int] | None = None) -> Tensor:
        """Return tokens [B, L, D] from tokens [B, L, D], or [B, W, D] at the W places that are `wanted`.

        Args:
            x: [B, L, D].
            attendable: [B, 1, 1, L] bool, which tokens may be looked at.
            wanted: the places whose outputs are read; behind a last block, that spares most of its work.
        """
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if wanted is not None:
            query, x = query[:, :, wanted], x[:, wanted]
        rate = self.dropout_rate if self.training else 0.0
        seen = scaled_dot_product_attention(query, key, value, attn_mask=attendable, dropout_p=rate)
        seen = self.attention_out(seen.transpose(1, 2).flatten(2))
        x = self.attention_norm(x + self.dropout(seen))
        output: Tensor = self.output_norm(x + self.dropout(self.narrow(self.gelu(self.widen(x)))))
        return output
