"""A polynomial of the relative similarity (RSP), as a hinge and in the unified form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from vtr.losses.scores import (
    Reduction,
    both_ways,
    check_gamma,
    check_reduction,
    check_scores,
    negative_gaps,
    not_negatives,
    reduce,
    soft_hinge,
)

IDENTITY = (0.0, 1.0)
"""G(x) = x, which gives the triplet and the unified loss."""


def polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Return `sum_k coefficients[k] x^k`, by Horner's rule."""
    value = torch.zeros_like(x)
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value


def relative_polynomial_loss(
    scores: Tensor,
    coefficients: Sequence[float] = IDENTITY,
    margin: float = 0.2,
    gamma: float = 50.0,
    form: Literal["hinge", "unified"] = "hinge",
    reduction: Reduction = "sum",
    *,
    positives: Tensor | None = None,
) -> Tensor:
    """Return the loss of G(s_negative - s_positive) with a polynomial G, in both directions, a scalar >= 0.

    `form` "hinge": `L = sum_i [G(s_in - s_ii) + m]_+` + the same of videos, `s_in` the hardest negative. `form`
    "unified": `L = 1/gamma * sum_i log(1 + sum_{j!=i} exp(gamma (G(s_ij - s_ii) + m)))` + the same of videos
    (arXiv 2209.13869, Eq. 25, after the relative-similarity polynomial loss of Wei et al. 2020, arXiv 2010.03403).
    G(x) = x gives the hardest-negative triplet loss and the unified loss. The coefficients are yours to choose: none
    is claimed to be a published one.

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        coefficients: of G in ascending powers: a_0, a_1, ...; one at least.
        margin: m, added to G.
        gamma: the scale of the unified form, > 0.
        form: see above.
        reduction: "sum" over anchors (the paper's), "mean" (divided by B), or "none" for [2, B].
        positives: bool [B, B], True where a text is known to describe a video: no negative.

    Raises:
        ValueError: no coefficients, an unknown form, or as for `unified_loss`.
    """
    check_gamma(gamma)
    check_reduction(reduction)
    if not coefficients:
        raise ValueError("there are no coefficients, a_0, a_1, ... of the polynomial expected")
    if form not in ("hinge", "unified"):
        raise ValueError(f"form is {form!r}, 'hinge' or 'unified' expected")
    scores = check_scores(scores, positives)
    masked = both_ways(not_negatives(scores, positives))
    gaps = negative_gaps(scores, positives)
    if form == "hinge":
        hardest, none = gaps.amax(dim=-1), masked.all(dim=-1)
        value = polynomial(hardest.masked_fill(none, 0), coefficients) + margin
        return reduce(value.clamp_min(0).masked_fill(none, 0), reduction)
    values = polynomial(gaps.masked_fill(masked, 0), coefficients).masked_fill(masked, -torch.inf)
    return reduce(soft_hinge(values, margin, gamma), reduction)


class RelativePolynomialLoss(nn.Module):
    """`relative_polynomial_loss` with its parameters kept.

    Raises:
        ValueError: no coefficients, or `gamma` is not positive.
    """

    def __init__(
        self,
        coefficients: Sequence[float] = IDENTITY,
        margin: float = 0.2,
        gamma: float = 50.0,
        form: Literal["hinge", "unified"] = "hinge",
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__()
        check_gamma(gamma)
        if not coefficients:
            raise ValueError("there are no coefficients, a_0, a_1, ... of the polynomial expected")
        self.coefficients, self.margin, self.gamma = tuple(coefficients), margin, gamma
        self.form, self.reduction = form, reduction

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, B]."""
        return relative_polynomial_loss(
            scores, self.coefficients, self.margin, self.gamma, self.form, self.reduction, positives=positives
        )
