"""Ranks and metrics in vtr against the form that CE and MMT released: speed, and memory beyond the scores.

    .venv/bin/python benchmarks/metrics.py --write

Both sides rank the same random scores on the same machine, must find equal ranks, and are then timed in turn. Memory is
measured in fresh processes. Exits with 1 where a target is missed. `--write` writes benchmarks/metrics.md.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from losses_worker import machine, peak, restart_peak
from numpy.typing import NDArray
from page import GIB, MIB, Target, cpu, paragraph, verdicts
from torch.nn.functional import normalize

from vtr.evaluation.correspondence import Correspondence, Rows
from vtr.evaluation.metrics import evaluate_scores
from vtr.evaluation.ranks import Ranks, count_texts, count_videos
from vtr.evaluation.scores import EmbeddedScores
from vtr.files import write_text
from vtr.types import TextEmbeddings, VideoEmbeddings

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).with_suffix(".md")

VIDEOS, QUICK_VIDEOS, CAPTIONS = 2990, 300, 20
"""Videos, with --quick, and captions of each: the test part of MSR-VTT full, if it lacked no caption."""

EXPERTS, DIM = 7, 64
SHIFT = 3.0
"""Scores are standard normal, those of right pairs so much higher."""

T2V_FASTER, V2T_FASTER, EXTRA = 15.0, 8.0, 100 * MIB
RELEASED, OURS = "released", "ours"
TURNS = {RELEASED: 2, OURS: 3}

Matrix = NDArray[np.float32]
Result = TypeVar("Result")


def released_text_to_video(scores: Matrix) -> Ranks:
    """Return the rank of each text's video as the released code finds it: it sorts all rows, then looks for the place.

    Written anew from `t2v_metrics` of gabeur/mmt, `model/metric.py` (after CE, arXiv 1907.13487), with its steps.

    Args:
        scores: [C * V, V], the C texts of a video in successive rows.
    """
    texts = np.arange(len(scores))
    distances = -scores
    ordered = np.sort(distances, axis=1)
    own = distances[texts, _owners(scores)][:, np.newaxis]
    rows, places = np.where((ordered - own) == 0)
    if len(rows) == len(texts):
        return np.asarray(1.0 + places, np.float64)
    found = np.argwhere((ordered - own) == 0)
    starts = np.flatnonzero(np.diff(found[:, 0], prepend=-1))
    shared = np.diff(starts, append=len(found))
    return np.asarray(1.0 + np.add.reduceat(found[:, 1], starts) / shared, np.float64)


def released_video_to_text(scores: Matrix) -> Ranks:
    """Return the rank of each video's best caption as the released code finds it: a loop over videos and captions.

    Written anew from `v2t_metrics` of the same file, with its steps.

    Args:
        scores: [C * V, V], the C texts of a video in successive rows.
    """
    distances = -scores.T
    ranks = np.empty(len(distances))
    captions = len(scores) // len(distances)
    for video, row in enumerate(distances):
        ordered = np.sort(row)
        own = row[video * captions : (video + 1) * captions]
        ranks[video] = 1.0 + min(np.where((ordered - distance) == 0)[0].mean() for distance in own)
    return ranks


def _owners(scores: Matrix) -> Rows:
    num_texts, num_videos = scores.shape
    return np.repeat(np.arange(num_videos), num_texts // num_videos)


def random_scores(videos: int) -> Matrix:
    """Return [CAPTIONS * videos, videos] scores."""
    scores = np.random.default_rng(0).standard_normal((CAPTIONS * videos, videos), np.float32)
    scores[np.arange(len(scores)), _owners(scores)] += SHIFT
    return scores


Side = Callable[[Matrix], Ranks]
T2V, V2T, ALL = "text-to-video", "video-to-text", "both"
SIDES: dict[str, dict[str, Side]] = {
    T2V: {RELEASED: released_text_to_video, OURS: lambda scores: count_texts(scores, _owners(scores)).ranks()},
    V2T: {RELEASED: released_video_to_text, OURS: lambda scores: count_videos(scores, _owners(scores)).ranks()},
}

Times = dict[str, dict[str, float]]
"""Direction -> side -> seconds; under `ALL`, the released directions one after the other, and `evaluate_scores`."""

Memory = tuple[int, float]
"""Bytes at the peak beyond those before, and seconds."""


def measure_times(videos: int) -> Times:
    """Hold both sides to equal ranks, with many ties and with few, and return the least of their times in turn.

    Raises:
        ValueError: their ranks differ.
    """
    _check_equal(random_scores(50).round(1))
    scores = random_scores(videos)
    _check_equal(scores)
    took: dict[str, dict[str, list[float]]] = {what: {RELEASED: [], OURS: []} for what in (*SIDES, ALL)}
    for turn in range(max(TURNS.values())):
        for what, sides in SIDES.items():
            for name in (name for name in sides if turn < TURNS[name]):
                took[what][name].append(_timed(partial(sides[name], scores)))
        took[ALL][OURS].append(_timed(partial(evaluate_scores, scores, _owners(scores))))
    took[ALL][RELEASED] = [sum(turns) for turns in zip(*(took[what][RELEASED] for what in SIDES), strict=True)]
    return {what: {name: min(turns) for name, turns in sides.items()} for what, sides in took.items()}


def _check_equal(scores: Matrix) -> None:
    for what, sides in SIDES.items():
        released, ours = sides[RELEASED](scores), sides[OURS](scores)
        if not np.array_equal(released, ours):
            raise ValueError(f"{what} ranks of {scores.shape} scores differ: {released} and {ours}")


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure_matrix(videos: int) -> Memory:
    """Measure `evaluate_scores` of scores that are there."""
    scores = random_scores(videos)
    few = random_scores(8)
    evaluate_scores(few, _owners(few))  # loads the libraries
    return _extra(lambda: evaluate_scores(scores, _owners(scores)))


def measure_streamed(videos: int) -> Memory:
    """Measure `evaluate_scores` of embeddings whose scores are never there as a whole."""
    texts, gallery = random_embeddings(videos)
    right = Correspondence.of_captions(videos, CAPTIONS)
    few, few_right = random_embeddings(8), Correspondence.of_captions(8, CAPTIONS)
    evaluate_scores(EmbeddedScores(*few, few_right), few_right)
    return _extra(lambda: evaluate_scores(EmbeddedScores(texts, gallery, right), right))


def random_embeddings(videos: int) -> tuple[TextEmbeddings, VideoEmbeddings]:
    """Return embeddings of CAPTIONS * videos texts, and of the videos, some of which lack experts."""
    draw = torch.Generator().manual_seed(0)
    sizes = (CAPTIONS * videos, videos)
    texts, gallery = (normalize(torch.randn(size, EXPERTS, DIM, generator=draw), dim=-1) for size in sizes)
    weights = torch.randn(sizes[0], EXPERTS, generator=draw).softmax(1)
    present = (torch.rand(videos, EXPERTS, generator=draw) < 0.8).float()
    text_ids, video_ids = (tuple(map(str, range(size))) for size in sizes)
    return TextEmbeddings(text_ids, texts, weights), VideoEmbeddings(video_ids, gallery, present)


def _extra(run: Callable[[], object]) -> Memory:
    before = restart_peak("cpu")
    seconds = _timed(run)
    return peak("cpu") - before, seconds


MATRIX, STREAMED = "matrix", "streamed"
MEMORY = {MATRIX: measure_matrix, STREAMED: measure_streamed}


def main() -> int:
    """Measure, print the page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few scores: to try it out, its targets say nothing")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--no-check", action="store_true", help="only measure: exit with 0 though targets are missed")
    arguments = parser.parse_args()
    videos = QUICK_VIDEOS if arguments.quick else VIDEOS
    memory, times = measure(videos)
    targets = compare(memory, times)
    ending = ["## Targets", "", *verdicts(targets), ""]
    page = "\n".join([*_head(videos), *_speed(times), *_memory(memory, videos), *ending])
    print(page)
    if arguments.write:
        write_text(PAGE, page)
        print(f"written to {PAGE}")
    return 0 if arguments.no_check or all(target.met for target in targets) else 1


def brief() -> list[Target]:
    """Return the targets, at the page's sizes."""
    return compare(*measure(VIDEOS))


def measure(videos: int) -> tuple[dict[str, Memory], Times]:
    """Return memory and times of so many videos, each from a fresh process."""
    memory = {what: _in_fresh_process(measured, videos) for what, measured in MEMORY.items()}
    return memory, _in_fresh_process(measure_times, videos)


def compare(memory: dict[str, Memory], times: Times) -> list[Target]:
    """Return the targets."""
    return [
        _faster(T2V, times, T2V_FASTER),
        _faster(V2T, times, V2T_FASTER),
        _within("`evaluate_scores` beyond the scores", memory[MATRIX][0]),
        _within("`evaluate_scores` of embeddings, in blocks, beyond the embeddings", memory[STREAMED][0]),
    ]


def _in_fresh_process(measure: Callable[[int], Result], videos: int) -> Result:
    print(f"--- {measure.__name__}", file=sys.stderr, flush=True)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(measure, videos).result()


def _head(videos: int) -> list[str]:
    """Return the page's opening: what was measured, where, when, how."""
    given, found = " ".join(sys.argv[1:]), machine()
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return [
        "# Metrics: ranks in both directions",
        "",
        f"`.venv/bin/python benchmarks/metrics.py{' ' * bool(given)}{given}` made it on {today}.",
        "",
        *paragraph(
            f"{cpu()}, {found['threads']} threads, {found['memory'] / GIB:.0f} GiB; numpy {np.__version__}, torch "
            f"{found['torch']}, Python {platform.python_version()}. {CAPTIONS * videos:,} texts, {CAPTIONS} of each of "
            f"{videos:,} videos; scores are float32, standard normal, those of right pairs {SHIFT:g} higher."
        ),
        "",
    ]


def _speed(times: Times) -> list[str]:
    sides = {what: (took[RELEASED], took[OURS]) for what, took in times.items()}
    return [
        "## Speed",
        "",
        *paragraph(
            "Released: ranks as the code of CE and MMT finds them, in one thread as there: all rows are sorted, and "
            "the right answers looked up by a subtraction; video-to-text, a loop over videos and their captions. Ours: "
            "`count_texts(...).ranks()` and `count_videos(...).ranks()`; in the last row all of `evaluate_scores`, "
            "whose nDCG and mAP over all captions the released code does not compute, against the released directions "
            f"one after the other. Times are the least of {TURNS[RELEASED]} turns (released) and {TURNS[OURS]} (ours), "
            "those of the single directions after one that is not counted, in which ranks were equal, as in a small "
            "case with many ties."
        ),
        "",
        "| | released | ours | released / ours |",
        "|---|---:|---:|---:|",
        *(f"| {what} | {_time(slow)} | {_time(fast)} | {slow / fast:.1f} |" for what, (slow, fast) in sides.items()),
        "",
    ]


def _memory(memory: dict[str, Memory], videos: int) -> list[str]:
    size = f"{4 * CAPTIONS * videos**2 / MIB:,.0f} MiB"
    extra = {what: f"{bytes_ / MIB:,.0f} MiB" for what, (bytes_, _) in memory.items()}
    return [
        "## Memory",
        "",
        *paragraph(
            f"`evaluate_scores` of a matrix: at its peak {extra[MATRIX]} beyond the scores, which take {size}. Of "
            f"`EmbeddedScores`, {EXPERTS} experts of {DIM} dimensions, which are multiplied in float64 a block of "
            f"texts at a time: {extra[STREAMED]} beyond the embeddings, in {_time(memory[STREAMED][1])}; "
            f"{8 * videos * EXPERTS * DIM / MIB:,.0f} MiB of it are the videos' vectors in float64, 8 bytes a number."
        ),
        "",
    ]


def _time(seconds: float) -> str:
    unit, scale = ("ms", 1e3) if seconds < 1 else ("s", 1)
    return f"{seconds * scale:.3g} {unit}"


def _faster(what: str, times: Times, least: float) -> Target:
    ratio = times[what][RELEASED] / times[what][OURS]
    return Target(f"{what} ranks: time released / ours", f"{ratio:.1f}", f">= {least:g}", ratio >= least)


def _within(what: str, extra: int) -> Target:
    return Target(f"memory of {what}", f"{extra / MIB:,.0f} MiB", f"< {EXTRA / MIB:.0f} MiB", extra < EXTRA)


if __name__ == "__main__":
    sys.exit(main())
