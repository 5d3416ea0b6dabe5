"""What it takes to plan the extraction of a million videos, before the first is read; docs/scale.md quotes it.

    .venv/bin/python benchmarks/planning.py

On one core; the videos are ids and paths only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from page import cpu

from feature_extraction.ledger import Ledger
from feature_extraction.memory import peak_bytes
from feature_extraction.plan import PLAN, Plan, make_groups
from feature_extraction.spool import Spool
from vtr.extract_config import ExtractConfig
from vtr.types import Annotations, Video


def main() -> None:
    """Plan, and print times, sizes and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1_000_000)
    number, config = parser.parse_args().videos, ExtractConfig()
    before = peak_bytes()
    annotations = Annotations(tuple(Video(f"clips/{n:09d}", f"/there/clips/{n:09d}.mp4") for n in range(number)), ())
    held = peak_bytes() - before
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.perf_counter()
        groups = make_groups(folder, annotations, config.shard_videos)
        planned = time.perf_counter()
        examined = {expert: frozenset[str]() for expert in config.experts}
        plan = Plan(groups, annotations, examined, Spool(folder / "spool", {}), Ledger(folder / "failures.jsonl"))
        tasks = plan.tasks(config.experts, retry_failed=False)
        listed = time.perf_counter()
        print(f"{len(tasks):,} videos, {len(groups):,} shards, {len(config.experts)} experts; {cpu()}")
        print(f"planning: {planned - begun:.1f} s; the plan's file: {(folder / PLAN).stat().st_size / 1e6:.0f} MB")
        print(f"the list of tasks: {listed - planned:.1f} s")
        print(f"peak of memory: {peak_bytes() / 2**20:.0f} MiB, of which the annotations {held / 2**20:.0f}")


if __name__ == "__main__":
    main()
