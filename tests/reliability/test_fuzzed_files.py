"""Hundreds of damaged files of all containers in one run: it ends, and each is read, flagged or in the ledger."""

from __future__ import annotations

import json
import typing
from collections import Counter
from pathlib import Path

import pytest
from extraction_processes import covered, extract_command, failures, leftovers, marked, prepare, problems, run
from tiny_clips import ending, make_sources, write_mutated

from feature_extraction.ledger import ALL_EXPERTS, Kind

SOME_FAILED = 3
COUNT, SEED = 520, 20_240


@pytest.mark.slow
def test_each_of_hundreds_of_damaged_files_is_read_flagged_or_in_the_ledger(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    sources = make_sources(tmp_path / "sources")
    names = write_mutated(clips, sources, COUNT, SEED)
    good = [f"good-{kind.replace('.', '-')}" for kind in sources if kind != "mp3"]
    for name, kind in zip(good, sources, strict=False):
        (clips / f"{name}.{ending(kind)}").write_bytes(sources[kind])
    workspace = prepare(clips, tmp_path / "ws")
    left_open, mark = tmp_path / "left-open.json", str(tmp_path)
    command = extract_command(workspace.root, "mean,loud", timeout_seconds=20, shard_videos=100)
    ended = run(command, tmp_path / "log", TEST_LEFT_OPEN=left_open, TEST_MARK=mark)
    assert ended.status == SOME_FAILED, ended.err

    held, read = failures(workspace), covered(workspace)
    for name in [*names, *good]:
        whole_video = held.get((name, ALL_EXPERTS))
        for expert in ("mean", "loud"):
            found = held.get((name, expert)) or whole_video
            lost = found is not None and found.status == "failed"
            assert (name in read[expert]) != lost, f"{name}, {expert}: {found}"
    for failure in held.values():
        assert failure.kind in typing.get_args(Kind)
        assert failure.message.strip()
        assert failure.video_id not in good or failure.kind == "no_audio", failure
    statuses = Counter(failure.status for failure in held.values())
    assert statuses["failed"] > 50, "most mutations have no effect"
    assert statuses["partial"] > 10, "no damage is noticed"
    assert problems(workspace) == []
    assert leftovers(workspace) == []

    seen = json.loads(left_open.read_text())
    assert seen["after"] == seen["before"]
    assert seen["after"]["children"] == []
    assert marked("TEST_MARK", mark) == []
