"""What it takes to plan the extraction of a million videos, before the first is read; docs/scale.md quotes it.

    .venv/bin/python benchmarks/planning.py

On one core; the videos are ids and paths only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from page import cpu

from feature_extraction.ledger import Ledger
from feature_extraction.memory import peak_bytes
from feature_extraction.plan import PLAN, Plan, make_groups
from feature_extraction.spool import Spool
from vtr.extract_config import ExtractConfig
from vtr.types import Annotations, Video


@dataclass(frozen=True)
class Planned:
    """What planning took.

    Attributes:
        videos, shards: how many there are.
        planning, listing: seconds.
        file_bytes: of the plan.
    """

    videos: int
    shards: int
    planning: float
    listing: float
    file_bytes: int


def annotations_of(videos: int) -> Annotations:
    """Return so many videos without captions."""
    return Annotations(tuple(Video(f"clips/{n:09d}", f"/there/clips/{n:09d}.mp4") for n in range(videos)), ())


def plan(annotations: Annotations, folder: Path) -> Planned:
    """Plan the extraction of all videos with the default experts, and list its tasks."""
    config = ExtractConfig()
    folder.mkdir(exist_ok=True)
    begun = time.perf_counter()
    groups = make_groups(folder, annotations, config.shard_videos)
    planned = time.perf_counter()
    examined = {expert: frozenset[str]() for expert in config.experts}
    whole = Plan(groups, annotations, examined, Spool(folder / "spool", {}), Ledger(folder / "failures.jsonl"))
    tasks = whole.tasks(config.experts, retry_failed=False)
    listed = time.perf_counter()
    return Planned(len(tasks), len(groups), planned - begun, listed - planned, (folder / PLAN).stat().st_size)


def main() -> None:
    """Plan, and print times, sizes and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1_000_000)
    before = peak_bytes()
    annotations = annotations_of(parser.parse_args().videos)
    held = peak_bytes() - before
    with tempfile.TemporaryDirectory() as name:
        found = plan(annotations, Path(name))
    print(f"{found.videos:,} videos, {found.shards:,} shards, {len(ExtractConfig().experts)} experts; {cpu()}")
    print(f"planning: {found.planning:.1f} s; the plan's file: {found.file_bytes / 1e6:.0f} MB")
    print(f"the list of tasks: {found.listing:.1f} s")
    print(f"peak of memory: {peak_bytes() / 2**20:.0f} MiB, of which the annotations {held / 2**20:.0f}")


if __name__ == "__main__":
    main()
