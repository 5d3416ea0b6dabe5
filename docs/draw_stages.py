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
    "prepare": (23, 70),
    "extract": (23, 34),
    "train": (54.5, 52),
    "embed": (66, 52),
    "index": (77.5, 52),
    "search": (92, 78),
    "serve": (92, 60),
    "evaluate": (92, 42),
    "report": (92, 20),
}
ARROWS = [
    ((12.5, 70), (17.6, 70)),
    ((12.5, 34), (17.6, 34)),
    ((28.4, 70), (32, 70)),
    ((28.4, 34), (32, 34)),
    ((23, 64.5), (23, 39.5)),
    ((43.5, 67), (49.4, 56)),
    ((43.5, 37), (49.4, 48)),
    ((59.5, 52), (61, 52)),
    ((71, 52), (72.5, 52)),
    ((82.6, 54.5), (86.8, 74)),
    ((82.6, 53), (86.8, 59)),
    ((82.6, 51), (86.8, 44)),
    ((92, 36.5), (92, 25.5)),
]
DATA = {
    "captions\nand splits\n(JSON, CSV)": (6.5, 70),
    "video files": (6.5, 34),
    "annotations\nand splits": (37.5, 70),
    "Parquet\nfeature store": (37.5, 34),
    "appearance · motion · audio\nspeech · ocr · face": (31.5, 17),
    "checkpoint": (54.5, 43.5),
    "embeddings": (66, 43.5),
    "FAISS": (77.5, 43.5),
}


def _box(axes: Axes, x: float, y: float, width: float, height: float, **style: str) -> None:
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=1.2", **style))


def draw(path: Path) -> None:
    """Write the picture to `path`; its suffix chooses the format."""
    matplotlib.rcParams.update({"svg.hashsalt": "vtr", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(10, 3.6))
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.axis("off")
    home = {"facecolor": "#eef3f8", "edgecolor": "#b8c7d6"}
    _box(axes, 31.5, 50, 32, 92, **home)
    _box(axes, 74, 50, 51, 92, **home)
    axes.text(16.7, 89.5, "workspace: what no model changes", color="#5b6b7a", fontsize=9)
    axes.text(49.7, 89.5, "run: one trained model and what it made", color="#5b6b7a", fontsize=9)
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
