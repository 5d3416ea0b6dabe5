"""Tuning: how far an approximate index must look to reach a recall, measured with queries that are held out.

A query's true answers are the best ten by the score. An index finds one of them when it is among its candidates, since
candidates are ranked by the score. So the recall of a search parameter depends on how many candidates are asked for;
both are chosen: the first value that reaches the target with few enough candidates, and the least number of these. The
target counts as reached when a lower bound of the measured mean reaches it, so that other queries reach it too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vtr.embeddings import CAPTIONS
from vtr.index.gallery import Gallery
from vtr.index.kinds import SEED, parameter, set_parameters
from vtr.index.ranking import Asked, Clips, Words, candidate_scores
from vtr.index.segment import Items, Rows, Segment
from vtr.types import TextEmbeddings, VideoEmbeddings

BEST = 10
"""Recall is measured at so many results."""

QUERIES, HELD_OUT = 512, 256
"""Queries that are tuned with, and others that the choice is measured with."""

DEPTHS = (10, 20, 40, 100, 200, 400, 1000)
"""Candidates for ten results that are tried."""

ROWS = 4096
"""Items that are scored with all queries at once."""

NEGLIGIBLE = 1e-3
TIMED = 16
SURE = 1.64
"""Standard errors below the mean that must still reach the target: true means are higher 95 times in 100."""

NOISE = 0.5
"""Length of the noise that is added to vectors of length 1, where there are no captions to ask with."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement.

    Attributes:
        parameters: FAISS's search parameters.
        candidates: for ten results.
        recall: of the best ten, the mean over the queries.
        faster: how many times as fast as the exact search a single query is, with ranking the candidates.
    """

    parameters: str
    candidates: int
    recall: float
    faster: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was chosen, and why.

    Attributes:
        factory, parameters, candidates: the kind of index, and how it is searched.
        recall, held_out: with the queries tuned with, and with others.
        reached: whether the target is reached.
        queries: what was asked.
        curve: the measurements, in the order of the parameter.
    """

    factory: str
    parameters: str
    candidates: int
    recall: float
    held_out: float
    reached: bool
    queries: str
    curve: tuple[Point, ...]

    def facts(self) -> dict[str, Any]:
        """Return it as the manifest keeps it."""
        return asdict(self)


def tune(segment: Segment, kind: str, items: Items, factory: str, parameters: str, target: float) -> Tuned:
    """Choose search parameter and number of candidates of an approximate index, and set the parameter.

    Args:
        segment: a main segment, without indexes.
        kind: "videos" or "captions".
        items: these, with their approximate index.
        factory: what FAISS made.
        parameters: search parameters that are set and not to be changed, "" to choose.
        target: the recall of the best ten to reach, 0 to 1.
    """
    gallery = Gallery([items], [None])
    index: Any = items.approximate
    asked, said = _asked(segment, kind, gallery)
    truth = _truth(gallery, asked)
    split = len(truth) * QUERIES // (QUERIES + HELD_OUT) or len(truth)
    first, other = np.arange(split), np.arange(split, len(truth)) if split < len(truth) else np.arange(split)
    name, values = parameter(index)
    tried = [parameters] if parameters or not values else [f"{name}={value}" for value in values]
    depths = sorted({min(depth, len(items)) for depth in DEPTHS})
    exact = _seconds(lambda row: gallery.nearest(asked.flat[row : row + 1], min(100, len(items))), len(truth))

    def measure(setting: str, depth: int, rows: Rows) -> NDArray[np.float64]:
        set_parameters(index, setting)
        return _recalls(index.search(asked.flat[rows], depth)[1], truth[rows])

    def least_depth(setting: str) -> int:
        """Return the fewest candidates that reach the target, or that find about all this setting finds."""
        set_parameters(index, setting)
        found, right = index.search(asked.flat[first], depths[-1])[1], truth[first]
        most = _recalls(found, right)
        if _sure(most) < target:
            return next(d for d in depths if _recalls(found[:, :d], right).mean() >= most.mean() - NEGLIGIBLE)
        return next((d for d in depths if _sure(measure(setting, d, first)) >= target), depths[-1])

    curve: list[Point] = []
    for setting in tried:
        depth = least_depth(setting)
        recalls = measure(setting, depth, first)
        seconds = _seconds(lambda row, depth=depth: _one(gallery, asked, row, depth), len(truth))  # type: ignore[misc]
        curve.append(Point(setting, depth, float(recalls.mean()), exact / seconds))
        if _sure(recalls) >= target and measure(setting, depth, other).mean() >= target:
            break
    last = curve[-1]
    held_out = float(measure(last.parameters, last.candidates, other).mean())
    reached = last.recall >= target and held_out >= target
    return Tuned(factory, last.parameters, last.candidates, last.recall, held_out, reached, said, tuple(curve))


def _sure(recalls: NDArray[np.float64]) -> float:
    return float(recalls.mean() - SURE * recalls.std() / np.sqrt(len(recalls)))


def _recalls(found: Rows, truth: Rows) -> NDArray[np.float64]:
    """Return [Q]: the share of each query's true answers among its candidates."""
    there = [np.isin(right, some).mean() for some, right in zip(found, truth, strict=True)]
    return np.asarray(there, np.float64)


def _one(gallery: Gallery, asked: Asked, row: int, depth: int) -> None:
    """Search with one query, as it is done later."""
    candidates = gallery.candidates(asked.flat[row : row + 1], depth)
    if candidates is not None:
        candidate_scores(gallery, asked, np.asarray([row]), candidates)


def _seconds(search: Callable[[int], Any], queries: int) -> float:
    """Return the median time of some single searches."""
    times = []
    for row in range(min(TIMED, queries)):
        started = time.perf_counter()
        search(row)
        times.append(time.perf_counter() - started)
    return max(median(times), 1e-9)


def _asked(segment: Segment, kind: str, gallery: Gallery) -> tuple[Asked, str]:
    """Return queries like those that will come, and what they are."""
    draw = np.random.default_rng(SEED)
    by: Items = segment.videos if kind == CAPTIONS or not len(segment.captions) else segment.captions
    rows = np.sort(draw.choice(len(by), min(len(by), QUERIES + HELD_OUT), replace=False))
    rows = draw.permutation(rows)
    vectors, per_expert = Gallery([by], [None]).gather(rows)
    ids = ("",) * len(rows)
    if kind == CAPTIONS:
        return Clips(VideoEmbeddings(ids, vectors, per_expert), gallery), f"{len(rows)} of its videos"
    present = torch.zeros((0, gallery.experts), dtype=torch.float64)  # nothing is bounded here
    if len(segment.captions):
        return Words(TextEmbeddings(ids, vectors, per_expert), None, present), f"{len(rows)} of its captions"
    noise = torch.from_numpy(draw.standard_normal(vectors.shape).astype(np.float32))
    noise *= NOISE * vectors.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    even = torch.full(per_expert.shape, 1 / per_expert.shape[1])
    return Words(TextEmbeddings(ids, vectors + noise, even), None, present), f"{len(rows)} of its videos, with noise"


def _truth(gallery: Gallery, asked: Asked) -> Rows:
    """Return [Q, 10] the rows of the best by the score."""
    queries = np.arange(len(asked.flat))
    count = min(BEST, gallery.total)
    scores = np.full((len(queries), count), -np.inf, np.float32)
    best = np.zeros((len(queries), count), np.int64)
    for rows in (block[at : at + ROWS] for block in gallery.blocks() for at in range(0, len(block), ROWS)):
        some = np.concatenate([scores, asked.score(queries, *gallery.gather(rows))], axis=1)
        order = np.argpartition(-some, count - 1, axis=1)[:, :count]
        best = np.where(
            order < count, np.take_along_axis(best, np.minimum(order, count - 1), 1), rows[0] + order - count
        )
        scores = np.take_along_axis(some, order, axis=1)
    return best


def draw_curve(path: Path, tuned: Tuned, kind: str, target: float) -> None:
    """Write an SVG of recall against speed."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([p.faster for p in tuned.curve], [p.recall for p in tuned.curve], marker="o")
    for point in tuned.curve:
        label = point.parameters or f"{point.candidates} candidates"
        axes.annotate(label, (point.faster, point.recall), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axes.axhline(target, linestyle="--", linewidth=1, color="grey")
    axes.set(
        xscale="log",
        xlabel="times as fast as the exact search",
        ylabel=f"recall@{BEST}",
        title=f"{tuned.factory} of the {kind}",
    )
    figure.savefig(path, format="svg", metadata={"Date": None})


def describe(tuned: Tuned, kind: str, target: float) -> str:
    """Return what was found, in a sentence; also where the target is not reached."""
    last = tuned.curve[-1]
    how = f"{tuned.parameters}, " if tuned.parameters else ""
    text = f"{kind}: {tuned.factory} with {how}{tuned.candidates} candidates finds {100 * tuned.held_out:.1f} % of the "
    text += f"best {BEST}, {last.faster:.1f} times as fast as the exact search"
    if tuned.reached:
        return text
    return f"{text}; that is less than the target of {100 * target:g} %. Choose a finer --factory, or Flat."
