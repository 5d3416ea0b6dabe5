"""NetVLAD: a sequence of vectors becomes one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, normalize, pad

from vtr.model_config import VladConfig
from vtr.models.norms import BatchNorm


class NetVLAD(nn.Module):
    """Soft-assigns vectors to clusters and sums up how they differ from the clusters' centres.

    Arandjelovic et al. 2016 (arXiv 1511.07247), with batch norm on the assignment, and ghost clusters (Zhong et al.
    2018, arXiv 1810.09951) whose share is dropped; as CE was released. Each cluster's sum is L2-normalised, then
    the whole.

    Args:
        dim: D, length of each vector.
        config: clusters K, ghosts, and the length sequences are cut and padded to.
    """

    def __init__(self, dim: int, config: VladConfig) -> None:
        super().__init__()
        self.clusters, self.length, self.dim = config.clusters, config.length, dim
        self.assign = nn.Parameter(torch.randn(dim, config.clusters + config.ghosts) * dim**-0.5)
        self.centres = nn.Parameter(torch.randn(dim, config.clusters) * dim**-0.5)
        self.norm = BatchNorm(config.clusters + config.ghosts)

    @property
    def out_dim(self) -> int:
        """K * D."""
        return self.clusters * self.dim

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Return [B, D * K] of B sequences [B, N, D]; `mask` [B, N] is 0 or False on padding, which is zero there."""
        if self.length is None:
            return self._pool(vectors, mask.to(torch.bool))
        vectors = vectors[:, : self.length]
        vectors = pad(vectors, (0, 0, 0, self.length - vectors.shape[1]))
        return self._pool(vectors, vectors.new_ones(vectors.shape[:2], dtype=torch.bool))

    def _pool(self, vectors: Tensor, seen: Tensor) -> Tensor:
        logits = vectors[seen] @ self.assign
        if self.training and len(logits) < 2 and self.norm.group is None:  # too little to normalise by
            logits = batch_norm(logits, self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias)
        else:
            logits = self.norm(logits)
        soft = logits.softmax(dim=-1)[:, : self.clusters]
        shares = soft.new_zeros((*seen.shape, self.clusters))
        shares[seen] = soft
        residuals = vectors.transpose(1, 2) @ shares - shares.sum(dim=1, keepdim=True) * self.centres  # [B, D, K]
        return normalize(normalize(residuals, dim=1).flatten(1), dim=-1)
