"""The losses as plain loops, written from the equations of arXiv 2209.13869 and of the papers the others come from.

A scalar is a float, or a float64 tensor without dimensions where a gradient is wanted: the loops are the same. Nothing
here calls vtr. Every loss is a list with one value an anchor (or a negative), texts first, which the caller sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Scalar = Any
"""A float, or a float64 tensor without dimensions."""

Scores = Sequence[Sequence[Scalar]]
"""s[i][j] of text i and video j; the matching pairs are on the diagonal."""

Known = Collection[tuple[int, int]]
"""Pairs (text, video) known to match, besides the diagonal: they are no negatives."""


def number(x: Scalar) -> float:
    return x.item() if isinstance(x, Tensor) else float(x)


def exp(x: Scalar) -> Scalar:
    return x.exp() if isinstance(x, Tensor) else math.exp(x)


def log(x: Scalar) -> Scalar:
    return x.log() if isinstance(x, Tensor) else math.log(x)


def log1p(x: Scalar) -> Scalar:
    return x.log1p() if isinstance(x, Tensor) else math.log1p(x)


def hinge(x: Scalar) -> Scalar:
    return x if x > 0 else 0.0


def log_sum(xs: Sequence[Scalar]) -> Scalar:
    """Return log(sum exp(x)), with the largest taken out so that no gamma overflows."""
    largest = number(max(xs))
    return largest + log(sum(exp(x - largest) for x in xs))


def log_one_plus_sum(xs: Sequence[Scalar]) -> Scalar:
    """Return log(1 + sum exp(x)). The 1 is exp(0), and counts as one of the x where they are large."""
    if not xs or max(xs) <= 0:
        return log1p(sum(exp(x) for x in xs))
    return log_sum([0.0 * xs[0], *xs])


@dataclass(frozen=True)
class Anchor:
    """A text (side 0) or a video (side 1), its number, its positive's score, and its negatives' by their number."""

    side: int
    at: int
    own: Scalar
    negatives: dict[int, Scalar]


def anchors(s: Scores, known: Known = ()) -> list[Anchor]:
    size = len(s)
    texts = [
        Anchor(0, i, s[i][i], {j: s[i][j] for j in range(size) if j != i and (i, j) not in known}) for i in range(size)
    ]
    videos = [
        Anchor(1, i, s[i][i], {j: s[j][i] for j in range(size) if j != i and (j, i) not in known}) for i in range(size)
    ]
    return texts + videos


def unified(s: Scores, margin: float, gamma: float, known: Known = ()) -> list[Scalar]:
    """Eq. 5."""
    return [
        log_one_plus_sum([gamma * (n - a.own + margin) for n in a.negatives.values()]) / gamma
        for a in anchors(s, known)
    ]


def adaptive_margin(s: Scores, margins: Sequence[Scalar], gamma: float, known: Known = ()) -> list[Scalar]:
    """Eq. 26."""
    return [
        log_one_plus_sum([gamma * (n - a.own + margins[a.at]) for n in a.negatives.values()]) / gamma
        for a in anchors(s, known)
    ]


def weighted(s: Scores, weights: Sequence[Scores], margin: float, gamma: float, known: Known = ()) -> list[Scalar]:
    """Eq. 24. weights[0][i][j] is text i's for video j, weights[1][i][j] is video i's for text j."""
    losses = []
    for a in anchors(s, known):
        w = weights[a.side][a.at]
        gaps = [w[j] * n - w[a.at] * a.own for j, n in a.negatives.items()]
        losses.append(log_one_plus_sum([gamma * (gap + margin) for gap in gaps]) / gamma)
    return losses


def triplet(s: Scores, margin: float, known: Known = ()) -> list[Scalar]:
    """Eq. 1-2."""
    return [
        hinge(max(a.negatives.values()) - a.own + margin) if a.negatives else 0.0 * a.own for a in anchors(s, known)
    ]


def max_margin(s: Scores, margin: float, known: Known = ()) -> list[Scalar]:
    """A hinge for every negative."""
    return [hinge(n - a.own + margin) for a in anchors(s, known) for n in a.negatives.values()]


def contrastive(s: Scores, gamma: float, known: Known = ()) -> list[Scalar]:
    """Eq. 3: minus the logarithm of exp(gamma s_ii) / sum_j exp(gamma s_ij)."""
    return [
        log_sum([gamma * a.own, *(gamma * n for n in a.negatives.values())]) - gamma * a.own for a in anchors(s, known)
    ]


def power_series(x: Scalar, coefficients: Sequence[float]) -> Scalar:
    return sum(coefficient * x**power for power, coefficient in enumerate(coefficients))


def relative_hinge(s: Scores, coefficients: Sequence[float], margin: float, known: Known = ()) -> list[Scalar]:
    """Eq. 25, as a hinge."""
    return [
        hinge(power_series(max(a.negatives.values()) - a.own, coefficients) + margin) if a.negatives else 0.0
        for a in anchors(s, known)
    ]


def relative_unified(
    s: Scores, coefficients: Sequence[float], margin: float, gamma: float, known: Known = ()
) -> list[Scalar]:
    """Eq. 25, in the unified form."""
    return [
        log_one_plus_sum([gamma * (power_series(n - a.own, coefficients) + margin) for n in a.negatives.values()])
        / gamma
        for a in anchors(s, known)
    ]


def self_polynomial(s: Scores, margin: float, known: Known = ()) -> list[Scalar]:
    """The released coefficients; an anchor with nothing within the margin, or all but aligned, is skipped."""
    losses = []
    for a in anchors(s, known):
        within = [n for n in a.negatives.values() if n + margin > a.own]
        if not within or a.own >= 1 - 1e-5:
            losses.append(0.0)
            continue
        hardest = max(within)
        losses.append(
            hinge(0.2 * a.own**2 - 0.7 * a.own + 0.5) + hinge(0.9 * hardest**2 - 0.4 * hardest + 0.03),
        )
    return losses


@dataclass(frozen=True)
class Offline:
    """Scores with offline negatives: text i's, video i's, and of the pair of both."""

    text: Sequence[float]
    video: Sequence[float]
    pair: Sequence[float]


def offline_quintuplet(
    s: Scores,
    offline: Offline,
    margin: float,
    offline_margin: float = 0.0,
    alpha: float = 0.3,
    beta: float = 1.5,
    known: Known = (),
) -> list[Scalar]:
    """AOQ; the pair's term, which counts twice, comes once with its text and once with its video."""
    losses = []
    for a in anchors(s, known):
        outside = (offline.text if a.side == 0 else offline.video)[a.at]
        loss = hinge(offline_margin + outside - a.own) + hinge(offline_margin + offline.pair[a.at] - a.own)
        if a.negatives:
            hardest = max(a.negatives.values())
            loss = loss + (beta - (outside - hardest) / alpha) * hinge(margin + hardest - a.own)
        losses.append(loss)
    return losses


@dataclass(frozen=True)
class Network:
    """A hidden layer of rectified units, and a sigmoid: into[h] = (of the self, of the relative similarity, bias)."""

    into: Sequence[tuple[Scalar, Scalar, Scalar]]
    out: Sequence[Scalar]
    bias: Scalar

    def weight(self, own: float, relative: float) -> Scalar:
        hidden = [hinge(a * own + b * relative + c) for a, b, c in self.into]
        return 2 / (1 + exp(-sum((o * h for o, h in zip(self.out, hidden, strict=True)), start=self.bias)))


def meta_weights(s: Scores, network: Network, known: Known = ()) -> list[list[list[Scalar]]]:
    """Weights for `weighted`, numbers as far as the scores go. What is no negative keeps weight 1, unread."""
    numbers = [[number(x) for x in row] for row in s]
    size = len(s)
    weights: list[list[list[Scalar]]] = [[[1.0] * size for _ in range(size)] for _ in range(2)]
    for a in anchors(numbers, known):
        row = weights[a.side][a.at]
        for j, n in a.negatives.items():
            row[j] = network.weight(n, n - a.own)
        row[a.at] = network.weight(a.own, a.own - max(a.negatives.values()) if a.negatives else 0.0)
    return weights


def total(losses: Sequence[Scalar]) -> float:
    return math.fsum(number(loss) for loss in losses)


def gradient(loss: Callable[[Scores], Sequence[Scalar]], scores: Tensor) -> Tensor:
    """Return the gradient of the summed losses on the scores, by torch's autograd on the loops' own steps."""
    leaf = scores.detach().double().requires_grad_()
    summed = sum(loss([list(row.unbind()) for row in leaf.unbind()]))
    if not isinstance(summed, Tensor) or not summed.requires_grad:
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad(summed, leaf)
    return found
