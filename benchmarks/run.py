"""Every benchmark of speed and memory in one go, at brief sizes, and how cost grows with the work: one table.

    make bench
    .venv/bin/python benchmarks/run.py --only losses,index

One after the other, each in processes of its own; ratios are of two things measured in turn. Writes
benchmarks/results.md, unless only some are asked for. Exits with 1 where one failed or a goal was missed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from growth import Case, Cost, Growth, measure, table
from growth_cases import CASES
from page import GIB, Target, call, cpu, failed, paragraph, verdicts
from run_worker import Job

from vtr.files import write_text

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).with_name("run_worker.py")
PAGE = Path(__file__).with_name("results.md")

PAGES = {
    "losses": "losses.py",
    "metrics": "metrics.py --write",
    "models": "models.py --write",
    "training": "training.py --write",
    "index": "index.py --write",
    "extraction": "extraction.py --write",
    "serving": "serving.py RUN",
}
"""A module with `brief()`, whose rows the table has -> what makes its page, at full sizes."""

GROWTH_ONLY = {"planning": "planning.py"}
"""Measured by its growth alone -> what prints the rest."""

RESULTS = {
    "experiments": "experiments.py WS --out workspaces/experiments",
    "msrvtt_clips": "msrvtt_clips.py --data DIR --out workspaces/msrvtt-clips",
    "noisy_correspondence": "noisy_correspondence.py --workspace WS --split SPLIT",
}
"""Pages of results on data, which are not run here: what makes them."""

GROUPS = tuple(dict.fromkeys((*PAGES, *(case.group for case in CASES))))


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        rows: benchmark -> its targets.
        growths: of all cases asked for.
        minutes: how long it took.
    """

    rows: dict[str, list[Target]]
    growths: list[Growth]
    minutes: float

    def targets(self) -> list[Target]:
        """Return all rows of the table."""
        own = [
            Target(f"{name}: {one.what}", one.found, one.wanted, one.met, one.why)
            for name, rows in self.rows.items()
            for one in rows
        ]
        return [*own, *(target for growth in self.growths for target in growth.targets())]


def main() -> int:
    """Measure, print the table, write the page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_groups, help=f"some of {','.join(GROUPS)}; the page is not written then")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    found = run(arguments.only or GROUPS)
    page = "\n".join([*_head(found, (before, os.getloadavg()[0])), *_tables(found), *_elsewhere()]) + "\n"
    print(page)
    if not arguments.only:
        write_text(PAGE, page)
        print(f"written to {PAGE}")
    return status(found.targets())


def _groups(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in GROUPS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(GROUPS)}")
    return names


def run(groups: Sequence[str]) -> Measured:
    """Measure some groups, one after the other."""
    started = time.monotonic()
    cases = [case for case in CASES if case.group in groups]
    names = [name for name in PAGES if name in groups]
    rows, growths = {}, []
    for number, name in enumerate(names, 1):
        _say(f"=== {number} of {len(names) + len(cases)}: {name}", started)
        rows[name] = brief(name)
    for number, case in enumerate(cases, 1 + len(names)):
        _say(f"=== {number} of {len(names) + len(cases)}: growth, {case.name}", started)
        growths.append(measure(case, in_fresh_process))
    return Measured(rows, growths, (time.monotonic() - started) / 60)


def _say(words: str, started: float) -> None:
    print(f"{words} ({(time.monotonic() - started) / 60:.1f} minutes so far)", file=sys.stderr, flush=True)


def brief(name: str) -> list[Target]:
    """Return a benchmark's rows; one that says so where it failed."""
    found = call(WORKER, Job(name))
    return [failed(name, found["failed"])] if "failed" in found else [Target(**row) for row in found["targets"]]


def in_fresh_process(case: Case, amount: int) -> Cost | str:
    """Do an amount of a case's work; return why it failed where it did."""
    found = call(WORKER, Job(case.name, amount))
    return str(found["failed"]) if "failed" in found else Cost(**found)


def status(targets: Sequence[Target]) -> int:
    """Return the exit status: 1 where one failed or was missed; what was not measured is no failure."""
    return int(any(target.met is False for target in targets))


def _head(found: Measured, load: tuple[float, float]) -> list[str]:
    """Return the page's opening: what was measured, where, when, how."""
    given = " ".join(sys.argv[1:])
    today = datetime.datetime.now(tz=datetime.UTC).date()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "pyarrow"))
    return [
        "# All benchmarks",
        "",
        f"`.venv/bin/python benchmarks/run.py{' ' * bool(given)}{given}` made it on {today}, in {found.minutes:.1f} "
        f"minutes{'' if given else '; `make bench` is the same'}.",
        "",
        *paragraph(
            f"{cpu()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB; {versions}, Python "
            f"{platform.python_version()}. The load average was {load[0]:.1f} before and {load[1]:.1f} after: where "
            "other work shares the cores, times say less. Ratios are of two things measured in turn in one run. What "
            "takes long is measured with fewer repeats or smaller than on the benchmarks' own pages; a goal that is "
            "meant for a larger size is shown and not judged."
        ),
        "",
    ]


def _tables(found: Measured) -> list[str]:
    return [
        *verdicts(found.targets()),
        "",
        "## How cost grows",
        "",
        *paragraph(
            "Each amount of work has a process of its own. Time is of one run, the median of several where it is "
            "quick. Memory is the peak beyond what the process held before, or of a whole process where the line says "
            "so; less than 8 MiB counts as 8 MiB in the factors. A goal leaves an eighth more than expected, and twice "
            "as much where memory is only to be bounded. Where the least amount fits into the processor's cache and "
            "the most does not, as scores of 256 pairs and of 4,096, time grows by more than the work."
        ),
        "",
        *table(found.growths),
        "",
    ]


def _elsewhere() -> list[str]:
    lines = ["## What is measured elsewhere", "", *paragraph("At full sizes, each on a page of its own:"), ""]
    lines += [f"- `.venv/bin/python benchmarks/{command}`: [{name}.md]({name}.md)" for name, command in PAGES.items()]
    lines += [f"- `.venv/bin/python benchmarks/{command}` prints times and sizes" for command in GROWTH_ONLY.values()]
    words = "Results on data, which `make bench` does not run: they need a workspace, and take hours."
    lines += ["", *paragraph(words), ""]
    return [
        *lines,
        *(f"- `.venv/bin/python benchmarks/{what}`: [{name}.md]({name}.md)" for name, what in RESULTS.items()),
    ]


if __name__ == "__main__":
    sys.exit(main())
