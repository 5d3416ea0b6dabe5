"""Time and memory of the unified loss against other ways to compute it and other losses; writes benchmarks/losses.md.

    .venv/bin/python benchmarks/losses.py

Forward and backward in float32 from embeddings [B, 512] to their gradients. Memory is measured in a fresh process for
each loss, time in one process for each B that runs the losses in turn, again and again. Exits with 1 where a target is
missed. CircleLoss and MultiSimilarityLoss come with the extra `bench`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from losses_worker import CANDIDATES, COMPILED, CROSS_ENTROPY, DIM, EMBEDDINGS, NAIVE, OTHER_LOSSES, SCORES, Job
from page import GIB, MIB, NO_GPU, Target, cpu, failed, verdicts

from vtr.files import write_text

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).with_name("losses_worker.py")
SIZES = (128, 512, 4096, 16384, 65536)
TARGET_SIZES = (128, 4096, 16384, 65536)
"""Those that a target names."""

ONCE = 32768
"""From this B on, the page runs a loss once on a CPU."""

NOT_TRIED = "not tried"


@dataclass
class Figure:
    """What was measured of one loss at one B.

    Attributes:
        median, least: seconds.
        repeats: how many times it ran; 1 is the run that measured memory.
        memory: bytes at the peak beyond those before the step.
        failed: why there is nothing, or "".
    """

    median: float = float("nan")
    least: float = float("nan")
    repeats: int = 0
    memory: float = float("nan")
    failed: str = ""


Figures = dict[tuple[str, int], Figure]


def main() -> int:
    """Measure, write the page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="batch sizes B, comma-separated")
    parser.add_argument("--repeats", type=int, default=5, help="runs at B = 4096; more at smaller B, 3 at least")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: the CPU and any GPU")
    parser.add_argument("--out", type=Path, default=WORKER.with_name("losses.md"), help="the page to write")
    parser.add_argument("--no-check", action="store_true", help="only measure: exit with 0 though targets are missed")
    arguments = parser.parse_args()
    machine = _call(Job("machine"))
    devices = [arguments.device] if arguments.device != "auto" else _devices(machine)
    pages, targets = [], []
    for device in devices:
        figures = measure(arguments.sizes, arguments.repeats, device)
        facts = _call(Job("facts", device=device))
        found = [*ratios(figures, arguments.sizes, arguments.repeats, device), *of_facts(facts)]
        pages.append(section(device, figures, found, facts))
        targets += found
    page = "\n".join([*head(machine), *pages])
    write_text(arguments.out, page)
    print(page)
    print(f"written to {arguments.out}")
    missed = [target for target in targets if target.met is False]
    return 1 if missed and not arguments.no_check else 0


def brief() -> list[Target]:
    """Return the targets, at the sizes they are meant for; what is large is run once."""
    targets, devices = [], _devices(_call(Job("machine")))
    for device in devices:
        figures = measure(TARGET_SIZES, 3, device, [name for name in CANDIDATES if name != COMPILED], once=16384)
        found = [*ratios(figures, TARGET_SIZES, 3, device), *of_facts(_call(Job("facts", device=device)))]
        targets += [replace(one, what=f"on a GPU, {one.what}") for one in found] if device == "cuda" else found
    absent = Target("the same on a GPU", "", "the same", None, NO_GPU)
    return targets if "cuda" in devices else [*targets, absent]


def _devices(machine: dict[str, Any]) -> list[str]:
    return ["cpu", *["cuda"] * bool(machine.get("gpu"))]


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(","))


def _call(job: Job) -> dict[str, Any]:
    """Run a job in a fresh process; {"failed": why} where it died."""
    words = f"{job.kind} B={job.size} {', '.join(job.names)}" if job.names else job.kind
    print(f"--- {job.device}: {words}", file=sys.stderr, flush=True)
    command = [sys.executable, str(WORKER), json.dumps(asdict(job))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        result: dict[str, Any] = json.loads(lines[-1])
        return result
    said = done.stderr.strip().splitlines()
    return {"failed": "killed, out of memory" if done.returncode == -9 else said[-1][:150] if said else "died"}


def measure(
    sizes: Iterable[int], repeats: int, device: str, names: Sequence[str] = tuple(CANDIDATES), once: int = ONCE
) -> Figures:
    """Return the figures of losses at all B: memory first, and time of those that survive it.

    Args:
        names: the losses.
        once: from this B on, a CPU runs a loss once, in the process that measures its memory.
    """
    figures: Figures = {}
    for size in sizes:
        for name in names:
            figures[name, size] = memory_of(name, size, device)
        alive = [name for name in names if not figures[name, size].failed]
        if size < once or device == "cuda":
            times = _call(Job("time", device, size, alive, _repeats(size, repeats)))
            for name in alive:
                _add_times(figures[name, size], times.get(name, times))
    return figures


def memory_of(name: str, size: int, device: str) -> Figure:
    """Return one loss's memory, and the time of that one step."""
    largest = CANDIDATES[name].largest
    if largest is not None and size > largest:
        return Figure(failed=f"{NOT_TRIED} above B = {largest}")
    answer = _call(Job("memory", device, size, [name]))
    if "failed" in answer:
        return Figure(failed=answer["failed"])
    return Figure(answer["seconds"], answer["seconds"], 1, answer["memory"])


def _repeats(size: int, at_4096: int) -> int:
    return max(3, min(400, at_4096 * 4096**2 // size**2))


def _add_times(figure: Figure, times: dict[str, Any]) -> None:
    if "failed" in times:
        figure.failed = times["failed"]
    else:
        figure.median, figure.least, figure.repeats = times["median"], times["least"], times["repeats"]


def ratios(figures: Figures, sizes: tuple[int, ...], repeats: int, device: str) -> list[Target]:
    """Return the targets that compare losses."""
    found = [_compare(figures, 4096, NAIVE, "median", 1.5)]
    found += [_faster_at_most(figures, sizes, repeats, device, name) for name in OTHER_LOSSES]
    found += [_compare(figures, 16384, NAIVE, "memory", 8.0), _compare(figures, 16384, NAIVE, "median", 1.0)]
    found.append(_fits(figures))
    if 128 in sizes:
        found += [_no_slower(device, kind) for kind in ("leaf", "time")]
    return found


def _compare(figures: Figures, size: int, other: str, what: str, least: float) -> Target:
    """Compare the other loss's `median` or `memory` with those of ours from embeddings."""
    ours, theirs = figures.get((EMBEDDINGS, size), Figure()), figures.get((other, size), Figure())
    words = f"B = {size}: {'time' if what == 'median' else what} of {other} / of ours from embeddings"
    if ours.failed or theirs.failed:
        return Target(words, ours.failed or theirs.failed, f">= {least:g}", False if ours.failed else None)
    return _ratio(words, getattr(theirs, what) / getattr(ours, what), least)


def _ratio(what: str, ratio: float, least: float) -> Target:
    known = ratio == ratio
    return Target(what, f"{ratio:.2f}" if known else "", f">= {least:g}", ratio >= least if known else None)


def _faster_at_most(figures: Figures, sizes: tuple[int, ...], repeats: int, device: str, name: str) -> Target:
    """Compare at B = 4096, or at the largest smaller power of two that the other loss can do."""
    size, why = 4096, figures.get((name, 4096), Figure()).failed
    absent = "not installed" in why
    while 4096 in sizes and figures[name, size].failed and size > 128 and not absent:
        size //= 2
        figures[name, size] = memory_of(name, size, device)
        times = {} if figures[name, size].failed else _call(Job("time", device, size, [EMBEDDINGS, name], repeats))
        for one in [EMBEDDINGS, name] if times else []:
            _add_times(figures.setdefault((one, size), Figure()), times.get(one, times))
    target = _compare(figures, size, name, "median", 5.0)
    return Target(f"{target.what} ({why} at 4096)" if why else target.what, target.found, target.wanted, target.met)


def _fits(figures: Figures) -> Target:
    what, figure = "B = 65536: memory of ours from embeddings", figures.get((EMBEDDINGS, 65536))
    if figure is None:
        return Target(what, "", "< 4 GiB", None)
    return Target(what, figure.failed or f"{figure.memory / GIB:.2f} GiB", "< 4 GiB", figure.memory < 4 * GIB)


def _no_slower(device: str, kind: str) -> Target:
    """Compare with the cross entropy at B = 128, the two alone and in turn: the loss of given scores, or the whole."""
    times = _call(Job(kind, device, 128, [CROSS_ENTROPY, SCORES], 2000))
    words = "given scores" if kind == "leaf" else "from embeddings, with the matrix product"
    what = f"B = 128, {words}: time of {CROSS_ENTROPY} / of ours from scores"
    if "failed" in times:
        return Target(f"{what} ({times['failed']})", "", ">= 1", None)
    theirs, ours = (times[name]["median"] for name in (CROSS_ENTROPY, SCORES))
    return _ratio(f"{what} ({theirs * 1e6:.0f} / {ours * 1e6:.0f} us)", theirs / ours, 1.0)


def of_facts(facts: dict[str, Any]) -> list[Target]:
    """Return the targets that are no ratios."""
    if "failed" in facts:
        return [failed("graph breaks and overflow", facts["failed"])]
    return [
        Target("torch.compile(unified_loss, fullgraph=True)", facts["compile"], "one graph", facts["compile"] == "ok"),
        Target("gamma = 1000: ours and its gradient, float32 and float16 scores", facts["ours"], "finite",
               facts["ours"] == "finite"),
    ]  # fmt: skip


def head(machine: dict[str, Any]) -> list[str]:
    """Return the page's opening: what was measured, where, when, how."""
    arguments = " ".join(sys.argv[1:])
    today = datetime.datetime.now(tz=datetime.UTC).date()
    bench = "pytorch-metric-learning"
    try:
        others = f"{bench} {metadata.version(bench)}"
    except metadata.PackageNotFoundError:
        others = f"no {bench} (`pip install 'vtr[bench]'`)"
    return [
        "# Losses: time and memory",
        "",
        f"`.venv/bin/python benchmarks/losses.py{' ' * bool(arguments)}{arguments}` made it on {today}.",
        "",
        f"{cpu()}, {machine['threads']} cores and as many threads, {machine['memory'] / GIB:.0f} GiB; "
        f"GPU: {machine['gpu'] or 'none'}; torch {machine['torch']}, {others}, Python {platform.python_version()}.",
        "",
        f"Forward and backward in float32, from unit embeddings [B, {DIM}] of texts and videos to their gradients.",
        "Similarities of matching pairs are 0.50 on average, those of others 0.00 with a deviation of 0.15, so no loss",
        "is near zero. Memory: the peak beyond what was in use before the step, in a process of its own (on a GPU,",
        "what torch allocates). Time: the losses in turn in one process, median (least) of n runs; n = 1 is the run",
        f"that measured memory. {' and '.join(OTHER_LOSSES)} see texts and videos as 2B embeddings of",
        "B classes, so they compare texts with texts and videos with videos as well: four times as many pairs.",
        f"They are not run above B = {CANDIDATES[OTHER_LOSSES[0]].largest}, and what holds all scores not above "
        f"{CANDIDATES[NAIVE].largest}.",
        "",
    ]


def section(device: str, figures: Figures, targets: list[Target], facts: dict[str, Any]) -> str:
    """Return one device's part of the page."""
    lines = [f"## {'GPU' if device == 'cuda' else 'CPU'}", "", "| B | loss | time | n | memory beyond |"]
    lines += ["|---:|---|---:|---:|---:|"]
    for name, size in sorted(figures, key=lambda key: (key[1], list(CANDIDATES).index(key[0]))):
        figure = figures[name, size]
        if figure.failed.startswith(NOT_TRIED):
            continue
        cells = f"{figure.failed} | | " if figure.failed else f"{_time(figure)} | {figure.repeats} | {_size(figure)}"
        lines.append(f"| {size} | {name} | {cells} |")
    lines += ["", *verdicts(targets)]
    if "overflow" in facts:
        lines += ["", facts["overflow"]]
    return "\n".join([*lines, ""])


def _time(figure: Figure) -> str:
    unit, scale = ("ms", 1e3) if figure.median < 1 else ("s", 1)
    return f"{figure.median * scale:.3g} ({figure.least * scale:.3g}) {unit}"


def _size(figure: Figure) -> str:
    return f"{figure.memory / MIB:,.0f} MiB" if figure.memory == figure.memory else ""


if __name__ == "__main__":
    sys.exit(main())
