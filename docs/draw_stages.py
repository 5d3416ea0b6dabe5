"""Draw docs/stages.svg, the picture of the stages: `.venv/bin/python docs/draw_stages.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

STAGES = {  # name: x, y of the centre
    "prepare": (23, 76),
    "extract": (23, 42),
    "train": (54.5, 62),
    "embed": (66, 62),
    "index": (77.5, 62),
    "ingest": (77.5, 22),
    "search": (93, 82),
    "serve": (93, 64),
    "evaluate": (93, 46),
    "report": (93, 24),
}
ARROWS = [
    ((12.5, 76), (17.8, 76)),
    ((12.5, 42), (17.8, 42)),
    ((28.2, 76), (32, 76)),
    ((28.2, 42), (32, 42)),
    ((23, 70.5), (23, 47.5)),
    ((43.2, 73), (49.3, 66)),
    ((43.2, 45), (49.3, 58)),
    ((59.7, 62), (60.8, 62)),
    ((71.2, 62), (72.3, 62)),
    ((82.7, 64.5), (87.8, 79)),
    ((82.7, 62.5), (87.8, 64)),
    ((82.7, 60), (87.8, 48.5)),
    ((93, 40.5), (93, 29.5)),
    ((69.5, 22), (72.3, 22)),
    ((77.5, 27.5), (77.5, 49.5)),
]
DATA = {
    "captions\nand splits\n(JSON, CSV)": (6.5, 76),
    "video files": (6.5, 42),
    "annotations\nand splits": (37.5, 76),
    "Parquet\nfeature store": (37.5, 42),
    "appearance · objects · scene\nmotion · shots · audio · speech\ntext on screen · faces": (31.5, 16),
    "checkpoint": (54.5, 53),
    "embeddings": (66, 53),
    "FAISS": (77.5, 53),
    "more videos,\nat any time": (63.5, 22),
    "library": (73.2, 38),
}


def _box(axes: Axes, x: float, y: float, width: float, height: float, **style: str) -> None:
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=1.2", **style))


def draw(path: Path) -> None:
    """Write the picture to `path`; its suffix chooses the format."""
    matplotlib.rcParams.update({"svg.hashsalt": "vtr", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(10.4, 4.0))
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.axis("off")
    home = {"facecolor": "#eef3f8", "edgecolor": "#b8c7d6"}
    _box(axes, 31.5, 50, 32, 96, **home)
    _box(axes, 74, 50, 51, 96, **home)
    axes.text(16.7, 91.5, "workspace: what no model changes", color="#5b6b7a", fontsize=9)
    axes.text(49.7, 91.5, "run: one trained model and what it made", color="#5b6b7a", fontsize=9)
    for text, (x, y) in DATA.items():
        axes.text(x, y, text, ha="center", va="center", color="#3c4650", fontsize=9)
    for start, end in ARROWS:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "#5b6b7a", "shrinkA": 0, "shrinkB": 0})
    for name, (x, y) in STAGES.items():
        _box(axes, x, y, 10, 11, facecolor="#2c5a87", edgecolor="none")
        axes.text(x, y, name, ha="center", va="center", color="white", fontsize=10, fontweight="bold")
    figure.savefig(path, bbox_inches="tight", pad_inches=0.05, facecolor="white", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("stages.svg"))
