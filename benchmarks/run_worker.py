"""One job of benchmarks/run.py in a process of its own: reads it as JSON from its argument, prints JSON."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        kind: the benchmark whose targets are measured; or, where there is an amount, the name of a case of growth.
        amount: of the case's unit.
    """

    kind: str
    amount: int = 0


def targets(job: Job) -> dict[str, Any]:
    """Return a benchmark's rows, at brief sizes."""
    module = importlib.import_module(job.kind)
    return {"targets": [asdict(target) for target in module.brief()]}


def growth(job: Job) -> dict[str, Any]:
    """Return what an amount of a case's work takes."""
    from growth_cases import CASES

    case = next(case for case in CASES if case.name == job.kind)
    with tempfile.TemporaryDirectory() as folder:
        return asdict(case.run(job.amount, Path(folder)))


def main() -> None:
    """Do the job in the first argument."""
    job = Job(**json.loads(sys.argv[1]))
    if job.amount:  # the benchmarks' own processes choose for themselves
        os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    with contextlib.redirect_stdout(sys.stderr):
        answer = growth(job) if job.amount else targets(job)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
