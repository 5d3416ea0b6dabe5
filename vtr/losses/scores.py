"""What all pair-similarity losses share: the check of their input, its two directions, and the reduction."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Reduction = Literal["sum", "mean", "none"]
"""Over anchors: their sum (the paper's), that sum divided by B, or the [2, B] losses of texts and of videos."""

NO_NEGATIVE = -1e30
"""Stands for minus infinity where a true one would turn into NaN: in logits of what is no negative."""


def check_scores(scores: Tensor, positives: Tensor | None = None) -> Tensor:
    """Return `scores` in at least float32, checked to be [B, B] with B >= 1 and to fit `positives`.

    Raises:
        ValueError: another shape, or a mask that is not boolean.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not len(scores):
        raise ValueError(
            f"scores have shape {tuple(scores.shape)}, [B, B] with matching pairs on the diagonal expected"
        )
    if positives is not None:
        check_positives(positives, scores.shape)
    return scores if scores.dtype == torch.float64 else scores.float()


def check_positives(positives: Tensor, shape: torch.Size | tuple[int, int]) -> None:
    """Check the mask of known positives.

    Raises:
        ValueError: it is not a boolean tensor of that shape.
    """
    if positives.dtype != torch.bool or positives.shape != shape:
        raise ValueError(
            f"positives are {positives.dtype} {tuple(positives.shape)}, bool {tuple(shape)} expected: "
            "True where a text is known to describe a video"
        )


def check_gamma(gamma: float) -> None:
    """Check a scale.

    Raises:
        ValueError: it is not positive, or not finite.
    """
    if not 0 < gamma < math.inf:  # an infinite one would give NaN, not its limit
        raise ValueError(f"gamma is {gamma}, a positive number expected")


def not_negatives(scores: Tensor, positives: Tensor | None) -> Tensor:
    """Return bool [B, B]: the diagonal and the known positives."""
    diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return diagonal if positives is None else diagonal | positives


def both_ways(scores: Tensor) -> Tensor:
    """Return [2, B, B]: every text's scores over the videos, every video's over the texts. Anchors are in rows."""
    return torch.stack((scores, scores.T))


def negative_gaps(scores: Tensor, positives: Tensor | None = None) -> Tensor:
    """Return [2, B, B] gaps `s_negative - s_positive`: for each text over the videos, for each video over the texts.

    The diagonal and the known positives, which are no negatives, are -infinity.
    """
    gaps = both_ways(scores) - scores.diagonal().unsqueeze(1)
    return gaps.masked_fill(both_ways(not_negatives(scores, positives)), -torch.inf)


def soft_hinge(gaps: Tensor, margin: float | Tensor, gamma: float) -> Tensor:
    """Return the anchors' `1/gamma log(1 + sum_j exp(gamma (gap_j + m)))`, in plain operations.

    It can be differentiated any number of times. (`vtr.losses.two_way` is the fast way for one kind of gap.)

    Args:
        gaps: [2, B, B], -infinity where there is no negative.
        margin: m, a number or one for each anchor, [B].
        gamma: the scale.
    """
    m = margin.unsqueeze(-1) if isinstance(margin, Tensor) and margin.ndim else margin
    logits = (gamma * (gaps + m)).clamp_min(NO_NEGATIVE)  # a row of -infinity would give NaN gradients
    return -logsigmoid(-logits.logsumexp(dim=-1)) / gamma  # softplus, which torch cuts off at 20


def reduce(per_anchor: Tensor, reduction: Reduction) -> Tensor:
    """Return the sum of [2, B] anchor losses, that sum divided by B, or the losses as they are.

    Raises:
        ValueError: an unknown reduction.
    """
    check_reduction(reduction)
    if reduction == "none":
        return per_anchor
    total = per_anchor.sum()
    return total if reduction == "sum" else total / per_anchor.shape[1]


def check_reduction(reduction: str) -> None:
    """Check the name of a reduction.

    Raises:
        ValueError: an unknown one.
    """
    if reduction not in ("sum", "mean", "none"):
        raise ValueError(f"reduction is {reduction!r}, 'sum', 'mean' or 'none' expected")
