"""What `vtr features` and `vtr status` count: videos of the workspace as it is now, each read, failed or left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from feature_extraction.spool import Spool, Spooled
from vtr.annotations.prepare import prepare_folder
from vtr.stages.features import describe
from vtr.stages.status import workspace_lines
from vtr.store.ledger import Failure, Ledger
from vtr.store.schema import encode_row
from vtr.store.writer import write_expert_manifest, write_shard
from vtr.types import ExpertFeatures, ExpertSpec
from vtr.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Five videos: look found something in a, b and c, nothing in d; words found something in a."""
    (tmp_path / "v").mkdir()
    for name in "abcde":
        (tmp_path / "v" / f"{name}.mp4").touch()
    made = prepare_folder(tmp_path / "v", None, tmp_path / "ws").workspace
    extracted(made, "look", "abcd", "abc")
    extracted(made, "words", "a", "a")
    return made


def extracted(workspace: Workspace, expert: str, examined: str, present: str) -> None:
    spec = ExpertSpec(expert, 3, "image", None, "made by hand")
    seconds = np.arange(2, dtype=np.float32)
    features = ExpertFeatures(np.ones((2, 3), np.float32), seconds, seconds + 1)
    rows = [encode_row(name, features, None, "float16") for name in present]
    checksum = write_shard(workspace.features / expert / "part-0.parquet", spec, rows, list(examined), {})
    write_expert_manifest(
        workspace.features / expert,
        spec,
        {"part-0.parquet": checksum},
        inputs={},
        config={"dtype": "float16"},
        counts={"examined": len(examined), "present": len(present)},
        counts_by_shard={"part-0.parquet": [len(examined), len(present)]},
    )


def fail(workspace: Workspace, *failures: tuple[str, str]) -> None:
    ledger = Ledger(workspace.ledger)
    for video_id, expert in failures:
        ledger.settle(video_id, (), [Failure(video_id, expert, "decode", "unreadable", "made up")])


def leave(workspace: Workspace, *names: str) -> None:
    folder = workspace.root.parent / "v"
    for name in names:
        (folder / f"{name}.mp4").unlink()
    prepare_folder(folder, None, workspace.root)


def counted(workspace: Workspace) -> dict[str, str]:
    """Return expert -> "P of N", read and failed as the table has them."""
    rows = [line.split() for line in describe(workspace, verify=False).splitlines()]
    return {row[0]: " ".join(row[1:6]) for row in rows if row[0] in ("look", "words")}


def told(workspace: Workspace) -> dict[str, tuple[str, str]]:
    return {line.stage: (line.state, line.detail) for line in workspace_lines(workspace)}


@pytest.mark.parametrize("verify", [False, True])
def test_the_whole_workspace_is_counted(workspace: Workspace, verify: bool) -> None:
    text = describe(workspace, verify=verify)
    assert counted(workspace) == {"look": "3 of 5 4 0", "words": "1 of 5 1 0"}
    assert "not counted" not in text and "failures" not in text
    assert ("all shards verified" in text) == verify


def test_a_video_that_has_left_is_not_counted(workspace: Workspace) -> None:
    leave(workspace, "c", "d", "e")
    assert counted(workspace) == {"look": "2 of 2 2 0", "words": "1 of 2 1 0"}
    assert f"not counted: 2 videos in the store that {workspace.root} does not hold now" in describe(
        workspace, verify=True
    )
    assert told(workspace)["extract look"] == ("stale", "2 of 2 videos read, 2 with features; prepare changed since")
    assert told(workspace)["extract words"] == ("partly", "1 of 2 videos read, 1 with features")


def test_a_failure_counts_where_the_video_was_not_read(workspace: Workspace) -> None:
    fail(workspace, ("a", "*"), ("e", "look"), ("e", "*"), ("b", "words"))
    assert counted(workspace) == {"look": "3 of 5 4 1", "words": "1 of 5 1 2"}
    assert "failures are listed by" in describe(workspace, verify=False)
    assert told(workspace)["extract words"] == ("partly", "1 of 5 videos read, 1 with features, 2 failed")
    assert told(workspace)["failures"] == ("3", f"videos; see {workspace.ledger}")


def test_a_failure_leaves_with_its_video(workspace: Workspace) -> None:
    fail(workspace, ("e", "*"))
    assert told(workspace)["failures"] == ("1", f"video; see {workspace.ledger}")
    leave(workspace, "e")
    assert counted(workspace)["look"] == "3 of 4 4 0"
    assert "failures" not in describe(workspace, verify=False)
    assert "failures" not in told(workspace)
    assert json.loads(workspace.ledger.read_text())["video_id"] == "e"  # only extraction writes there


def test_status_says_which_experts_are_to_go_on(workspace: Workspace) -> None:
    def commands() -> dict[str, str]:
        return {line.stage: line.command.partition(str(workspace.root))[2] for line in workspace_lines(workspace)}

    extracted(workspace, "ocr", "a", "a")
    assert commands() == {
        "prepare": "",
        "extract look": " --experts look",
        "extract words": " --experts words",
        "extract ocr": "",  # one of those that a plain `vtr extract` reads
    }
    for video_id, experts in (("d", ("face", "ocr")), ("e", ("clip", "words"))):
        Spool(workspace.features / ".spool", {}).put(Spooled(video_id, {}, experts, ()))
    assert commands()["extract"] == " --experts clip,words"
