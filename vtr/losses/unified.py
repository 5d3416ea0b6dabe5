"""The unified pair-similarity loss."""

from __future__ import annotations

from torch import Tensor, nn

from vtr.losses.scores import Reduction, check_scores, negative_gaps, reduce


def unified_loss(scores: Tensor, margin: float = 0.2, gamma: float = 50.0, reduction: Reduction = "sum") -> Tensor:
    """Return the unified pair-similarity loss, a scalar.

    `L = 1/gamma * sum_i [ log(1 + sum_{j!=i} exp(gamma (s_ij - s_ii + m)))
                           + log(1 + sum_{j!=i} exp(gamma (s_ji - s_ii + m))) ]`
    (arXiv 2209.13869, Eq. 5). It is computed as a log-sum-exp in float32 with the 1 as a further term exp(0), so it is
    finite for any gamma. gamma -> infinity gives the hardest-negative triplet loss; margin 0 gives the contrastive
    loss over gamma.

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        margin: m, how much a positive should beat each negative by.
        gamma: the scale; larger attends more to the hardest negatives.
        reduction: "sum" over anchors (the paper's) or "mean" (divided by B).

    Raises:
        ValueError: `scores` is not square, `gamma` is not positive, or `reduction` is unknown.
    """
    if gamma <= 0:
        raise ValueError(f"gamma is {gamma}, a positive number expected")
    logits = gamma * (negative_gaps(check_scores(scores)) + margin)  # [2, B, B]; the diagonal is -inf
    with_one = nn.functional.pad(logits, (1, 0))  # exp(0) = 1
    return reduce(with_one.logsumexp(dim=-1), reduction) / gamma


class UnifiedLoss(nn.Module):
    """`unified_loss` with its parameters kept. The paper's settings for MMT and CE: margin 0.2, gamma 50."""

    def __init__(self, margin: float = 0.2, gamma: float = 50.0, reduction: Reduction = "sum") -> None:
        super().__init__()
        self.margin, self.gamma, self.reduction = margin, gamma, reduction

    def forward(self, scores: Tensor) -> Tensor:
        """Return the loss of scores [B, B]."""
        return unified_loss(scores, self.margin, self.gamma, self.reduction)
