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
from pathlib import Path
from typing import Any

from index_worker import Job
from losses import GIB, MIB, Target
from page import call, cpu, paragraph

from vtr.files import write_text

PAGE = Path(__file__).with_suffix(".md")
WORKER = Path(__file__).with_name("index_worker.py")
FASTER, RECALL = 50.0, 0.99
KINDS = ("Flat", "IVF4096,Flat", "IVF4096,SQ8", "HNSW32")
SMALL_KINDS = ("Flat", "IVF256,Flat", "IVF256,SQ8", "HNSW16")


def main() -> int:
    """Measure, print the page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="20,000 x 64, to try it out; its targets say nothing")
    parser.add_argument("--kinds", help="factory strings, separated by spaces")
    parser.add_argument("--memory-limit", type=float, default=4.0, help="GiB that building may hold")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    arguments = parser.parse_args()
    count, dim = (20_000, 64) if arguments.small else (1_000_000, 512)
    kinds = arguments.kinds.split() if arguments.kinds else SMALL_KINDS if arguments.small else KINDS
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        job = {"folder": folder, "count": count, "dim": dim, "memory": int(arguments.memory_limit * GIB)}
        machine = call(WORKER, Job("embed", **job))
        found = {kind: call(WORKER, Job("build", factory=kind, **job)) for kind in kinds}
        timed = {kind: call(WORKER, Job("search", factory=kind, **job)) for kind in kinds}
    lines, targets = _page(count, dim, arguments.memory_limit, machine, found, timed)
    page = "\n".join(lines) + "\n"
    print(page)
    if arguments.write:
        write_text(PAGE, page)
    return int(any(target.met is False for target in targets) and not arguments.small)


def _page(
    count: int, dim: int, limit: float, machine: dict[str, Any], found: dict[str, Any], timed: dict[str, Any]
) -> tuple[list[str], list[Target]]:
    today = datetime.datetime.now(tz=datetime.UTC).date()
    flat = timed["Flat"]
    said = [Path(word).name if "/" in word else word for word in sys.argv[1:]]  # where it worked is nobody's business
    lines = [
        "# The index",
        "",
        f"`.venv/bin/python benchmarks/index.py {' '.join(said)}` made it on {today}.",
        "",
        *paragraph(
            f"{cpu()}, {machine['threads']} threads, {machine['memory'] / GIB:.0f} GiB; faiss {machine['faiss']}, "
            f"torch {machine['torch']}, Python {platform.python_version()}. {count:,} vectors of {dim} "
            f"in up to 5,000 clusters of 50 subjects; building may hold "
            f"{limit:g} GiB. Times are medians of what ran in turn in one process."
        ),
        "",
        "## Flat against torch and numpy: the best ten",
        "",
        "| | vtr | FAISS IndexFlatIP | torch matmul + topk | numpy |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in ("single", "batch"):
        cells = " | ".join(f"{1e3 * flat[name][side]:.2f} ms" for side in ("vtr", "faiss", "torch", "numpy"))
        lines.append(f"| {name} query{' of ' + str(flat['batch_size']) if name == 'batch' else ''} | {cells} |")
    lines += [
        "",
        "## Kinds",
        "",
        "| kind | parameters | candidates | recall@10 | times Flat | build | peak beyond | on disk | opened in |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    best = 0.0
    for kind, build in found.items():
        if "failed" in build or "failed" in timed[kind]:
            lines.append(f"| {kind} | failed: {build.get('failed') or timed[kind]['failed']} | | | | | | | |")
            continue
        ratio = timed[kind]["faster"]
        if timed[kind]["recall"] >= RECALL and kind != "Flat":
            best = max(best, ratio)
        lines.append(
            f"| {kind} | {build['parameters']} | {build['candidates']} | {timed[kind]['recall']:.4f} | {ratio:.1f} | "
            f"{build['seconds']:.0f} s | {build['peak'] / MIB:,.0f} MiB | {build['bytes'] / MIB:,.0f} MiB | "
            f"{1e3 * timed[kind]['open']:.0f} ms |"
        )
    targets = [
        Target(f"fastest kind at recall@10 {RECALL:g}, times Flat", f"{best:.1f}", f">= {FASTER:g}", best >= FASTER)
    ]
    lines += ["", "## Targets", "", "| target | found | wanted | |", "|---|---:|---:|---|"]
    lines += [f"| {t.what} | {t.found} | {t.wanted} | {t.verdict} |" for t in targets]
    lines += [
        "",
        *paragraph(
            "Recall and speed are of single queries that tuning never saw, with ranking by the score. "
            "Peak is memory beyond that of the process before, without mapped files; opened in: from the call to the "
            "first answer in a fresh process, files in the page cache."
        ),
    ]
    return lines, targets


if __name__ == "__main__":
    sys.exit(main())
