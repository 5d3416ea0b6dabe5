"""Every loss of `vtr.losses` beside its loop of `loops`, as functions of scores, a margin and a scale."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import loops
import torch
from torch import Tensor

from vtr.losses import (
    MetaWeightedLoss,
    OfflineScores,
    adaptive_margin_unified_loss,
    circle_weights,
    contrastive_loss,
    max_margin_ranking_loss,
    offline_quintuplet_loss,
    relative_polynomial_loss,
    self_polynomial_loss,
    triplet_hard_negative_loss,
    unified_loss,
    weighted_unified_loss,
)

COEFFICIENTS = (0.05, 1.0, 0.4, 0.3)


@dataclass(frozen=True)
class Case:
    """A loss and its loop.

    Attributes:
        ours: of (scores, margin, gamma, reduction=..., positives=...).
        loop: of (scores, margin, gamma, known), a value for every anchor; for max_margin one for every negative.
        digits: the relative error that the loss may have in float64; some of it is computed in float32.
    """

    ours: Callable[..., Tensor]
    loop: Callable[[loops.Scores, float, float, loops.Known], Sequence[Any]]
    digits: float = 1e-9


def draw(shape: int | tuple[int, ...], seed: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Random float64 numbers, the same for the same shape and seed."""
    generator = torch.Generator().manual_seed(seed)
    size = (shape,) if isinstance(shape, int) else shape
    return torch.rand(size, generator=generator, dtype=torch.float64) * (high - low) + low


def random_scores(size: int, seed: int) -> Tensor:
    """Scores of both signs, not symmetric, as positives are not better than negatives on the whole."""
    return draw((size, size), seed)


def mask(known: loops.Known, size: int) -> Tensor:
    found = torch.zeros((size, size), dtype=torch.bool)
    for text, video in known:
        found[text, video] = True
    return found


def offline_scores(size: int, device: torch.device | None = None) -> tuple[OfflineScores, loops.Offline]:
    text, video, pair = draw((3, size), 71)
    known = OfflineScores(text.to(device), video.to(device), pair.to(device))
    return known, loops.Offline(text.tolist(), video.tolist(), pair.tolist())


def network_and_loops() -> tuple[MetaWeightedLoss, loops.Network]:
    """A network whose weights differ from 1, as after some updates, and the same for the loops."""
    module = MetaWeightedLoss(hidden=5)
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(draw(tuple(parameter.shape), 80 + number))
    first, _, last = module.network.layers
    into = [(a, b, c) for (a, b), c in zip(first.weight.tolist(), first.bias.tolist(), strict=True)]
    return module, loops.Network(into, last.weight[0].tolist(), last.bias.item())


def circle_by_loops(s: loops.Scores) -> list[loops.Scores]:
    """[s_ij + r]_+ of negatives and [1 + r - s_ii]_+ of positives, numbers, with r = 0.25."""
    size = len(s)
    w = [[loops.hinge(loops.number(s[i][j]) + 0.25) for j in range(size)] for i in range(size)]
    for i in range(size):
        w[i][i] = loops.hinge(1.25 - loops.number(s[i][i]))
    return both(w)


def both(w: Sequence[Sequence[float]]) -> list[loops.Scores]:
    """A weight a pair, for the text and for the video: the second is the first with rows and columns exchanged."""
    return [w, [list(column) for column in zip(*w, strict=True)]]


def margins_of(size: int, margin: float) -> Tensor:
    return margin * draw(size, 72, 0.0, 1.0)


def weights_of(size: int) -> Tensor:
    return draw((size, size), 73, 0.5, 1.5)


def weights_apart(size: int) -> Tensor:
    return draw((2, size, size), 74, 0.5, 1.5)


META, META_LOOPS = network_and_loops()


def meta(
    scores: Tensor, margin: float, gamma: float, reduction: str = "sum", positives: Tensor | None = None
) -> Tensor:
    module = MetaWeightedLoss(margin, gamma, reduction)  # type: ignore[arg-type]
    module.network = copy.deepcopy(META.network).to(scores.device)
    return module(scores, positives)


CASES: dict[str, Case] = {
    "unified": Case(unified_loss, loops.unified),
    "triplet_hn": Case(
        lambda s, m, _, **more: triplet_hard_negative_loss(s, m, **more),
        lambda s, m, _, known: loops.triplet(s, m, known),
    ),
    "max_margin": Case(
        lambda s, m, _, **more: max_margin_ranking_loss(s, m, **more),
        lambda s, m, _, known: loops.max_margin(s, m, known),
    ),
    "contrastive": Case(
        lambda s, _, g, **more: contrastive_loss(s, g, **more), lambda s, _, g, known: loops.contrastive(s, g, known)
    ),
    "weighted_unified": Case(
        lambda s, m, g, **more: weighted_unified_loss(s, weights_of(len(s)).to(s.device), m, g, **more),
        lambda s, m, g, known: loops.weighted(s, both(weights_of(len(s)).tolist()), m, g, known),
    ),
    "weighted_unified, a weight an anchor": Case(
        lambda s, m, g, **more: weighted_unified_loss(s, weights_apart(len(s)).to(s.device), m, g, **more),
        lambda s, m, g, known: loops.weighted(s, weights_apart(len(s)).tolist(), m, g, known),
    ),
    "weighted_unified, weights of the scores": Case(
        lambda s, m, g, **more: weighted_unified_loss(s, circle_weights, m, g, **more),
        lambda s, m, g, known: loops.weighted(s, circle_by_loops(s), m, g, known),
    ),
    "relative_polynomial, hinge": Case(
        lambda s, m, g, **more: relative_polynomial_loss(s, COEFFICIENTS, m, g, "hinge", **more),
        lambda s, m, _, known: loops.relative_hinge(s, COEFFICIENTS, m, known),
    ),
    "relative_polynomial, unified": Case(
        lambda s, m, g, **more: relative_polynomial_loss(s, COEFFICIENTS, m, g, "unified", **more),
        lambda s, m, g, known: loops.relative_unified(s, COEFFICIENTS, m, g, known),
    ),
    "self_polynomial": Case(
        lambda s, m, _, **more: self_polynomial_loss(s, m, **more),
        lambda s, m, _, known: loops.self_polynomial(s, m, known),
    ),
    "adaptive_margin_unified": Case(
        lambda s, m, g, **more: adaptive_margin_unified_loss(s, margins_of(len(s), m).to(s.device), g, **more),
        lambda s, m, g, known: loops.adaptive_margin(s, margins_of(len(s), m).tolist(), g, known),
    ),
    "offline_quintuplet": Case(
        lambda s, m, _, **more: offline_quintuplet_loss(s, offline_scores(len(s), s.device)[0], m, **more),
        lambda s, m, _, known: loops.offline_quintuplet(s, offline_scores(len(s))[1], m, known=known),
    ),
    "meta_weighted": Case(
        meta,
        lambda s, m, g, known: loops.weighted(s, loops.meta_weights(s, META_LOOPS, known), m, g, known),
        digits=2e-4,
    ),
}
"""By the name in `LOSSES`, and the variant after a comma."""

PER_ANCHOR = [name for name in CASES if name != "max_margin"]
"""Losses that have a value for every anchor, and take reduction "none"."""
