"""One job of benchmarks/models.py in a process of its own: reads it as JSON from its argument, prints JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from losses_worker import machine, peak, restart_peak
from torch import Tensor
from torch.nn.functional import normalize

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from models_data import HELD_BY, SIZES, Sizes, caption_lengths, make_videos, write_released, write_store
from plain_cases import as_texts, as_videos, random_captions, vtr_model
from plain_loader import read_videos
from plain_weights import random_weights
from stacked_mmt import StackedMMT, stacked_max_margin, stacked_similarities

from vtr.data.features import FeatureChoice, FeatureTable
from vtr.losses import MaxMarginRankingLoss
from vtr.models.mmt import MMT
from vtr.optimiser_config import OptimiserConfig
from vtr.similarity import score_matrix
from vtr.store.reader import FeatureStore
from vtr.training.embedding import embed_texts, embed_videos
from vtr.training.optimiser import make_optimiser
from vtr.types import Batch, Caption, TextBatch, TextEmbeddings, VideoEmbeddings

MARGIN, RATE, DROPOUT = 0.05, 5e-5, 0.1
RELEASED, OURS = "released", "ours"
LOADED_BATCHES = 10
"""Batches a side loads before it is the other's turn."""


@dataclass
class Job:
    """What to do.

    Attributes:
        kind: "machine", "step", "loading", "embedding" or "similarity".
        device: "cpu" or "cuda".
        sizes: a key of `SIZES`.
        repeats: turns of each side.
    """

    kind: str
    device: str = "cpu"
    sizes: str = "full"
    repeats: int = 3


def in_turn(sides: dict[str, Callable[[], object]], repeats: int, device: str = "cpu") -> dict[str, list[float]]:
    """Return the seconds of each side, run in turn, after one turn that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, run in sides.items():
            seconds[name].append(_timed(run, device))
    return {name: took[1:] for name, took in seconds.items()}


def _timed(run: Callable[[], object], device: str = "cpu") -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure_step(job: Job, sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Time a training step of each side, from a batch on the device to the updated weights."""
    paths = write_released(folder / "mult_h5", make_videos(sizes.batch, sizes.dims))
    videos = read_videos(paths, sizes.dims)
    captions = random_captions(
        caption_lengths(sizes.batch), np.random.default_rng(0), int(sizes.text_bert["vocab_size"])
    )
    batch = Batch(as_videos(videos), as_texts(*captions)).to(job.device)
    videos, captions = videos.to(job.device), (captions[0].to(job.device), captions[1].to(job.device))
    weights = random_weights(sizes.dims, sizes.text_bert, **sizes.model)
    how = {"heads": sizes.heads, "keep_missing": False, "dropout": DROPOUT}
    plain = StackedMMT(weights, sizes.text_bert, **how)
    plain.to(job.device)
    ours = vtr_model(weights, folder, sizes.text_bert, **how).to(job.device)
    reduced = job.device == "cuda"
    with torch.no_grad():
        expected = plain.scores(videos, *captions)
        difference = (ours(batch) - expected).abs().max().item()
        with torch.autocast(job.device, torch.bfloat16, enabled=reduced):
            rough = (ours(batch) - expected).abs().max().item()
    plain.train()
    optimiser = torch.optim.Adam(plain.parameters().values(), lr=RATE)

    def released_step() -> float:
        optimiser.zero_grad()
        loss = stacked_max_margin(plain.scores(videos, *captions), MARGIN)
        loss.backward()
        optimiser.step()
        return loss.item()

    sides = {RELEASED: released_step, OURS: partial(our_step(ours, job.device, reduced=reduced), batch)}
    return {"batch": sizes.batch, "difference": difference, "reduced": rough, **in_turn(sides, job.repeats, job.device)}


def our_step(model: MMT, device: str, *, reduced: bool) -> Callable[[Batch], float]:
    """Return what does a training step on a batch, in bfloat16 under autocast if `reduced`, and returns the loss."""
    model.train()
    optimiser, criterion = make_optimiser(OptimiserConfig(learning_rate=RATE), model), MaxMarginRankingLoss(MARGIN)

    def step(batch: Batch) -> float:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=reduced):
            scores = model(batch)
        loss = criterion(scores.float())
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def measure_loading(job: Job, sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Time batches of random videos with randomly chosen features: from their files, and from a table in memory."""
    videos = make_videos(sizes.loaded, sizes.dims)
    paths = write_released(folder / "mult_h5", videos)
    write_store(folder / "store", videos, sizes.dims)
    ids = list(videos)
    del videos
    store, tables = FeatureStore(folder / "store"), []
    choice = FeatureChoice(selection="mmt")
    once = _timed(lambda: tables.append(FeatureTable.load(store, ids, list(sizes.dims), choice)))
    (table,) = tables
    difference = max(_loaded_difference(table, paths, at, sizes) for at in range(0, len(ids), sizes.batch))
    draw, old_draw = np.random.default_rng(0), np.random.RandomState(0)

    def released() -> None:
        for _ in range(LOADED_BATCHES):
            rows = draw.choice(len(ids), sizes.batch, replace=False)
            read_videos([paths[row] for row in rows], sizes.dims, draw=old_draw)

    def ours() -> None:
        for _ in range(LOADED_BATCHES):
            table.batch(draw.choice(len(ids), sizes.batch, replace=False).tolist(), draw)

    seconds = in_turn({RELEASED: released, OURS: ours}, job.repeats)
    each = {name: [took / LOADED_BATCHES for took in turns] for name, turns in seconds.items()}
    return {"difference": difference, "batch": sizes.batch, "videos": len(ids), "once": once, **each}


def _loaded_difference(table: FeatureTable, paths: list[Path], at: int, sizes: Sizes) -> float:
    """Return the largest difference of a batch as evaluation loads it; infinite where shapes or masks differ."""
    rows = range(at, min(at + sizes.batch, len(paths)))
    ours, released = table.batch(rows), as_videos(read_videos([paths[row] for row in rows], sizes.dims))
    largest = 0.0
    for name, expert in ours.experts.items():
        other = released.experts[name]
        if not torch.equal(expert.mask, other.mask) or not torch.equal(expert.aggregate, other.aggregate):
            return float("inf")
        seconds = (expert.mid_seconds.nan_to_num(-9) - other.mid_seconds.nan_to_num(-9)).abs().max().item()
        largest = max(largest, seconds, (expert.values - other.values).abs().max().item())
    return largest


class RandomCaptions:
    """Random captions, batched as `vtr.data.texts.CaptionTable` batches tokens."""

    def __init__(self, count: int, vocabulary: int) -> None:
        lengths = caption_lengths(count)
        self.ids, self.mask = random_captions(lengths, np.random.default_rng(0), vocabulary)
        self.captions = tuple(Caption(str(at), "video", "a " * length) for at, length in enumerate(lengths))

    def batch(self, rows: list[int]) -> TextBatch:
        """Return a batch of the captions at `rows`, cut to the longest."""
        return as_texts(self.ids[rows], self.mask[rows])


def random_table(videos: int, sizes: Sizes) -> FeatureTable:
    """Return a table of random features in memory."""
    features = make_videos(videos, sizes.dims)
    by_expert = {name: {i: video[name] for i, video in features.items() if name in video} for name in sizes.dims}
    return FeatureTable(list(features), by_expert, sizes.dims)


def random_model(sizes: Sizes, folder: Path) -> MMT:
    """Return our model with random weights; those of its text encoder go through `folder`."""
    weights = random_weights(sizes.dims, sizes.text_bert, **sizes.model)
    return vtr_model(weights, folder, sizes.text_bert, heads=sizes.heads, keep_missing=False)


def measure_embedding(job: Job, sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Time our model's embedding of videos and captions: on a CPU a sample, on a GPU as many as there are."""
    num_videos, num_texts = sizes.sampled if job.device == "cpu" else (sizes.videos, sizes.texts)
    table = random_table(num_videos, sizes)
    captions: Any = RandomCaptions(num_texts, int(sizes.text_bert["vocab_size"]))
    model = random_model(sizes, folder).to(job.device)
    device = torch.device(job.device)
    embed_videos(model, table, range(8), device)
    embed_texts(model, captions, list(range(8)), device)
    return {
        "videos": num_videos,
        "texts": num_texts,
        "all": [sizes.videos, sizes.texts],
        "video_seconds": _timed(lambda: embed_videos(model, table, range(num_videos), device)),
        "text_seconds": _timed(lambda: embed_texts(model, captions, list(range(num_texts)), device)),
    }


def measure_similarity(job: Job, sizes: Sizes, _: Path) -> dict[str, Any]:
    """Measure the scores of all texts and videos, and of some texts in both forms; on the CPU, as vtr computes them."""
    texts, videos = random_embeddings(sizes)
    few, some = first(texts, sizes.released_texts), first(texts, 8)
    score_matrix(some, videos)  # loads the libraries
    extra, seconds = _extra(lambda: score_matrix(texts, videos))
    sides = {
        RELEASED: lambda: stacked_similarities(few.vectors, few.weights, videos.vectors, videos.present),
        OURS: lambda: score_matrix(few, videos),
    }
    return {
        "difference": (sides[RELEASED]() - sides[OURS]()).abs().max().item(),
        "texts": sizes.texts,
        "videos": sizes.videos,
        "few": sizes.released_texts,
        "experts": len(sizes.dims),
        "seconds": seconds,
        "extra": extra,
        "result": 4 * sizes.texts * sizes.videos,
        "few_extra": {name: _extra(run)[0] for name, run in sides.items()},
        **in_turn(sides, job.repeats),
    }


def first(texts: TextEmbeddings, count: int) -> TextEmbeddings:
    """Return the first texts."""
    return TextEmbeddings(texts.ids[:count], texts.vectors[:count], texts.weights[:count])


def random_embeddings(sizes: Sizes) -> tuple[TextEmbeddings, VideoEmbeddings]:
    """Return random embeddings of texts, and of videos that lack experts."""
    torch.manual_seed(0)
    experts, dim = len(sizes.dims), sizes.model["dim"]
    held = torch.tensor([HELD_BY.get(name, 1.0) for name in sizes.dims])
    vectors = [normalize(torch.randn(count, experts, dim), dim=-1) for count in (sizes.texts, sizes.videos)]
    ids = [tuple(map(str, range(count))) for count in (sizes.texts, sizes.videos)]
    weights = torch.randn(sizes.texts, experts).softmax(1)
    present = (torch.rand(sizes.videos, experts) < held).float()
    return TextEmbeddings(ids[0], vectors[0], weights), VideoEmbeddings(ids[1], vectors[1], present)


def _extra(run: Callable[[], Tensor]) -> tuple[int, float]:
    """Return the bytes at the peak beyond those before and the result, and the seconds."""
    before = restart_peak("cpu")
    started = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - started
    return peak("cpu") - before - result.nbytes, seconds


JOBS = {
    "step": measure_step,
    "loading": measure_loading,
    "embedding": measure_embedding,
    "similarity": measure_similarity,
}


def main() -> None:
    """Do the job in the first argument."""
    job = Job(**json.loads(sys.argv[1]))
    if job.kind == "machine":
        print(json.dumps(machine()))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(JOBS[job.kind](job, SIZES[job.sizes], Path(folder))))


if __name__ == "__main__":
    main()
