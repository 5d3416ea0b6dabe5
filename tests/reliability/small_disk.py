"""For tests, a program: extracts into a disk that is too small, which then grows little by little until all fits.

Run it in a mount namespace of its own: `small_disk.py CLIPS MOUNT_POINT SIZE_OF_ALL_SHARDS ANSWER.json`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from extraction_processes import extract_command, prepare, problems, read_whole, rows, run, shard_bytes

from vtr.workspace import Workspace

SMALL, LARGE, STEPS = 0.4, 2.6, 6
"""The disk's size as a share of all shards: it holds a part of the videos, then all of them twice and more."""


def _mount(disk: Path, size: int, *options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join((f"size={size}", *options)), "none", str(disk)], check=True)


def _finished(workspace: Workspace) -> int:
    """Return how many videos are in the spool or in a shard that is listed."""
    spooled = len(list((workspace.features / ".spool").glob("[!.]*.parquet")))
    return spooled + sum(len(held) for held in rows(workspace).values())


def main(clips: Path, disk: Path, size: int, answer: Path) -> None:
    """Fill the disk again and again, and write down what is there each time."""
    _mount(disk, int(SMALL * size))
    workspace = prepare(clips, disk / "ws")
    runs = []
    for step in range(STEPS + 1):
        _mount(disk, int((SMALL + (LARGE - SMALL) * step / STEPS) * size), "remount")
        ended = run(
            extract_command(workspace.root, "wide", shard_videos=12, workers=1), answer.with_name(f"run-{step}")
        )
        parts = [path for path in workspace.features.glob("[!.]*/*") if path.name.startswith((".tmp", "part"))]
        half = [str(path) for path in parts if path.name.startswith(".tmp")]
        for path in parts:
            if path.name.startswith("part"):
                read_whole(path)
        read = re.search(r"(\d+) videos? read", ended.out)
        runs.append(
            {
                "status": ended.status,
                "err": ended.err,
                "read": int(read[1]) if read else None,
                "problems": problems(workspace),
                "half": half,
                "finished": _finished(workspace),
            }
        )
        if ended.status == 0:
            break
    held = {expert: [row["video_id"] for row in found] for expert, found in rows(workspace).items()}
    equal = shard_bytes(workspace) == shard_bytes(Workspace(answer.with_name("whole")))
    answer.write_text(json.dumps({"runs": runs, "rows": held, "equal": equal}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
