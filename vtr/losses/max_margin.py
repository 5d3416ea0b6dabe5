"""The max-margin ranking loss that MMT and CE were released with."""

from __future__ import annotations

from torch import Tensor, nn

from vtr.losses.scores import check_scores, negative_gaps


def max_margin_ranking_loss(scores: Tensor, margin: float = 0.05) -> Tensor:
    """Return the mean hinge over all 2 (B^2 - B) negatives (Karpathy et al. 2014; MMT uses 0.05, CE 0.09381).

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        margin: how much a positive should beat each negative by.

    Raises:
        ValueError: `scores` is not square.
    """
    hinges = (negative_gaps(check_scores(scores)) + margin).clamp_min(0)
    num_negatives = 2 * len(scores) * (len(scores) - 1)
    return hinges.sum() / max(num_negatives, 1)


class MaxMarginRankingLoss(nn.Module):
    """`max_margin_ranking_loss` with its parameter kept."""

    def __init__(self, margin: float = 0.05) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, scores: Tensor) -> Tensor:
        """Return the loss of scores [B, B]."""
        return max_margin_ranking_loss(scores, self.margin)
