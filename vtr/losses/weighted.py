"""The unified loss with a weight on every similarity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from vtr.losses.scores import (
    Reduction,
    both_ways,
    check_gamma,
    check_scores,
    not_negatives,
    reduce,
    soft_hinge,
)
from vtr.losses.unified import unified_loss

Weighting = Callable[[Tensor], Tensor]
"""Scores [B, B] to weights [B, B] or [2, B, B]."""


def weighted_unified_loss(
    scores: Tensor,
    weights: Tensor | Weighting,
    margin: float = 0.2,
    gamma: float = 50.0,
    reduction: Reduction = "sum",
    *,
    positives: Tensor | None = None,
) -> Tensor:
    """Return the unified loss of weighted similarities, a scalar >= 0.

    `L = 1/gamma * sum_i [ log(1 + sum_{j!=i} exp(gamma (w_ij s_ij - w_ii s_ii + m))) + the same of s_ji, w_ji ]`
    (arXiv 2209.13869, Eq. 24). Unit weights give Eq. 5. Gradients flow through the weights unless they are detached.

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        weights: w [B, B], w_ij of text i and video j, w_ii of the positives; or what makes them from the scores. Or
            [2, B, B], anchors in rows, where text i weighs video j otherwise than video j weighs text i.
        margin: m, how much a weighted positive should beat each weighted negative by.
        gamma: the scale, > 0.
        reduction: "sum" over anchors (the paper's), "mean" (divided by B), or "none" for [2, B].
        positives: bool [B, B], True where a text is known to describe a video: no negative.

    Raises:
        ValueError: `weights` is neither [B, B] nor [2, B, B], or as for `unified_loss`.
    """
    scores = check_scores(scores, positives)
    w = (weights if isinstance(weights, Tensor) else weights(scores)).to(scores.dtype)
    if w.shape == scores.shape:
        return unified_loss(w * scores, margin, gamma, reduction, positives=positives)
    if w.shape != (2, *scores.shape):
        raise ValueError(
            f"weights have shape {tuple(w.shape)}, that of the scores, {tuple(scores.shape)}, or two of them expected"
        )
    check_gamma(gamma)
    weighted = w * both_ways(scores)
    gaps = weighted - weighted.diagonal(dim1=1, dim2=2).unsqueeze(-1)
    gaps = gaps.masked_fill(both_ways(not_negatives(scores, positives)), -torch.inf)
    return reduce(soft_hinge(gaps, margin, gamma), reduction)


def circle_weights(scores: Tensor, relaxation: float = 0.25) -> Tensor:
    """Return weights [B, B] in the manner of the circle loss, without a gradient (Sun et al. 2020, Eq. 5 and 8).

    The further a similarity is from its optimum, the more it weighs: `w_ii = [1 + r - s_ii]_+`, `w_ij = [s_ij + r]_+`.
    (The circle loss also shifts the similarities by margins of their own, which Eq. 24 has not.)

    Args:
        scores: [B, B].
        relaxation: r, the optima are 1 + r and -r.
    """
    s = scores.detach()
    negatives = (s + relaxation).clamp_min(0)
    return negatives.diagonal_scatter((1 + relaxation - s.diagonal()).clamp_min(0))


WEIGHTINGS: Mapping[str, Weighting] = {"circle": circle_weights, "unit": torch.ones_like}
"""Weightings that a config can name."""


class WeightedUnifiedLoss(nn.Module):
    """`weighted_unified_loss` with its parameters kept.

    Args:
        margin, gamma, reduction: see `weighted_unified_loss`.
        weights: "unit" (then it is the unified loss), "circle" (`circle_weights`), a callable of the scores, or a
            tensor [B, B]; `forward` may be given others.

    Raises:
        ValueError: `gamma` is not positive, or `weights` names none.
    """

    def __init__(
        self,
        margin: float = 0.2,
        gamma: float = 50.0,
        weights: Literal["unit", "circle"] | Weighting | Tensor = "unit",
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__()
        check_gamma(gamma)
        if isinstance(weights, str) and weights not in WEIGHTINGS:
            raise ValueError(f"weights are {weights!r}, one of {', '.join(sorted(WEIGHTINGS))} expected")
        self.margin, self.gamma, self.reduction = margin, gamma, reduction
        self.weights = WEIGHTINGS[weights] if isinstance(weights, str) else weights

    def forward(self, scores: Tensor, positives: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, B]; `weights` [B, B] go before the module's own."""
        chosen = self.weights if weights is None else weights
        return weighted_unified_loss(scores, chosen, self.margin, self.gamma, self.reduction, positives=positives)
