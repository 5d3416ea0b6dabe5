"""The max-margin ranking loss that MMT and CE were released with."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from vtr.losses.scores import check_scores, negative_gaps


def max_margin_ranking_loss(
    scores: Tensor,
    margin: float = 0.05,
    reduction: Literal["mean", "sum"] = "mean",
    *,
    positives: Tensor | None = None,
) -> Tensor:
    """Return the mean hinge over all 2 (B^2 - B) negatives, a scalar >= 0.

    `L = 1 / (2 (B^2 - B)) * sum_i sum_{j!=i} [ [s_ij - s_ii + m]_+ + [s_ji - s_ii + m]_+ ]` (Karpathy et al. 2014). MMT
    was released with margin 0.05, CE with 0.09381. All negatives that violate the margin weigh the same, where the
    unified loss weighs them by how hard they are.

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        margin: m, how much a positive should beat each negative by.
        reduction: "mean" over the negatives (as released), or "sum" of their hinges.
        positives: bool [B, B], True where a text is known to describe a video: no negative, and not counted.

    Raises:
        ValueError: `scores` is not square, `positives` does not fit, or `reduction` is unknown.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}, 'mean' or 'sum' over the negatives expected")
    gaps = negative_gaps(check_scores(scores, positives), positives)
    total = (gaps + margin).clamp_min(0).sum()
    return total if reduction == "sum" else total / gaps.isfinite().sum().clamp_min(1)


class MaxMarginRankingLoss(nn.Module):
    """`max_margin_ranking_loss` with its parameters kept."""

    def __init__(self, margin: float = 0.05, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        self.margin, self.reduction = margin, reduction

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, B]."""
        return max_margin_ranking_loss(scores, self.margin, self.reduction, positives=positives)
