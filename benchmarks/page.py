"""What the benchmarks share: fresh processes for what is measured, the processor's name, paragraphs of a width."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any


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
