"""Which worker of the pool is given what, and when."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from feature_extraction.plan import Task
from feature_extraction.pool import Pool, Slot
from feature_extraction.spool import Spool
from vtr.extract_config import ExtractConfig


def task(name: str) -> Task:
    return Task(name, f"{name}.mp4", ("mean",))


def test_nothing_runs_beside_a_suspect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A video that may have cost a process waits until all workers are idle, and they stay so until it is done."""
    monkeypatch.setattr("feature_extraction.pool.devices", lambda _: ())
    pool = Pool(0, ExtractConfig(), ["mean"], {"mean": "fake_experts:Mean"}, Spool(tmp_path / "spool", {}))
    given: list[tuple[int, str]] = []
    for number in range(3):
        send = lambda sent, number=number: given.append((number, sent.video_id))  # noqa: E731
        slot = Slot(SimpleNamespace(connection=SimpleNamespace(send=send)), 0)
        slot.ready = True
        pool._slots.append(slot)
    pool._queue = [task("c"), task("b"), task("a")]
    pool._suspects = [task("second suspect"), task("suspect")]
    pool._slots[2].task = task("still at work")
    pool._hand_out()
    assert given == []
    pool._slots[2].task = None
    for suspect in ("suspect", "second suspect"):
        for _ in range(2):
            pool._hand_out()
            assert [name for _, name in given] == [suspect]
        pool._slots[given.pop()[0]].task = None
    pool._hand_out()
    assert given == [(0, "a"), (1, "b"), (2, "c")]
    assert not any(slot.alone for slot in pool._slots)
