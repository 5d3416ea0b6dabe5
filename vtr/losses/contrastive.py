"""The vision-language contrastive loss (VLC, InfoNCE)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vtr.losses.scores import Reduction, both_ways, check_gamma, check_scores, not_negatives, reduce

MAX_LEARNT_GAMMA = 100.0
"""A learnt scale is kept at or below this, as in CLIP (Radford et al. 2021, Sec. 2.5)."""


def contrastive_loss(
    scores: Tensor,
    gamma: float | Tensor = 50.0,
    reduction: Reduction = "sum",
    *,
    positives: Tensor | None = None,
) -> Tensor:
    """Return the cross entropy of picking the match, both directions summed, a scalar >= 0.

    `L = -sum_i [ log(exp(gamma s_ii) / sum_j exp(gamma s_ij)) + log(exp(gamma s_ii) / sum_j exp(gamma s_ji)) ]`
    (InfoNCE, van den Oord et al. 2018; arXiv 2209.13869, Eq. 3). It is gamma times the unified loss with margin 0.

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        gamma: the inverse temperature, > 0; a tensor may be learnt.
        reduction: "sum" over anchors (the paper's), "mean" (divided by B), or "none" for [2, B].
        positives: bool [B, B], True where a text is known to describe a video: no negative.

    Raises:
        ValueError: `scores` is not square, `gamma` is not positive, `positives` does not fit, or `reduction` is
            unknown.
    """
    if not isinstance(gamma, Tensor):
        check_gamma(gamma)
    logits = gamma * check_scores(scores, positives)
    if positives is not None:
        others = not_negatives(scores, positives).fill_diagonal_(False)
        logits = logits.masked_fill(others, -torch.inf)
    own = both_ways(logits).log_softmax(dim=-1).diagonal(dim1=1, dim2=2)
    return reduce(-own, reduction)


class ContrastiveLoss(nn.Module):
    """`contrastive_loss` with its parameters kept.

    Args:
        gamma: the scale, or where a learnt one starts (CLIP: 1 / 0.07 = 14.3).
        reduction: see `contrastive_loss`.
        learnable: learn the scale, as its logarithm and up to `MAX_LEARNT_GAMMA`, as CLIP does.

    Raises:
        ValueError: `gamma` is not positive.
    """

    def __init__(self, gamma: float = 50.0, reduction: Reduction = "sum", learnable: bool = False) -> None:
        super().__init__()
        check_gamma(gamma)
        self.gamma, self.reduction = gamma, reduction
        self.log_gamma = nn.Parameter(torch.tensor(math.log(gamma))) if learnable else None

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, B]."""
        if self.log_gamma is None:
            return contrastive_loss(scores, self.gamma, self.reduction, positives=positives)
        with torch.no_grad():  # the parameter itself, as a clamped use of it would get no gradient to come back by
            self.log_gamma.clamp_(max=math.log(MAX_LEARNT_GAMMA))
        return contrastive_loss(scores, self.log_gamma.exp(), self.reduction, positives=positives)
