"""Two `vtr extract` of one workspace at once: the second refuses, naming the first, which ends well."""

from __future__ import annotations

from pathlib import Path

from extraction_processes import (
    covered,
    extract_command,
    leftovers,
    prepare,
    problems,
    run,
    running,
    shard_bytes,
)
from tiny_clips import make_clip, plain

from vtr.files import locked_by


def test_the_second_of_two_refuses_and_names_the_first(tmp_path: Path) -> None:
    clips, gate = tmp_path / "clips", tmp_path / "gate"
    clips.mkdir()
    for number in range(6):
        make_clip(clips / f"v{number}.mp4", plain((40 * number, 90, 60)))
    workspace, alone = prepare(clips, tmp_path / "ws"), prepare(clips, tmp_path / "alone")
    lock = workspace.features / ".lock"
    with running(extract_command(workspace.root, "mean,loud"), tmp_path / "first-log", TEST_GATE=gate) as first:
        first.until(
            lambda: locked_by(lock) is not None and "decoder" in first.family().values(), "the first is at work"
        )
        before = shard_bytes(workspace)
        second = run(extract_command(workspace.root, "mean,loud", "--retry-failed"), tmp_path / "second-log")
        assert second.status == 1
        assert f"process {first.pid} is already at it" in second.err
        assert "Traceback" not in second.err
        assert locked_by(lock) == first.pid
        assert shard_bytes(workspace) == before
        gate.touch()
        ended = first.wait()
    assert ended.status == 0, ended.err
    assert locked_by(lock) is None
    assert covered(workspace) == {expert: [f"v{number}" for number in range(6)] for expert in ("loud", "mean")}
    assert problems(workspace) == []
    assert leftovers(workspace) == []
    assert run(extract_command(alone.root, "mean,loud"), tmp_path / "alone-log").status == 0
    assert shard_bytes(workspace) == shard_bytes(alone)
