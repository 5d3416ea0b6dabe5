"""The unified pair-similarity loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vtr.losses import two_way
from vtr.losses.embeddings import unified_loss_from_embeddings
from vtr.losses.scores import (
    Reduction,
    check_gamma,
    check_reduction,
    check_scores,
    negative_gaps,
    reduce,
    soft_hinge,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from vtr.types import TextEmbeddings, VideoEmbeddings

Margin = float | Tensor
"""m: a number, or one for every anchor [B], the same for text i and video i."""


def unified_loss(
    scores: Tensor,
    margin: Margin = 0.2,
    gamma: float = 50.0,
    reduction: Reduction = "sum",
    *,
    positives: Tensor | None = None,
) -> Tensor:
    """Return the unified pair-similarity loss, a scalar >= 0.

    `L = 1/gamma * sum_i [ log(1 + sum_{j!=i} exp(gamma (s_ij - s_ii + m)))
                           + log(1 + sum_{j!=i} exp(gamma (s_ji - s_ii + m))) ]`
    (arXiv 2209.13869, Eq. 5; Eq. 26 with a margin for every anchor). gamma -> infinity gives the hardest-negative
    triplet loss, at a rate of log(B) / gamma an anchor; margin 0 gives the contrastive loss over gamma.

    The gradient on a negative is `D_j / (1 + sum_k D_k)` with `D_j = exp(gamma (s_ij - s_ii + m))`. (Eq. 15 prints
    1 + D_j for the denominator; that is right for one negative only.)

    Computed in float32 or float64 from logits less their maximum, so it is finite for any gamma, and without keeping
    more than the scores and their gradient. Under `torch.compile`, for reduction "none", and for a margin that is
    learnt, plain operations are used instead.

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        margin: m, how much a positive should beat each negative by.
        gamma: the scale, > 0; larger attends more to the hardest negatives.
        reduction: "sum" over anchors (the paper's), "mean" (divided by B), or "none" for [2, B], texts then videos.
        positives: bool [B, B], True where a text is known to describe a video: no negative.

    Raises:
        ValueError: `scores` is not square, `margin` or `positives` does not fit, `gamma` is not positive, or
            `reduction` is unknown.
    """
    check_gamma(gamma)
    check_reduction(reduction)
    scores = check_scores(scores, positives)
    if isinstance(margin, Tensor):
        if margin.shape not in ((), scores.shape[:1]):
            raise ValueError(f"the margin has shape {tuple(margin.shape)}, a number or [{len(scores)}] expected")
        margin = margin.to(scores.dtype)  # gamma times a margin in half precision would be rounded again
    learnt = isinstance(margin, Tensor) and margin.requires_grad
    if reduction == "none" or learnt or torch.compiler.is_compiling():
        return reduce(soft_hinge(negative_gaps(scores, positives), margin, gamma), reduction)
    if not torch.is_grad_enabled():
        scores = scores.detach()  # or its gradient would be computed for nothing
    total: Tensor = _FromScores.apply(scores, margin, gamma, positives)  # type: ignore[no-untyped-call]
    return total if reduction == "sum" else total / len(scores)


class _FromScores(torch.autograd.Function):
    """The summed loss of scores; its gradient is computed with it."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, margin: Margin, gamma: float, positives: Tensor | None) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        compute = two_way.at_once if two_way.is_small(scores) else two_way.piece_by_piece
        total, gradient = compute(scores, gamma, margin, positives, wanted)
        if gradient is not None:
            ctx.save_for_backward(scores, gradient)
            ctx.again = margin, gamma, positives
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        scores, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the gradient will be differentiated itself
            margin, gamma, positives = ctx.again
            loss = soft_hinge(negative_gaps(scores, positives), margin, gamma).sum()
            (gradient,) = torch.autograd.grad(loss, scores, create_graph=True)
        return gradient * grad_output, None, None, None


class UnifiedLoss(nn.Module):
    """`unified_loss` with its parameters kept. The paper's settings for MMT and CE: margin 0.2, gamma 50.

    Raises:
        ValueError: `gamma` is not positive.
    """

    def __init__(self, margin: float = 0.2, gamma: float = 50.0, reduction: Reduction = "sum") -> None:
        super().__init__()
        check_gamma(gamma)
        self.margin, self.gamma, self.reduction = margin, gamma, reduction

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, B]."""
        return unified_loss(scores, self.margin, self.gamma, self.reduction, positives=positives)

    def from_embeddings(
        self,
        text: Tensor | TextEmbeddings,
        video: Tensor | VideoEmbeddings,
        chunk_size: int | None = None,
        *,
        positives: Tensor | None = None,
        group: ProcessGroup | None = None,
    ) -> Tensor:
        """Return the loss of B texts and videos, a chunk of scores at a time: `unified_loss_from_embeddings`."""
        return unified_loss_from_embeddings(
            text,
            video,
            self.margin,
            self.gamma,
            self.reduction,
            chunk_size=chunk_size,
            positives=positives,
            group=group,
        )
