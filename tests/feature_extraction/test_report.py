"""What `vtr extract --report` shows: every kind counted, the entries that matter first, and what to do."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from feature_extraction.ledger import ALL_EXPERTS, Failure, Kind, Ledger
from feature_extraction.report import ADVICE, report
from vtr.errors import WorkspaceError
from vtr.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "ws")


def enter(workspace: Workspace, *failures: Failure) -> None:
    ledger = Ledger(workspace.ledger)
    for failure in failures:
        ledger.settle(failure.video_id, (), [failure])


def test_counts_entries_and_advice(workspace: Workspace) -> None:
    enter(
        workspace,
        Failure("silent", "speech", "sound", "no_audio", "there is no sound track", "absent"),
        Failure("short", ALL_EXPERTS, "decode", "truncated", "ends after 3 s", "partial", "pyav"),
        Failure("b", ALL_EXPERTS, "open", "unreadable", "moov atom not found", decoder="decord"),
        Failure("a", "ocr", "extract", "expert_error", "KeyError: 'x'", at="2026-01-02T03:04:05.678+00:00"),
        Failure("c", "ocr", "extract", "expert_error", "KeyError: 'x'"),
    )
    enter(
        workspace, Failure("a", "ocr", "extract", "expert_error", "KeyError: 'y'", at="2026-01-03T03:04:05.678+00:00")
    )
    text = report(workspace)
    assert text.splitlines()[0].endswith(
        ": 3 failed, 1 partial (the readable part was used), 1 absent (nothing there to read)"
    )
    counts, entries, advice = text.split("\n\n")[1:]
    table = [re.split(r"\s{2,}", line) for line in counts.splitlines()]
    assert table[0] == ["expert", "unreadable", "truncated", "no_audio", "expert_error", "all"]
    assert table[2:] == [
        ["(whole video)", "1", "1", "-", "-", "2"],
        ["ocr", "-", "-", "-", "2", "2"],
        ["speech", "-", "-", "1", "-", "1"],
    ]
    rows = [re.split(r"\s{2,}", line) for line in entries.splitlines()[2:]]
    assert [row[0] for row in rows] == ["a", "b", "c", "short"]  # the failed ones first, absences not at all
    assert rows[0] == [
        "a",
        "ocr",
        "extract",
        "expert_error",
        "failed",
        "2",
        "-",
        "2026-01-03 03:04:05",
        "KeyError: 'y'",
    ]
    assert rows[3][1:7] == ["(whole video)", "decode", "truncated", "partial", "1", "pyav"]
    assert [line.strip().split(":")[0] for line in advice.splitlines()[1:]] == table[0][1:-1]


def test_only_the_first_are_shown_unless_all_are_wanted(workspace: Workspace) -> None:
    enter(workspace, *(Failure(f"v{n:03}", "ocr", "extract", "timeout", "too long") for n in range(60)))
    shown = Counter(re.findall(r"^v\d+", report(workspace), re.MULTILINE))
    assert sorted(shown) == [f"v{n:03}" for n in range(50)]
    assert f"... and 10 more: --report --all, or {workspace.ledger}" in report(workspace)
    enter(workspace, Failure("silent", "speech", "sound", "no_audio", "there is no sound track", "absent"))
    assert "silent" not in report(workspace)
    every = report(workspace, whole=True)
    assert len(re.findall(r"^v\d+", every, re.MULTILINE)) == 60
    assert re.search(r"^silent  speech +sound +no_audio +absent", every, re.MULTILINE)
    assert "more:" not in every


def test_messages_cannot_break_the_table_or_the_terminal(workspace: Workspace) -> None:
    enter(workspace, Failure("bad\udcff\x1b[31m", "ocr", "extract", "crash", "one\ntwo\u2028three " + "x" * 500))
    text = report(workspace)
    text.encode("utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("bad")]
    assert row.startswith(r"bad\udcff\x1b[31m  ocr")
    assert row.endswith("xxx...")
    assert "one two three xxx" in row


def test_an_empty_and_a_damaged_ledger(workspace: Workspace) -> None:
    assert "no failures" in report(workspace)
    workspace.ledger.parent.mkdir()
    workspace.ledger.write_text("{}\n")
    with pytest.raises(WorkspaceError, match="line 1 is damaged"):
        report(workspace)


def test_there_is_advice_for_every_kind() -> None:
    assert set(ADVICE) == set(get_args(Kind))
