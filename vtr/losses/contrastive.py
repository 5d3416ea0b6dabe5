"""The contrastive (InfoNCE) loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vtr.losses.scores import Reduction, check_scores, reduce


def contrastive_loss(scores: Tensor, gamma: float = 50.0, reduction: Reduction = "sum") -> Tensor:
    """Return the cross entropy of picking the match, in both directions, summed (arXiv 2209.13869, Eq. 3).

    It equals gamma times the unified loss with margin 0.

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        gamma: the inverse temperature.
        reduction: "sum" over anchors (the paper's) or "mean" (divided by B).

    Raises:
        ValueError: `scores` is not square or `reduction` is unknown.
    """
    logits = gamma * check_scores(scores)
    target = torch.arange(len(logits), device=logits.device)
    both = (cross_entropy(logits, target, reduction="none"), cross_entropy(logits.T, target, reduction="none"))
    return reduce(torch.stack(both), reduction)


class ContrastiveLoss(nn.Module):
    """`contrastive_loss` with its parameters kept."""

    def __init__(self, gamma: float = 50.0, reduction: Reduction = "sum") -> None:
        super().__init__()
        self.gamma, self.reduction = gamma, reduction

    def forward(self, scores: Tensor) -> Tensor:
        """Return the loss of scores [B, B]."""
        return contrastive_loss(scores, self.gamma, self.reduction)
