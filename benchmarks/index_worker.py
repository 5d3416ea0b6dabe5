"""Does one job of `benchmarks/index.py` in a process of its own, and prints its result as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from vtr.coverage import Coverage
from vtr.embeddings import EmbeddedPart, PartFiles, save_parts
from vtr.index.build import build_index
from vtr.index.layout import read_state
from vtr.index.search import RetrievalIndex
from vtr.types import TextEmbeddings, VideoEmbeddings

PIECE, SUBJECTS, CLUSTERS = 50_000, 50, 5_000
TUNING_TEXTS, TIMED, BATCH = 1000, 200, 256


@dataclass(frozen=True)
class Job:
    """What to do: "embed", "build" or "search"."""

    kind: str
    folder: str
    count: int
    dim: int
    memory: int
    factory: str = "Flat"


def vectors(job: Job, count: int, seed: int) -> NDArray[np.float32]:
    """Return unit vectors about centres, which lie about subjects; all seeds share them.

    A third of a vector's square is its subject's, a third its centre's and a third its own, so the cosine of two is 2/3
    about one centre, 1/3 about one subject, and 0 else. Dimensions fall off in size, as those of real embeddings do.
    """
    clusters, shared = min(CLUSTERS, job.count // 20), np.random.default_rng(0)
    centres = shared.standard_normal((clusters, job.dim), np.float32)
    centres += shared.standard_normal((SUBJECTS, job.dim), np.float32)[shared.integers(SUBJECTS, size=clusters)]
    draw = np.random.default_rng(seed)
    found = centres[draw.integers(clusters, size=count)] + draw.standard_normal((count, job.dim), np.float32)
    found *= np.arange(1, job.dim + 1, dtype=np.float32) ** -0.5
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def texts(rows: NDArray[np.float32], name: str) -> TextEmbeddings:
    """Return vectors as texts of one expert."""
    ids = tuple(f"{name}{row}" for row in range(len(rows)))
    return TextEmbeddings(ids, torch.from_numpy(rows)[:, None], torch.ones((len(rows), 1)))


def embed(job: Job) -> dict[str, Any]:
    """Write the embeddings, some at a time; the first piece has captions to tune with."""

    def pieces() -> Iterator[EmbeddedPart]:
        for number, at in enumerate(range(0, job.count, PIECE)):
            rows = vectors(job, min(PIECE, job.count - at), 1 + number)
            ids = tuple(f"v{at + row}" for row in range(len(rows)))
            asked = texts(vectors(job, TUNING_TEXTS if not number else 0, 999), "t")
            yield EmbeddedPart(
                ("clip",),
                VideoEmbeddings(ids, torch.from_numpy(rows)[:, None], torch.ones((len(rows), 1))),
                asked,
                asked.ids,
                np.zeros(len(asked.ids), np.int64),
                Coverage("full", "test", job.count, job.count),
            )

    save_parts(Path(job.folder) / "embeddings", pieces(), Coverage("full", "test", job.count, job.count), inputs={})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    threads = len(os.sched_getaffinity(0))
    return {"threads": threads, "memory": memory, "faiss": faiss.__version__, "torch": torch.__version__}


def build(job: Job) -> dict[str, Any]:
    """Build an index from the files, and watch the memory that is not of mapped files."""
    source = PartFiles.open(Path(job.folder) / "embeddings")
    place = _place(job)
    with watched() as peak:
        started = time.perf_counter()
        build_index(place, source, embed_output=source.output, factory=job.factory, memory_limit=job.memory)
        seconds = time.perf_counter() - started
    state = read_state(place)
    chosen = state.kinds["videos"]
    return {
        "seconds": seconds,
        "peak": peak(),
        "bytes": sum(facts["bytes"] for facts in state.files.values()),
        "parameters": chosen["parameters"],
        "candidates": chosen.get("candidates", ""),
    }


@contextlib.contextmanager
def watched() -> Iterator[Callable[[], int]]:
    """Watch the process's anonymous memory; yield what returns its peak beyond that at the start."""
    before, most, done = _anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], _anonymous() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: most[0]
    finally:
        done.set()
        thread.join()


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def search(job: Job) -> dict[str, Any]:
    """Time an index, beside Flat in turn, with queries that tuning never saw."""
    asked = vectors(job, TIMED, 4242)
    started = time.perf_counter()
    index = RetrievalIndex.open(_place(job))
    index.videos_for(texts(asked[:1], "q"), 10)
    opened = time.perf_counter() - started
    flat = RetrievalIndex.open(Path(job.folder) / "Flat")
    exact = flat.videos_for(texts(asked, "q"), 10).rows
    found = index.videos_for(texts(asked, "q"), 10).rows
    recall = float(np.mean([np.isin(right, rows).mean() for right, rows in zip(exact, found, strict=True)]))
    ours, theirs = [], []
    for row in range(len(asked)):
        query = texts(asked[row : row + 1], "q")
        ours.append(_seconds(lambda query=query: index.videos_for(query, 10)))  # type: ignore[misc]
        if row % 5 == 0:
            theirs.append(_seconds(lambda query=query: flat.videos_for(query, 10)))  # type: ignore[misc]
    result = {"open": opened, "recall": recall, "faster": statistics.median(theirs) / statistics.median(ours)}
    return result | (_sides(flat, asked) if job.factory == "Flat" else {})


def _sides(flat: RetrievalIndex, asked: NDArray[np.float32]) -> dict[str, Any]:
    """Time Flat, FAISS's own index, torch and numpy in turn, one query and a batch."""
    held = np.array(flat.part.videos.vectors.flatten(1).numpy())
    theirs: Any = faiss.IndexFlatIP(held.shape[1])
    theirs.add(held)
    tensor = torch.from_numpy(held)

    def by_numpy(queries: NDArray[np.float32]) -> Any:
        scores = queries @ held.T
        best = np.argpartition(-scores, 10, axis=1)[:, :10]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)

    sides: dict[str, Callable[[NDArray[np.float32]], Any]] = {
        "vtr": lambda queries: flat.videos_for(texts(queries, "q"), 10),
        "faiss": lambda queries: theirs.search(queries, 10),
        "torch": lambda queries: (torch.from_numpy(queries) @ tensor.T).topk(10),
        "numpy": by_numpy,
    }
    times: dict[str, dict[str, list[float]]] = {}
    for name, size, turns in (("single", 1, 15), ("batch", min(BATCH, len(asked)), 3)):
        times[name] = {side: [] for side in sides}
        for turn in range(turns):
            queries = np.ascontiguousarray(asked[:size] if size > 1 else asked[turn : turn + 1])
            for side, run in sides.items():
                times[name][side].append(_seconds(lambda run=run, queries=queries: run(queries)))  # type: ignore[misc]
    found = {name: {side: statistics.median(t) for side, t in of.items()} for name, of in times.items()}
    return found | {"batch_size": min(BATCH, len(asked))}


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _place(job: Job) -> Path:
    return Path(job.folder) / job.factory.replace(",", "-")


def main() -> None:
    """Do the job in the first argument."""
    job = Job(**json.loads(sys.argv[1]))
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    result = {"embed": embed, "build": build, "search": search}[job.kind](job)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
