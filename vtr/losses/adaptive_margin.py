"""The unified loss with a margin for every anchor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vtr.losses.scores import Reduction, check_gamma, check_scores
from vtr.losses.unified import unified_loss


def adaptive_margin_unified_loss(
    scores: Tensor,
    margins: Tensor,
    gamma: float = 50.0,
    reduction: Reduction = "sum",
    *,
    positives: Tensor | None = None,
) -> Tensor:
    """Return the unified loss with a margin m_i for text i and for video i, a scalar >= 0.

    `L = 1/gamma * sum_i [ log(1 + sum_{j!=i} exp(gamma (s_ij - s_ii + m_i))) + the same of s_ji ]`
    (arXiv 2209.13869, Eq. 26). A constant margin gives Eq. 5.

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        margins: m [B], for example `soft_margins`; gradients flow to them where they ask for one.
        gamma: the scale, > 0.
        reduction: "sum" over anchors (the paper's), "mean" (divided by B), or "none" for [2, B].
        positives: bool [B, B], True where a text is known to describe a video: no negative.

    Raises:
        ValueError: `margins` is not [B], or as for `unified_loss`.
    """
    scores = check_scores(scores, positives)
    if margins.shape != scores.shape[:1]:
        raise ValueError(f"margins have shape {tuple(margins.shape)}, [{len(scores)}] expected")
    return unified_loss(scores, margins, gamma, reduction, positives=positives)


def soft_margins(labels: Tensor, margin: float = 0.2) -> Tensor:
    """Return `m_i = m (10^y_i - 1) / 9` [B] (NCR, Huang et al. 2021; arXiv 2209.13869, Eq. 27).

    A pair that surely matches keeps the margin, one that surely does not gets none.

    Args:
        labels: y [B], soft correspondence labels from 0 (the pair does not match) to 1 (it does).
        margin: m, the margin at y = 1.
    """
    return margin * (torch.pow(10.0, labels) - 1) / 9


class AdaptiveMarginUnifiedLoss(nn.Module):
    """`adaptive_margin_unified_loss` with NCR's margins.

    Args:
        margin: m, of a pair that surely matches.
        gamma, reduction: see `adaptive_margin_unified_loss`.

    Raises:
        ValueError: `gamma` is not positive.
    """

    def __init__(self, margin: float = 0.2, gamma: float = 50.0, reduction: Reduction = "sum") -> None:
        super().__init__()
        check_gamma(gamma)
        self.margin, self.gamma, self.reduction = margin, gamma, reduction

    def forward(
        self,
        scores: Tensor,
        positives: Tensor | None = None,
        labels: Tensor | None = None,
        margins: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of scores [B, B].

        Args:
            scores, positives: see `adaptive_margin_unified_loss`.
            labels: [B], soft correspondence labels; None means that all pairs match, the unified loss.
            margins: [B], instead of those the labels give.
        """
        if margins is None:
            if labels is None:
                return unified_loss(scores, self.margin, self.gamma, self.reduction, positives=positives)
            margins = soft_margins(labels, self.margin)
        return adaptive_margin_unified_loss(scores, margins, self.gamma, self.reduction, positives=positives)
