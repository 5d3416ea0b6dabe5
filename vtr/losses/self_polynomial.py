"""Polynomials of the similarities themselves (SSP)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vtr.losses.relative_polynomial import polynomial
from vtr.losses.scores import Reduction, both_ways, check_reduction, check_scores, not_negatives, reduce

POSITIVE = (0.5, -0.7, 0.2)
"""0.5 - 0.7 s + 0.2 s^2, of the positive."""

NEGATIVE = (0.03, -0.4, 0.9)
"""0.03 - 0.4 s + 0.9 s^2, of the negative."""

ALIGNED = 1 - 1e-5
"""Anchors whose positive is at least so similar have nothing left to learn."""


def self_polynomial_loss(
    scores: Tensor,
    margin: float = 0.2,
    positive: Sequence[float] = POSITIVE,
    negative: Sequence[float] = NEGATIVE,
    reduction: Reduction = "mean",
    *,
    positives: Tensor | None = None,
) -> Tensor:
    """Return the self-similarity polynomial loss, a scalar >= 0.

    For every anchor, with its positive s+ and its hardest negative sn:
    `[0.2 s+^2 - 0.7 s+ + 0.5]_+ + [0.9 sn^2 - 0.4 sn + 0.03]_+`, both directions summed and divided by B. An anchor is
    left out whole where no negative is within the margin (sn + m > s+), or where s+ >= 1 - 1e-5. (Wei et al. 2020,
    arXiv 2010.03403, with the coefficients of the released code.) The unified loss compares similarities with
    each other; this one compares each with a fixed curve.

    Args:
        scores: [B, B], cosine similarities, texts in rows, videos in columns, matching pairs on the diagonal.
        margin: m, the mining margin.
        positive, negative: the polynomials' coefficients in ascending powers.
        reduction: "mean" (divided by B, as released), "sum", or "none" for [2, B].
        positives: bool [B, B], True where a text is known to describe a video: no negative.

    Raises:
        ValueError: `scores` is not square, `positives` does not fit, `reduction` is unknown, or there are no
            coefficients.
    """
    check_reduction(reduction)
    if not positive or not negative:
        raise ValueError("a polynomial has no coefficients, a_0, a_1, ... expected")
    scores = check_scores(scores, positives)
    masked = both_ways(not_negatives(scores, positives))
    own = scores.diagonal().expand(2, -1)
    hardest = both_ways(scores).masked_fill(masked, -2e4).amax(dim=-1)
    counted = (hardest + margin > own) & (own < ALIGNED) & ~masked.all(dim=-1)
    value = polynomial(own, positive).clamp_min(0) + polynomial(hardest, negative).clamp_min(0)
    return reduce(value.masked_fill(~counted, 0), reduction)


class SelfPolynomialLoss(nn.Module):
    """`self_polynomial_loss` with its parameters kept."""

    def __init__(
        self,
        margin: float = 0.2,
        positive: Sequence[float] = POSITIVE,
        negative: Sequence[float] = NEGATIVE,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.margin, self.positive, self.negative = margin, tuple(positive), tuple(negative)
        self.reduction = reduction

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, B]."""
        return self_polynomial_loss(
            scores, self.margin, self.positive, self.negative, self.reduction, positives=positives
        )
