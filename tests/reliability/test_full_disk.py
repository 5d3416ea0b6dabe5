"""A disk that fills up: a clear error wherever it happens, nothing half visible, and going on once there is room."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from extraction_processes import HERE, environment, extract_command, prepare, rows, run
from tiny_clips import make_clip, plain

VIDEOS = 24
NAMESPACES = (["unshare", "-m"], ["unshare", "-rm"])
"""Ways to a mount that only the test sees: as root, and as anybody where the kernel lets users be root of their own."""


def _namespace(folder: Path) -> list[str]:
    """Return the way that works here."""
    for way in NAMESPACES:
        mount = [*way, "mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
        if shutil.which("unshare") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            return way
    pytest.skip("no small disk can be mounted here: neither root's rights nor user namespaces")


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_nothing_that_was_done(tmp_path: Path) -> None:
    clips, disk = tmp_path / "clips", tmp_path / "disk"
    clips.mkdir()
    disk.mkdir()
    for number in range(VIDEOS):
        make_clip(clips / f"v{number:02d}.mp4", plain((10 * number, 90, 250 - 10 * number)), "silent.mp4")
    way = _namespace(disk)
    whole = prepare(clips, tmp_path / "whole")
    assert run(extract_command(whole.root, "wide", shard_videos=12, workers=1), tmp_path / "log").status == 0
    size = sum(path.stat().st_size for path in whole.features.rglob("*.parquet"))

    log = tmp_path / "seen.json"
    scenario = [sys.executable, str(HERE / "small_disk.py"), str(clips), str(disk), str(size), str(log)]
    subprocess.run([*way, *scenario], env=environment(), check=True)
    seen = json.loads(log.read_text())
    full, last = seen["runs"][:-1], seen["runs"][-1]
    for ended in full:
        assert ended["status"] == 1, ended
        assert "No space left on device. Free some disk space" in ended["err"]
        assert "run the same command again" in ended["err"]
        assert "Traceback" not in ended["err"]
        assert ended["problems"] == []
        assert ended["half"] == []
    hit = " ".join(ended["err"] for ended in full)
    assert "/.spool/" in hit, "no run was stopped while it spooled"
    assert "/wide/part-" in hit, "no run was stopped in the middle of a shard"
    finished = [ended["finished"] for ended in seen["runs"]]
    assert finished == sorted(finished), "a finished video was lost"
    assert last["status"] == 0, last
    assert last["read"] < VIDEOS, "finished videos were read again"
    assert seen["rows"] == {expert: [row["video_id"] for row in held] for expert, held in rows(whole).items()}
    assert seen["equal"], "the shards differ from those of a run with room enough"
