"""The hardest-negative triplet loss."""

from __future__ import annotations

from torch import Tensor, nn

from vtr.losses.scores import Reduction, check_scores, negative_gaps, reduce


def triplet_hard_negative_loss(scores: Tensor, margin: float = 0.2, reduction: Reduction = "sum") -> Tensor:
    """Return the hinge on the hardest negative of every anchor in both directions (VSE++; arXiv 2209.13869, Eq. 1-2).

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        margin: how much a positive should beat its hardest negative by.
        reduction: "sum" over anchors (the paper's) or "mean" (divided by B).

    Raises:
        ValueError: `scores` is not square or `reduction` is unknown.
    """
    hardest = negative_gaps(check_scores(scores)).amax(dim=-1)
    return reduce((hardest + margin).clamp_min(0), reduction)


class TripletHardNegativeLoss(nn.Module):
    """`triplet_hard_negative_loss` with its parameters kept."""

    def __init__(self, margin: float = 0.2, reduction: Reduction = "sum") -> None:
        super().__init__()
        self.margin, self.reduction = margin, reduction

    def forward(self, scores: Tensor) -> Tensor:
        """Return the loss of scores [B, B]."""
        return triplet_hard_negative_loss(scores, self.margin, self.reduction)
