"""The server under load against the calls it makes: queries a second, latencies, memory, and its own overhead.

    .venv/bin/python benchmarks/serving.py RUN [--clients 16] [--seconds 60]

A server over RUN answers clients that ask one query after the other, in a process of their own. Before and after it,
a bare process makes the calls that the server makes: `Retriever.search` with as many queries at once as the server's
batches had on average, in one thread. The server's overhead is

    (time per query in the server, wall / queries answered) / (time per query in the bare calls) - 1

at saturation. All have the same number of threads for torch and FAISS: one core is left to the clients. Memory is the
server's resident set after the warm-up and at the end.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page import MIB, Target, call, cpu, paragraph, verdicts
from serving_worker import MOST_QUERIES, Job

from vtr.files import write_text

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).with_name("serving_worker.py")
MOST_OVERHEAD = 0.20
MOST_GROWTH = 0.05
BRIEF_SECONDS, BRIEF_VIDEOS = 15.0, 3_000


@dataclass(frozen=True)
class Load:
    """What clients saw, and what it did to the server."""

    answered: int
    errors: list[str]
    seconds: float
    p50: float
    p95: float
    batch: float
    cpu_seconds: float
    start_bytes: float
    end_bytes: float


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        gallery: what was searched.
        loads: the server, twice.
        bares: bare calls, twice.
        plain: bare calls without details.
        batch: queries of a bare call.
    """

    gallery: str
    loads: list[Load]
    bares: list[dict[str, Any]]
    plain: dict[str, Any]
    batch: int

    @property
    def per_bare(self) -> list[float]:
        """Seconds of a query in the bare calls."""
        return [one["seconds"] / one["queries"] for one in self.bares]

    @property
    def per_served(self) -> list[float]:
        """Seconds of a query in the server."""
        return [load.seconds / load.answered for load in self.loads]

    def targets(self) -> list[Target]:
        """Return the targets."""
        overhead = float(np.mean(self.per_served) / np.mean(self.per_bare)) - 1
        growth = max(load.end_bytes / load.start_bytes for load in self.loads) - 1
        errors = sum(len(load.errors) for load in self.loads)
        return [
            Target("errors", f"{errors}", "0", errors == 0),
            Target("the server's own overhead", f"{overhead:.1%}", f"< {MOST_OVERHEAD:.0%}", overhead < MOST_OVERHEAD),
            Target("growth of memory", f"{growth:.1%}", f"< {MOST_GROWTH:.0%}", growth < MOST_GROWTH),
        ]


class Server:
    """`vtr serve` over a run, on a free port."""

    def __init__(self, run: str) -> None:
        command = [sys.executable, "-m", "vtr.cli", "serve", run, "--port", "0"]
        self._process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self.port = 0
        assert self._process.stderr is not None
        for line in self._process.stderr:
            print(line, end="", file=sys.stderr)
            if found := re.search(r":(\d+) \(Ctrl-C ends\)", line):
                self.port = int(found[1])
                return
        raise SystemExit("the server did not start")

    def metric(self, name: str) -> float:
        """Return one of its metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        if self._process.wait(60) != 0:
            raise SystemExit(f"the server ended with {self._process.returncode}")


def main() -> int:
    """Measure, write benchmarks/serving.md; return 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a trained run")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("-k", type=int, default=24, help="results of each query")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    threads = limit_threads()
    found = measure(str(Path(arguments.run).resolve()), arguments.clients, arguments.seconds, arguments.k)
    targets = found.targets()
    errors = [f"- {error}" for load in found.loads for error in load.errors[:5]]
    page = "\n".join([*head(arguments, found.gallery, threads), *table(found), "", *verdicts(targets), "", *errors, ""])
    write_text(arguments.out, page)
    print(page)
    return int(any(target.met is False for target in targets))


def brief() -> list[Target]:
    """Return the targets, of a run that is made here and for a shorter time than the page's."""
    limit_threads()
    with tempfile.TemporaryDirectory() as folder:
        run = _call(Job("make", folder, videos=BRIEF_VIDEOS))["run"]
        found = measure(run, 16, BRIEF_SECONDS, 24)
    return [replace(one, what=f"{one.what}, {found.gallery}, for {BRIEF_SECONDS:g} s") for one in found.targets()]


def limit_threads() -> int:
    """Have the processes to come run this code, one core left to the clients; return how many threads they have."""
    threads = max(1, (os.cpu_count() or 1) - 1)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ |= {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(paths)}
    return threads


def measure(run: str, clients: int, seconds: float, k: int) -> Measured:
    """Measure the server and the bare calls in turn."""
    asked = _call(Job("queries", run))
    load = under_load(run, asked["queries"], clients, seconds, k)
    batch = max(1, round(load.batch))
    job = Job("bare", run, min(seconds, 20.0), k=k, batch=batch, queries=asked["queries"])
    bares = [_call(job)]
    again = under_load(run, asked["queries"], clients, seconds, k)
    bares.append(_call(job))
    return Measured(asked["gallery"], [load, again], bares, _call(replace(job, details=False)), batch)


def under_load(run: str, queries: list[str], clients: int, seconds: float, k: int) -> Load:
    """Return what a fresh server does under load, after a warm-up."""
    server = Server(run)
    try:
        _call(Job("clients", seconds=0, least=len(queries), k=k, port=server.port, clients=clients, queries=queries))
        names = (
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "vtr_batch_size_count",
            "vtr_batch_size_sum",
        )
        before = [server.metric(name) for name in names]
        seen = _call(Job("clients", seconds=seconds, k=k, port=server.port, clients=clients, queries=queries))
        time.sleep(0.5)
        after = [server.metric(name) for name in names]
    finally:
        server.stop()
    p50, p95 = np.percentile(seen["latencies"], [50, 95])
    batch = (after[3] - before[3]) / max(1.0, after[2] - before[2])
    answered = len(seen["latencies"])
    return Load(answered, seen["errors"], seen["seconds"], p50, p95, batch, after[1] - before[1], before[0], after[0])


def table(found: Measured) -> list[str]:
    """Return the page's tables, but for the targets."""
    lines = ["| server | queries/s | p50 | p95 | mean batch | errors | memory after warm-up | at the end |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|"]
    for number, load in enumerate(found.loads, 1):
        lines.append(
            f"| run {number} | {load.answered / load.seconds:.1f} | {load.p50 * 1e3:.0f} ms | "
            f"{load.p95 * 1e3:.0f} ms | {load.batch:.1f} | {len(load.errors)} | {load.start_bytes / MIB:.0f} MiB | "
            f"{load.end_bytes / MIB:.0f} MiB |"
        )
    cpu_bare = sum(one["cpu_seconds"] for one in found.bares) / sum(one["queries"] for one in found.bares)
    cpu_served = sum(load.cpu_seconds for load in found.loads) / sum(load.answered for load in found.loads)
    bare, served = float(np.mean(found.per_bare)), float(np.mean(found.per_served))
    without = found.plain["seconds"] / found.plain["queries"]
    return [
        *lines,
        "",
        f"| per query, {found.batch} at once | wall | of it bare |",
        "|---|---:|---:|",
        f"| model and FAISS alone, no details | {without * 1e3:.2f} ms | {without / bare:.2f} |",
        f"| bare calls, with details ({_spread(found.per_bare)}) | {bare * 1e3:.2f} ms | 1 |",
        f"| server ({_spread(found.per_served)}) | {served * 1e3:.2f} ms | {served / bare:.2f} |",
        f"| CPU time: server / bare calls | {cpu_served * 1e3:.2f} / {cpu_bare * 1e3:.2f} ms | "
        f"{cpu_served / cpu_bare:.2f} |",
    ]


def head(arguments: argparse.Namespace, gallery: str, threads: int) -> list[str]:
    """Return the page's opening: what was measured, where, when, how."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    said = " ".join([Path(arguments.run).name, *sys.argv[2:]])
    return [
        "# The server under load",
        "",
        f"`.venv/bin/python benchmarks/serving.py {said}` made it on {today}.",
        "",
        *paragraph(
            f"{cpu()}, {os.cpu_count()} cores; torch {torch.__version__}, Python {platform.python_version()}; "
            f"gallery: {gallery}. {arguments.clients} clients in a process of their own, each one query after the "
            f"other for {arguments.seconds:g} s, {arguments.k} results with moments, shares and snippets; queries are "
            f"{MOST_QUERIES} captions of the gallery. Server and bare calls have {threads} thread(s) for torch and "
            "FAISS, were asked each query once before, and were measured in turn."
        ),
        "",
        *paragraph(
            "The server's overhead is its wall time per query at saturation over that of bare calls of "
            "`Retriever.search` with as many queries at once as its batches had on average, less 1."
        ),
        "",
    ]


def _spread(values: list[float]) -> str:
    return ", ".join(f"{value * 1e3:.2f}" for value in values)


def _call(job: Job) -> dict[str, Any]:
    answer = call(WORKER, job)
    if "failed" in answer:
        raise SystemExit(f"{job.kind}: {answer['failed']}")
    return answer


if __name__ == "__main__":
    sys.exit(main())
