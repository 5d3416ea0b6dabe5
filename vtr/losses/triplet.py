"""The hardest-negative triplet loss."""

from __future__ import annotations

from torch import Tensor, nn

from vtr.losses.scores import Reduction, check_scores, negative_gaps, reduce


def triplet_hard_negative_loss(
    scores: Tensor, margin: float = 0.2, reduction: Reduction = "sum", *, positives: Tensor | None = None
) -> Tensor:
    """Return the hinge on the hardest negative of every anchor in both directions, a scalar >= 0.

    `L = sum_i [ [max_{j!=i} s_ij - s_ii + m]_+ + [max_{j!=i} s_ji - s_ii + m]_+ ]` (VSE++, Faghri et al. 2018;
    arXiv 2209.13869, Eq. 1-2). It is the unified loss with gamma -> infinity. Where several negatives are equally
    hard, they share the gradient.

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        margin: m, how much a positive should beat its hardest negative by.
        reduction: "sum" over anchors (the paper's), "mean" (divided by B), or "none" for [2, B].
        positives: bool [B, B], True where a text is known to describe a video: no negative.

    Raises:
        ValueError: `scores` is not square, `positives` does not fit, or `reduction` is unknown.
    """
    hardest = negative_gaps(check_scores(scores, positives), positives).amax(dim=-1)
    return reduce((hardest + margin).clamp_min(0), reduction)


class TripletHardNegativeLoss(nn.Module):
    """`triplet_hard_negative_loss` with its parameters kept."""

    def __init__(self, margin: float = 0.2, reduction: Reduction = "sum") -> None:
        super().__init__()
        self.margin, self.reduction = margin, reduction

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, B]."""
        return triplet_hard_negative_loss(scores, self.margin, self.reduction, positives=positives)
