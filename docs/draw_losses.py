"""Draw docs/losses.svg, how strongly each loss pushes a negative: `.venv/bin/python docs/draw_losses.py`.

The gradients are autograd's, of vtr's own functions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from vtr.losses import (
    circle_weights,
    contrastive_loss,
    max_margin_ranking_loss,
    self_polynomial_loss,
    triplet_hard_negative_loss,
    unified_loss,
    weighted_unified_loss,
)

POSITIVE = 0.5
"""The positive's similarity."""

RIVALS = (-0.10, -0.15, -0.20)
"""Gaps of the further negatives in the second panel."""

GAPS = torch.linspace(-0.5, 0.3, 801, dtype=torch.float64)

BLACK, BLUE, SKY, ORANGE, GREEN, PINK = "#000000", "#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7"
"""Of the palette of Okabe and Ito, which is told apart with any colour vision."""


@dataclass(frozen=True)
class Curve:
    """One loss as it is drawn.

    Attributes:
        loss: scores [B, B] to the loss of text 0, or to one that only text 0 has a part in.
        dashes: as matplotlib's line styles.
    """

    loss: Callable[[Tensor], Tensor]
    colour: str
    dashes: object = "-"


def _unified(gamma: float) -> Callable[[Tensor], Tensor]:
    return lambda scores: unified_loss(scores, 0.2, gamma, "none")[0, 0]


TRIPLET = Curve(lambda s: triplet_hard_negative_loss(s, 0.2, "none")[0, 0], BLACK)
MAX_MARGIN = Curve(lambda s: max_margin_ranking_loss(s, 0.05, "sum"), GREEN, (0, (6, 2)))
CONTRASTIVE = Curve(lambda s: contrastive_loss(s, 50.0, "none")[0, 0] / 50, ORANGE, (0, (3, 1)))
UNIFIED_10 = Curve(_unified(10.0), SKY)
UNIFIED_50 = Curve(_unified(50.0), BLUE)
UNIFIED_200 = Curve(_unified(200.0), PINK, (0, (2, 1)))
CIRCLE = Curve(lambda s: weighted_unified_loss(s, circle_weights, 0.2, 50.0, "none")[0, 0], ORANGE, (0, (3, 1)))
SELF_POLYNOMIAL = Curve(lambda s: self_polynomial_loss(s, reduction="none")[0, 0], GREEN, (0, (6, 2)))

Label = tuple[str, tuple[float, float], tuple[float, float]]
"""A curve's name, where it stands (the left of the words), and the point of the curve it means: gaps and pushes."""

ONE: list[tuple[Curve, Label]] = [
    (UNIFIED_10, ("unified, γ = 10", (-0.49, 0.42), (-0.245, 0.39))),
    (TRIPLET, ("Triplet-HN", (-0.49, 0.98), (-0.2, 0.98))),
    (UNIFIED_200, ("unified, γ = 200", (-0.49, 0.82), (-0.192, 0.82))),
    (UNIFIED_50, ("unified, γ = 50", (-0.49, 0.66), (-0.187, 0.66))),
    (MAX_MARGIN, ("max-margin", (0.07, 0.15), (-0.05, 0.15))),
    (CONTRASTIVE, ("contrastive", (0.07, 0.4), (-0.008, 0.4))),
]
SEVERAL: list[tuple[Curve, Label]] = [
    (UNIFIED_10, ("unified, γ = 10", (-0.49, 0.30), (-0.1, 0.30))),
    (TRIPLET, ("Triplet-HN", (-0.49, 0.98), (-0.1, 0.98))),
    (UNIFIED_200, ("unified, γ = 200", (-0.49, 0.82), (-0.092, 0.82))),
    (UNIFIED_50, ("unified, γ = 50", (-0.49, 0.66), (-0.084, 0.66))),
    (MAX_MARGIN, ("max-margin", (0.07, 0.15), (-0.05, 0.15))),
    (CONTRASTIVE, ("contrastive", (0.07, 0.4), (-0.008, 0.4))),
]
WEIGHTED: list[tuple[Curve, Label]] = [
    (UNIFIED_50, ("unified, γ = 50", (-0.48, 0.66), (-0.187, 0.66))),
    (CIRCLE, ("the same with\ncircle weights", (-0.48, 0.46), (-0.168, 0.46))),
    (SELF_POLYNOMIAL, ("SSP", (0.1, 0.41), (-0.05, 0.41))),
]


def push(curve: Curve, rivals: Sequence[float] = ()) -> Tensor:
    """Return how strongly text 0 pushes a negative video at each of the gaps, `|dL / ds_01|`.

    Every other text and video is content with its match, and asks nothing.

    Args:
        curve: the loss.
        rivals: gaps of further negatives.
    """
    size = 2 + len(rivals)
    scores = torch.full((size, size), -10.0, dtype=torch.float64)
    scores.fill_diagonal_(10.0)
    scores[0] = POSITIVE + torch.tensor([0.0, 0.0, *rivals])
    pushes = []
    for gap in GAPS:
        leaf = scores.clone()
        leaf[0, 1] = POSITIVE + gap
        leaf.requires_grad_()
        (gradient,) = torch.autograd.grad(curve.loss(leaf), leaf)
        pushes.append(gradient[0, 1].abs())
    return torch.stack(pushes)


def _panel(axes: Axes, title: str, curves: list[tuple[Curve, Label]], rivals: Sequence[float] = ()) -> None:
    for curve, (words, place, point) in curves:
        line = {"color": curve.colour, "linestyle": curve.dashes, "linewidth": 1.7}
        axes.plot(GAPS.numpy(), push(curve, rivals).numpy(), **line)
        leader = {"arrowstyle": "-", "color": curve.colour, "linewidth": 0.6, "shrinkA": 2, "shrinkB": 0}
        leader["relpos"] = (1.0, 0.5) if place[0] < point[0] else (0.0, 0.5)
        axes.annotate(words, point, place, arrowprops=leader, color=curve.colour, fontsize=9, va="center")
    for rival in rivals:
        axes.annotate("", (rival, 0), (rival, -0.09), arrowprops={"arrowstyle": "-|>", "color": "#5b6b7a"})
    axes.set_title(title, fontsize=10, loc="left", color="#3c4650")
    axes.set_xlabel("gap of the negative, $s_{neg} - s_{pos}$", fontsize=9, color="#3c4650")
    axes.set_xlim(GAPS[0], GAPS[-1])
    axes.tick_params(labelsize=8, colors="#5b6b7a")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color("#b8c7d6")
    axes.axvline(0, color="#b8c7d6", linewidth=0.8, zorder=0)


def draw(path: Path) -> None:
    """Write the picture to `path`; its suffix chooses the format."""
    matplotlib.rcParams.update({"svg.hashsalt": "vtr", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure, (one, several, weighted) = plt.subplots(1, 3, figsize=(12, 3.7), layout="constrained")
    _panel(one, "One negative", ONE)
    _panel(several, "The same with three more negatives (arrows)", SEVERAL, RIVALS)
    _panel(weighted, "One negative: similarities weighted or curved", WEIGHTED)
    one.set_ylabel("push on the negative, $|dL/ds_{neg}|$", fontsize=9, color="#3c4650")
    for axes in (one, several, weighted):
        axes.set_ylim(-0.1, 1.1)
    figure.savefig(path, facecolor="white", metadata={"Date": None} if path.suffix == ".svg" else {})
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("losses.svg"))
