"""Training curves as SVG that takes its colours from the page around it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

INK = "#010203"
"""Drawn with, then replaced by the page's text colour."""

STYLES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#0072b2", ":"), ("#d55e00", ":"), ("#009e73", ":"))
"""Colours that colour-blind readers can tell apart, and a dash pattern for each."""

MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class Curve:
    """One chart.

    Attributes:
        title: what it shows.
        description: the same in a sentence, with its end points, for those who do not see it.
        svg: the drawing; it refers to nothing outside itself.
    """

    title: str
    description: str
    svg: str


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a training log; a line cut short by a kill is passed over, and a missing log is empty."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict):
            lines.append(entry)
    return lines


def training_curves(log: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Return loss by step, and validation RSUM and recalls by epoch, as far as the log holds them.

    Args:
        log: lines of kind "train" (step, loss) and "validation" (epoch, rsum, t2v_R1, ...).
    """
    steps = [line for line in log if line.get("kind") == "train" and "loss" in line]
    epochs = [line for line in log if line.get("kind") == "validation" and "rsum" in line]
    curves = []
    if steps:
        curves.append(_chart("Training loss", "step", "loss", [("loss", _points(steps, "step", "loss"))]))
    if epochs:
        rsum = _points(epochs, "epoch", "rsum")
        curves.append(_chart("Validation RSUM", "epoch", "RSUM", [("RSUM", rsum)], mark_best=True))
        names = [f"{way}_R{at}" for way in ("t2v", "v2t") for at in (1, 5, 10)]
        recalls = [
            (name.replace("_R", " R@"), _points(epochs, "epoch", name))
            for name in names
            if all(name in line for line in epochs)
        ]
        if recalls:
            curves.append(_chart("Validation recall", "epoch", "percent", recalls))
    return curves


Points = list[tuple[float, float]]


def _points(lines: Sequence[Mapping[str, Any]], x: str, y: str) -> Points:
    points = [(float(line[x]), float(line[y])) for line in lines]
    stride = -(-len(points) // MOST_POINTS)
    kept = points[::stride]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _chart(
    title: str, x_label: str, y_label: str, series: Sequence[tuple[str, Points]], *, mark_best: bool = False
) -> Curve:
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(5.2, 3.0), layout="constrained")
        axes = figure.add_subplot()
        for (name, points), (colour, dashes) in zip(series, STYLES, strict=False):
            marker = "o" if len(points) <= 30 else ""
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=dashes, marker=marker, ms=3, label=name)
        if mark_best:
            best = max(series[0][1], key=lambda point: point[1])
            axes.annotate(
                f"best {best[1]:.1f}", best, (0, -14), textcoords="offset points", ha="center", va="top", color=INK
            )
        axes.set_xlabel(x_label, color=INK)
        axes.set_ylabel(y_label, color=INK)
        axes.tick_params(colors=INK)
        axes.grid(alpha=0.2, color=INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(INK)
        if len(series) > 1:
            axes.legend(frameon=False, labelcolor=INK, ncols=2)
        drawing = io.StringIO()
        figure.savefig(drawing, format="svg", transparent=True, metadata={"Date": None})
    return Curve(title, _describe(title, x_label, series), _inline(drawing.getvalue(), title.lower().replace(" ", "-")))


def _describe(title: str, x_label: str, series: Sequence[tuple[str, Points]]) -> str:
    parts = []
    for name, points in series:
        (first_at, first), (last_at, last) = points[0], points[-1]
        parts.append(f"{name} goes from {first:.4g} at {x_label} {first_at:g} to {last:.4g} at {x_label} {last_at:g}")
    return f"{title}: {'; '.join(parts)}."


def _inline(svg: str, prefix: str) -> str:
    """Return a drawing without XML header and metadata, in the page's text colour, its ids made unique by a prefix."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return svg.replace(INK, "currentColor").replace("<svg ", '<svg aria-hidden="true" ', 1)
