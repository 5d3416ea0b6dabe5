"""What all pair-similarity losses share: the check of their input and the two directions of it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["sum", "mean"]


def check_scores(scores: Tensor) -> Tensor:
    """Return `scores` in at least float32, checked to be [B, B] with B >= 1.

    Raises:
        ValueError: another shape.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not len(scores):
        raise ValueError(
            f"scores have shape {tuple(scores.shape)}, [B, B] with matching pairs on the diagonal expected"
        )
    return scores if scores.dtype == torch.float64 else scores.float()


def negative_gaps(scores: Tensor) -> Tensor:
    """Return [2, B, B] gaps `s_negative - s_positive`: for each text over the videos, for each video over the texts.

    The diagonal, which is no negative, is -infinity.
    """
    positives = scores.diagonal().unsqueeze(1)
    gaps = torch.stack((scores - positives, scores.T - positives))
    diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return gaps.masked_fill(diagonal, -torch.inf)


def reduce(per_anchor: Tensor, reduction: Reduction) -> Tensor:
    """Return the sum of [2, B] anchor losses, or that sum divided by B.

    Raises:
        ValueError: an unknown reduction.
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction is {reduction!r}, 'sum' or 'mean' expected")
    total = per_anchor.sum()
    return total if reduction == "sum" else total / per_anchor.shape[1]
