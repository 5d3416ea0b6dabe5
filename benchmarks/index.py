"""The index: Flat against torch and numpy, approximate kinds against Flat, build time, size, memory, cold start.

    .venv/bin/python benchmarks/index.py --write
    .venv/bin/python benchmarks/index.py --small

Vectors are of one expert, in clusters of subjects.
What is compared runs in turn in one process; builds have a process of their own.
Exits with 1 where a target is missed. `--write` writes benchmarks/index.md.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from index_worker import Job
from page import GIB, MIB, Target, call, cpu, failed, paragraph, verdicts

from vtr.files import write_text

PAGE = Path(__file__).with_suffix(".md")
WORKER = Path(__file__).with_name("index_worker.py")
FASTER, RECALL, MEANT_FOR = 50.0, 0.99, 1_000_000
"""The fastest kind at that recall answers so many times faster than Flat, in a gallery of so many vectors."""

DIM, MEMORY_LIMIT = 512, 4.0
KINDS = ("Flat", "IVF4096,Flat", "IVF4096,SQ8", "HNSW32")
SMALL_KINDS = ("Flat", "IVF256,Flat", "IVF256,SQ8", "HNSW16")
BRIEF_COUNT, BRIEF_KINDS = 200_000, ("Flat", "IVF2048,SQ8")


@dataclass(frozen=True)
class Measured:
    """What was measured of a gallery.

    Attributes:
        count, dim: its vectors.
        limit: GiB that building may hold.
        machine: what the first job says of it.
        builds, searches: kind -> what its jobs returned.
    """

    count: int
    dim: int
    limit: float
    machine: dict[str, Any]
    builds: dict[str, dict[str, Any]]
    searches: dict[str, dict[str, Any]]

    def failure(self, kind: str) -> str:
        """Return why there is nothing of a kind, or ""."""
        return str(self.builds[kind].get("failed") or self.searches[kind].get("failed") or "")

    def targets(self) -> list[Target]:
        """Return the targets; in a smaller gallery than they are meant for, without a verdict."""
        dead = [failed(kind, why) for kind in self.builds if (why := self.failure(kind))]
        alive = [kind for kind in self.builds if kind != "Flat" and not self.failure(kind)]
        best = max((self.searches[k]["faster"] for k in alive if self.searches[k]["recall"] >= RECALL), default=0.0)
        what = f"fastest kind at recall@10 {RECALL:g}, times Flat, {self.count:,} x {self.dim}"
        if self.count < MEANT_FOR:
            why = f"meant for {MEANT_FOR:,} vectors, see {PAGE.name}"
            return [*dead, Target(what, f"{best:.1f}", f">= {FASTER:g} at {MEANT_FOR:,}", None, why)]
        return [*dead, Target(what, f"{best:.1f}", f">= {FASTER:g}", best >= FASTER)]


def main() -> int:
    """Measure, print the page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="20,000 x 64, to try it out; its targets say nothing")
    parser.add_argument("--kinds", help="factory strings, separated by spaces")
    parser.add_argument("--memory-limit", type=float, default=MEMORY_LIMIT, help="GiB that building may hold")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    arguments = parser.parse_args()
    count, dim = (20_000, 64) if arguments.small else (MEANT_FOR, DIM)
    kinds = arguments.kinds.split() if arguments.kinds else SMALL_KINDS if arguments.small else KINDS
    found = measure(count, dim, kinds, arguments.memory_limit, arguments.folder)
    page = "\n".join([*_head(found), *_sides(found), *_kinds(found), *_verdicts(found)]) + "\n"
    print(page)
    if arguments.write:
        write_text(PAGE, page)
    return int(any(target.met is False for target in found.targets()))


def brief() -> list[Target]:
    """Return the targets, of a gallery that is smaller than they are meant for, and of one approximate kind."""
    return measure(BRIEF_COUNT, DIM, BRIEF_KINDS).targets()


def measure(
    count: int, dim: int, kinds: Sequence[str], limit: float = MEMORY_LIMIT, place: Path | None = None
) -> Measured:
    """Build and search each kind, each in a process of its own, in a temporary folder in `place`."""
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        job = {"folder": folder, "count": count, "dim": dim, "memory": int(limit * GIB)}
        machine = call(WORKER, Job("embed", **job))
        builds = {kind: call(WORKER, Job("build", factory=kind, **job)) for kind in kinds}
        searches = {kind: call(WORKER, Job("search", factory=kind, **job)) for kind in kinds}
    return Measured(count, dim, limit, machine, builds, searches)


def _head(found: Measured) -> list[str]:
    """Return the page's opening: what was measured, where, when, how."""
    today, machine = datetime.datetime.now(tz=datetime.UTC).date(), found.machine
    said = [Path(word).name if "/" in word else word for word in sys.argv[1:]]  # where it worked is nobody's business
    return [
        "# The index",
        "",
        f"`.venv/bin/python benchmarks/index.py {' '.join(said)}` made it on {today}.",
        "",
        *paragraph(
            f"{cpu()}, {machine['threads']} threads, {machine['memory'] / GIB:.0f} GiB; faiss {machine['faiss']}, "
            f"torch {machine['torch']}, Python {platform.python_version()}. {found.count:,} vectors of {found.dim} "
            f"in up to 5,000 clusters of 50 subjects; building may hold "
            f"{found.limit:g} GiB. Times are medians of what ran in turn in one process."
        ),
        "",
    ]


def _sides(found: Measured) -> list[str]:
    flat = found.searches["Flat"]
    lines = [
        "## Flat against torch and numpy: the best ten",
        "",
        "| | vtr | FAISS IndexFlatIP | torch matmul + topk | numpy |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in ("single", "batch"):
        cells = " | ".join(f"{1e3 * flat[name][side]:.2f} ms" for side in ("vtr", "faiss", "torch", "numpy"))
        lines.append(f"| {name} query{' of ' + str(flat['batch_size']) if name == 'batch' else ''} | {cells} |")
    return [*lines, ""]


def _kinds(found: Measured) -> list[str]:
    lines = [
        "## Kinds",
        "",
        "| kind | parameters | candidates | recall@10 | times Flat | build | peak beyond | on disk | opened in |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for kind, build in found.builds.items():
        if why := found.failure(kind):
            lines.append(f"| {kind} | failed: {why} | | | | | | | |")
            continue
        timed = found.searches[kind]
        lines.append(
            f"| {kind} | {build['parameters']} | {build['candidates']} | {timed['recall']:.4f} | "
            f"{timed['faster']:.1f} | {build['seconds']:.0f} s | {build['peak'] / MIB:,.0f} MiB | "
            f"{build['bytes'] / MIB:,.0f} MiB | {1e3 * timed['open']:.0f} ms |"
        )
    return [*lines, ""]


def _verdicts(found: Measured) -> list[str]:
    return [
        "## Targets",
        "",
        *verdicts(found.targets()),
        "",
        *paragraph(
            "Recall and speed are of single queries that tuning never saw, with ranking by the score. "
            "Peak is memory beyond that of the process before, without mapped files; opened in: from the call to the "
            "first answer in a fresh process, files in the page cache."
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
