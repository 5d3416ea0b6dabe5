"""The figures of a sweep: what they show as numbers, then their drawing."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from vtr.evaluation.seeds import OverSeeds

Log = Sequence[Mapping[str, Any]]
"""The lines of one run's log."""

DOTS_PER_INCH = 150

STYLES = (
    ("#0072b2", "-"),
    ("#d55e00", "--"),
    ("#009e73", "-."),
    ("#cc79a7", ":"),
    ("#e69f00", "-"),
    ("#56b4e9", "--"),
    ("#000000", "-."),
)
"""A colour and a dash pattern for each variant; the palette of Okabe and Ito is told apart with any colour vision."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel.

    Attributes:
        name: of the variant.
        x, y: the points.
        low, high: the band around them, at each point.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes; `log` where y is drawn on a logarithmic scale."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """Panels side by side.

    Attributes:
        name: of the file.
        caption: what it shows.
        panels: at least one.
    """

    name: str
    caption: str
    panels: tuple[Panel, ...]

    @property
    def description(self) -> str:
        """The end of every line in words, for those who do not see it."""
        parts = [
            f"{panel.title}: "
            + "; ".join(f"{s.name} ends at {s.y[-1]:.4g} at {panel.x_label} {s.x[-1]:g}" for s in panel.series)
            for panel in self.panels
        ]
        return ". ".join([self.caption.rstrip("."), *parts]) + "."


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a grid.

    Attributes:
        line: the variant of which it is a point, "" where there is only one.
        point: full key -> value.
        rsum: over the seeds.
    """

    line: str
    point: Mapping[str, Any]
    rsum: OverSeeds


def epoch_figures(logs: Mapping[str, Sequence[Log]]) -> list[Figure]:
    """Return Figure 3 (loss and validation RSUM) and Figure 4 (similarities) by epoch, as far as the logs hold them.

    Args:
        logs: variant -> the log of each of its runs, with lines of kind "epoch" (epoch, loss, positive_similarity,
            hardest_negative_similarity) and "validation" (epoch, rsum).
    """

    def panel(title: str, y_label: str, kind: str, key: str) -> Panel | None:
        series = [found for name, some in logs.items() if (found := by_epoch(name, some, kind, key)) is not None]
        above_zero = all(low > 0 for one in series for low in one.low)
        return Panel(title, "epoch", y_label, tuple(series), log=key == "loss" and above_zero) if series else None

    band = "one line a variant, the mean over seeds; the band goes from the lowest seed to the highest."
    wanted = [
        (
            "figure3",
            f"Figure 3. Training loss (its scale differs from loss to loss) and validation RSUM by epoch: {band}",
            [panel("Training loss", "loss", "epoch", "loss"), panel("Validation RSUM", "RSUM", "validation", "rsum")],
        ),
        (
            "figure4",
            f"Figure 4. Similarity in training batches by epoch: {band}",
            [
                panel("Positive pairs", "mean similarity", "epoch", "positive_similarity"),
                panel("Hardest negatives", "mean similarity", "epoch", "hardest_negative_similarity"),
            ],
        ),
    ]
    figures = [Figure(name, words, tuple(one for one in panels if one is not None)) for name, words, panels in wanted]
    return [figure for figure in figures if figure.panels]


def by_epoch(name: str, logs: Sequence[Log], kind: str, key: str) -> Series | None:
    """Return the mean, lowest and highest value over runs of each epoch that some log has; None where there is none."""
    values: dict[float, list[float]] = {}
    for log in logs:
        for line in log:
            if line.get("kind") == kind and key in line:
                values.setdefault(float(line["epoch"]), []).append(float(line[key]))
    if not values:
        return None
    epochs = sorted(values)
    of_epoch = [values[epoch] for epoch in epochs]
    means = tuple(sum(some) / len(some) for some in of_epoch)
    return Series(name, tuple(epochs), means, tuple(map(min, of_epoch)), tuple(map(max, of_epoch)))


def grid_figures(points: Sequence[Point]) -> list[Figure]:
    """Return Figure 5, RSUM against each number that the grid varies, or nothing where it varies none."""
    keys = list(dict.fromkeys(key for one in points for key in one.point))
    panels = [panel for key in keys if (panel := _grid_panel(points, key)) is not None]
    words = "Figure 5. RSUM on the reported part against what the grid varies: the mean over seeds; the band is one "
    return [Figure("figure5", f"{words}standard deviation up and down.", tuple(panels))] if panels else []


def _grid_panel(points: Sequence[Point], key: str) -> Panel | None:
    """Return RSUM against one key, a line for each way the rest is set."""
    lines: dict[str, list[tuple[float, OverSeeds]]] = {}
    for one in points:
        value = one.point.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            others = [f"{name.rpartition('.')[2]}={other}" for name, other in one.point.items() if name != key]
            lines.setdefault(" ".join([*([one.line] if one.line else []), *others]), []).append((value, one.rsum))
    series = []
    for name, some in lines.items():
        ordered = sorted(some, key=lambda pair: pair[0])
        spread = [(rsum.mean, rsum.deviation or 0.0) for _, rsum in ordered]
        lows, highs = tuple(mean - by for mean, by in spread), tuple(mean + by for mean, by in spread)
        x, y = tuple(float(value) for value, _ in ordered), tuple(mean for mean, _ in spread)
        series.append(Series(name or "RSUM", x, y, lows, highs))
    if not any(len(one.x) > 1 for one in series):
        return None
    return Panel(f"RSUM by {key}", key.rpartition(".")[2], "RSUM", tuple(series))


def draw_png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    num = len(figure.panels)
    most = max(len(panel.series) for panel in figure.panels)
    with matplotlib.rc_context({"font.size": 9}):
        canvas = Canvas(figsize=(5.4 * num, 3.8 + 0.2 * (-(-most // (3 * num)))), layout="constrained")
        axes: Sequence[Axes] = canvas.subplots(1, num, squeeze=False, sharey=figure.name == "figure4")[0]
        for one, panel in zip(axes, figure.panels, strict=True):
            _draw(one, panel)
        lines, names = axes[0].get_legend_handles_labels()
        if all(names == [one.name for one in panel.series] for panel in figure.panels):
            canvas.legend(lines, names, loc="outside lower center", ncols=3 * num, frameon=False)
        else:
            for one in axes:
                one.legend(frameon=False)
        drawing = io.BytesIO()
        canvas.savefig(drawing, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return drawing.getvalue()


def _draw(axes: Axes, panel: Panel) -> None:
    for place, one in enumerate(panel.series):
        colour, dashes = STYLES[place % len(STYLES)]
        if len(panel.series) > len(STYLES):  # a grid: from dark to bright
            colour, dashes = to_hex(matplotlib.colormaps["viridis"](place / len(panel.series))), "-"
        marker = "o" if len(one.x) <= 30 else ""
        axes.plot(one.x, one.y, color=colour, linestyle=dashes, marker=marker, markersize=3, label=one.name)
        axes.fill_between(one.x, one.low, one.high, color=colour, alpha=0.15, linewidth=0)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.set_yscale("log" if panel.log else "linear")
    if panel.x_label == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
