"""The failure ledger against a plain dict: what stands, what is over, what a kill leaves, what was written formerly."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_extraction.ledger import ALL_EXPERTS, Failure, Ledger, read_ledger
from vtr.errors import WorkspaceError
from vtr.store import ledger as ledger_module

NAMES = ("face", "ocr", ALL_EXPERTS)
TEXT = st.text(max_size=8) | st.sampled_from(["two\nlines", "a\u2028b\x85c", "no \udcff utf-8", "Übergröße 34号"])
FAILURES = st.builds(
    Failure,
    video_id=st.just(""),
    expert=st.sampled_from(NAMES),
    stage=st.sampled_from(["open", "decode", "extract"]),
    kind=st.sampled_from(["unreadable", "timeout", "no_audio"]),
    message=TEXT,
    status=st.sampled_from(["failed", "partial", "absent"]),
    decoder=st.sampled_from(["", "pyav"]),
    attempts=st.integers(1, 2),
)
VIDEOS = st.sampled_from(["a", "b\u2028", "\udcff"])
SETTLE = st.tuples(
    st.just("settle"),
    VIDEOS,
    st.sets(st.sampled_from(NAMES[:2])),
    st.lists(FAILURES, max_size=3, unique_by=lambda f: f.expert),
)
KEEP = st.tuples(st.just("keep"), st.sets(VIDEOS), st.none(), st.none())
AGAIN = st.tuples(st.sampled_from(["open again", "settle again"]), st.none(), st.none(), st.none())


def failure(video_id: str = "a", expert: str = "ocr", **changes: object) -> Failure:
    return replace(Failure(video_id, expert, "extract", "expert_error", "it stumbled", at=""), **changes)


class Plain:
    """What the ledger is to hold, the slow way."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], dict[str, object]] = {}

    def settle(self, video_id: str, read_by: set[str], failures: list[Failure]) -> None:
        before = dict(self.held)
        for video, expert in before:
            if video == video_id and (expert in read_by or expert == ALL_EXPERTS):
                del self.held[video, expert]
        for one in failures:
            old = before.get((video_id, one.expert))
            self.held.pop((video_id, one.expert), None)
            if old is not None and old["at"] == one.at:
                self.held[video_id, one.expert] = old
            else:
                earlier = 0 if old is None else old["attempts"]
                self.held[video_id, one.expert] = {
                    **asdict(one),
                    "video_id": video_id,
                    "attempts": earlier + one.attempts,
                }


def check(ledger: Ledger, plain: Plain, path: Path) -> None:
    held = {(entry.video_id, entry.expert): asdict(entry) for entry in ledger}
    assert held == plain.held
    assert {(entry.video_id, entry.expert): asdict(entry) for entry in read_ledger(path)} == plain.held
    failed = {key for key, entry in plain.held.items() if entry["status"] == "failed"}
    assert len(ledger) == sum(ledger.counts().values()) == len(failed)
    for kind, count in ledger.counts().items():
        assert count == sum(plain.held[key]["kind"] == kind for key in failed)
    for video_id in ("a", "b\u2028", "\udcff", "unknown"):
        for expert in ("face", "ocr", "unknown"):
            assert ledger.failed(video_id, expert) == bool({(video_id, expert), (video_id, ALL_EXPERTS)} & failed)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(SETTLE | KEEP | AGAIN, max_size=12), stale=st.sampled_from([0, 3, 1000]))
def test_it_holds_what_a_dict_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[tuple], stale: int
) -> None:
    monkeypatch.setattr(ledger_module, "STALE_LINES", stale)
    path = tmp_path / "failures.jsonl"
    path.unlink(missing_ok=True)
    ledger, plain, last = Ledger(path), Plain(), None
    for number, (what, subject, read_by, failures) in enumerate(events):
        if what == "settle":
            last = subject, read_by, [replace(one, at=f"try {number}") for one in failures]
        if what.startswith("settle") and last is not None:
            ledger.settle(*last)
            plain.settle(*last)
        elif what == "keep":
            ledger.keep(subject)
            plain.held = {key: entry for key, entry in plain.held.items() if key[0] in subject}
        elif what == "open again":
            ledger = Ledger(path)
        check(ledger, plain, path)


def test_a_failure_that_is_tried_again_counts_up(tmp_path: Path) -> None:
    path = tmp_path / "features" / "failures.jsonl"
    ledger = Ledger(path)
    first = failure(at="2026-01-01")
    ledger.settle("a", (), [first])
    ledger.settle("a", (), [first])  # a killed run's spool, settled once more
    assert [(entry.attempts, entry.at) for entry in ledger] == [(1, "2026-01-01")]
    Ledger(path).settle("a", (), [failure(kind="timeout", at="2026-01-02")])
    assert [(entry.attempts, entry.at, entry.kind) for entry in Ledger(path)] == [(2, "2026-01-02", "timeout")]
    Ledger(path).settle("a", ["ocr"], [])
    assert not list(Ledger(path))


def test_each_failure_knows_when_it_was_tried(tmp_path: Path) -> None:
    one, other = (Failure("a", "ocr", "extract", "expert_error", "it stumbled") for _ in range(2))
    assert one == other
    assert one.at < other.at
    ledger = Ledger(tmp_path / "failures.jsonl")
    ledger.settle("a", (), [one])
    ledger.settle("a", (), [other])
    assert next(iter(ledger)).attempts == 2


def test_partial_and_absent_are_no_failures(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "failures.jsonl")
    ledger.settle("a", ["ocr"], [failure(expert=ALL_EXPERTS, kind="truncated", status="partial")])
    ledger.settle("b", (), [failure("b", "speech", kind="no_audio", status="absent")])
    assert (len(ledger), ledger.failed("a", "ocr"), ledger.failed("b", "speech")) == (0, False, False)
    assert [entry.status for entry in ledger] == ["partial", "absent"]
    twice = [failure(status="failed"), failure(status="partial")]
    ledger.settle("a", (), twice)
    assert ledger.failed("a", "ocr")


@pytest.mark.parametrize("torn", [1, 20, -1])
def test_a_line_torn_by_a_kill_is_dropped(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "failures.jsonl"
    ledger = Ledger(path)
    ledger.settle("a", (), [failure()])
    whole = path.read_bytes()
    ledger.settle("b", (), [failure("b", message="日本")])
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:torn])
    assert [entry.video_id for entry in read_ledger(path)] == ["a"]
    again = Ledger(path)
    again.settle("c", (), [failure("c")])
    assert [entry.video_id for entry in read_ledger(path)] == ["a", "c"]


@pytest.mark.parametrize(
    "damage",
    [
        b'{"video_id": "x", "exp',
        b"\x00\x00",
        b"[]",
        b"7",
        b'{"video_id": "x", "expert": "ocr"}',
        b'{"video_id": "x", "expert": "ocr", "stage": "open", "kind": "gone", "message": ""}',
        b'{"video_id": ["x"], "expert": "ocr", "stage": "open", "kind": "timeout", "message": ""}',
        b"",
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "failures.jsonl"
    Ledger(path).settle("a", (), [failure(), failure(expert="face")])
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, damage, second, b""]))
    for reading in (Ledger, read_ledger):
        with pytest.raises(WorkspaceError, match=r"failures\.jsonl, line 2 is damaged"):
            reading(path)


def test_a_former_ledger_is_read(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    stages = {"decode": "unreadable", "worker": "crash", "extract": "expert_error", "store": "store_error"}
    stages |= {"timeout": "timeout", "features": "store_error", "something": "unreadable"}
    old = [
        {"video_id": "a", "expert": stage, "stage": stage, "reason": f"why\u2028{stage}", "at": "t"} for stage in stages
    ]
    path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in old), encoding="utf-8")
    entries = list(Ledger(path))
    assert {entry.stage: entry.kind for entry in entries} == stages
    assert {(entry.message, entry.status, entry.attempts, entry.at) for entry in entries} == {
        (f"why\u2028{stage}", "failed", 1, "t") for stage in stages
    }


def test_a_file_of_mostly_stale_lines_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "STALE_LINES", 10)
    path = tmp_path / "failures.jsonl"
    ledger = Ledger(path)
    for number in range(12):
        ledger.settle("a", (), [failure(at=str(number))])
    before = list(ledger)
    assert len(path.read_text().splitlines()) == 12
    assert list(Ledger(path)) == before
    assert len(path.read_text().splitlines()) == 1
    assert [entry.attempts for entry in read_ledger(path)] == [12]


def test_settling_costs_the_same_however_many_stand(tmp_path: Path) -> None:
    """With 100,000 entries a video appends its lines to the same file, and nothing is copied."""
    path = tmp_path / "failures.jsonl"
    line = json.dumps(asdict(failure("%s"))) + "\n"
    path.write_text("".join(line % f"video{number}" for number in range(100_000)))
    ledger = Ledger(path)
    node, size = path.stat().st_ino, path.stat().st_size
    tracemalloc.start()
    for number in range(3):
        ledger.settle(f"video{number}", ["face"], [failure(at="later")])
        ledger.settle(f"new{number}", ["face"], [failure()])
    ledger.settle("video5", ["ocr"], [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(ledger) == 100_002
    assert path.stat().st_ino == node
    assert path.stat().st_size - size < 7 * 2 * len(line)
    assert peak < 300_000  # a copy of the entries' dict alone is 5 MB


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "failures.jsonl"
    ledger = Ledger(path)
    ledger.settle("a", (), [failure()])
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(WorkspaceError, match="No space left on device"):
            ledger.settle("b", (), [failure("b")])
    assert path.read_bytes() == before
    assert not ledger.failed("b", "ocr")
    ledger.settle("b", (), [failure("b")])
    assert Ledger(path).failed("b", "ocr")


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="failure ledger was expected there"):
        Ledger(tmp_path)
