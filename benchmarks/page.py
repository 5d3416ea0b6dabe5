"""What the benchmarks share: targets, fresh processes for what is measured, the processor's name, paragraphs."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MIB, GIB = 2**20, 2**30

NO_GPU = "no GPU"


@dataclass(frozen=True)
class Target:
    """A ratio and what it should be: a row of a benchmark's page, and of the table that `benchmarks/run.py` writes.

    Attributes:
        what: what was measured, with its size.
        found: the figure, "" where there is none.
        wanted: what it should be.
        met: None where it was not measured, or not at the size that the goal is meant for.
        why: why it was not measured, or what failed; "" for what was measured.
    """

    what: str
    found: str
    wanted: str
    met: bool | None
    why: str = ""

    @property
    def verdict(self) -> str:
        """met, missed, failed or not measured, the last two with the reason."""
        word = {True: "met", False: "failed" if self.why else "missed", None: "not measured"}[self.met]
        return f"{word}: {self.why}" if self.why else word


def failed(what: str, why: str) -> Target:
    """Return the row of what could not be measured because it failed."""
    return Target(what, "", "", False, why)


def verdicts(targets: Iterable[Target]) -> list[str]:
    """Return the lines of a table of targets."""
    lines = ["| target | found | wanted | |", "|---|---:|---:|---|"]
    return [*lines, *(f"| {one.what} | {one.found or '-'} | {one.wanted} | {one.verdict} |" for one in targets)]


def paragraph(text: str) -> list[str]:
    """Return the lines of a paragraph."""
    return textwrap.wrap(text, 120, break_on_hyphens=False)


def cpu() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())


def call(worker: Path, job: Any) -> dict[str, Any]:
    """Run a job in a fresh process; {"failed": why} where it died.

    Args:
        worker: the script that does jobs: it takes one as JSON, and prints its result as JSON in its last line.
        job: a dataclass with a `kind`.
    """
    print(f"--- {job.kind}", file=sys.stderr, flush=True)
    command = [sys.executable, str(worker), json.dumps(asdict(job))]
    done = subprocess.run(command, cwd=worker.parent.parent, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"failed": "killed, out of memory" if done.returncode == -9 else f"ended with {done.returncode}"}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
