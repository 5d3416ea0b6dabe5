"""kill -9, thirty times and more over one extraction: the store at the end is what it would have been anyway."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from extraction_processes import (
    Running,
    covered,
    extract_command,
    failures,
    leftovers,
    prepare,
    problems,
    read_whole,
    rows,
    run,
    running,
    shard_bytes,
)
from tiny_clips import make_clip, plain

from feature_extraction.ledger import ALL_EXPERTS
from vtr.errors import VtrError
from vtr.files import sha256_file
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace

SOME_FAILED = 3
ALL_VIDEOS = [f"v{number:02d}" for number in range(60)]
EXPERTS = "mean,words,loud"
LIVES, KILLS_A_LIFE = 4, 5
SECONDS_AN_EXPERT = 0.04

MOMENTS = [
    ("parent", "open", r"plan\.jsonl$", 1),
    ("parent", "os.remove", r"\.spool/[^/]*\.parquet$", 3),
    ("parent", "open", r"\.tmp-[^/]*part-", 2),
    ("parent", "os.rename", r"part-[^/]*\.parquet$", 2),
    ("parent", "open", r"\.tmp-[^/]*manifest\.json$", 1),
    ("parent", "os.rename", r"manifest\.json$", 2),
    ("worker", "os.rename", r"\.spool/[^/]*\.parquet$", 2),
    ("worker", "open", r"\.spool/\.tmp-", 2),
]
"""Who dies, before which call, on which path, the how many-th time: the plan about to be written; spooled videos half
removed; a shard written and not synced; not yet seen; seen and not listed; the list not yet seen; a spooled video not
yet seen, not yet synced."""
LEDGER_MOMENT = ("parent", "open", r"failures", 3)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips that differ, every third of them with sound."""
    folder = tmp_path_factory.mktemp("clips")
    for number, name in enumerate(ALL_VIDEOS):
        colour = np.random.default_rng(number).integers(20, 220, 3)
        make_clip(folder / f"{name}.mp4", plain(colour), "mp4" if number % 3 == 0 else "silent.mp4")
    return folder


class Reader:
    """Somebody who reads the store all the while, and notes whatever is not whole.

    Args:
        workspace: whose store is read.
        listed: whether every shard must be as listed. One that is written again with videos that failed before is
            visible for a moment before it is listed anew; it must be whole then too.

    Attributes:
        wrong: what was not whole.
        looks: how many shards were read.
    """

    def __init__(self, workspace: Workspace, *, listed: bool) -> None:
        self._store, self._listed = FeatureStore(workspace.features), listed
        self.wrong: list[str] = []
        self.looks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def _follow(self) -> None:
        while not self._over.wait(0.03):
            try:
                self._look()
            except (VtrError, OSError, pa.ArrowException) as error:
                self.wrong.append(str(error))

    def _look(self) -> None:
        for expert in self._store.experts:
            for name, checksum in self._store.manifest(expert)["shards"].items():
                if self._listed and sha256_file(self._store.root / expert / name) != checksum:
                    self.wrong.append(f"{expert}/{name} is listed with another checksum")
        for path in self._store.root.glob("[!.]*/**/[!.]*.parquet"):
            read_whole(path)
            self.looks += 1

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


class Chaos:
    """Runs extractions and kills them.

    Attributes:
        command: what is run.
        kills: how many processes were killed, by kind.
    """

    def __init__(self, workspace: Workspace, log: Path, seed: int) -> None:
        self._log = log
        self._random = np.random.default_rng(seed)
        self.command = command(workspace)
        self.kills = dict.fromkeys(("parent", "worker", "decoder"), 0)

    def at_moment(self, who: str, event: str, pattern: str, count: int, *options: str) -> None:
        """Run until a process dies at a moment, and kill the parent with it."""
        marker = self._log.with_name(f"died-{sum(self.kills.values())}")
        setting = "|".join((who, event, pattern, str(count), str(marker)))
        with self._running(*options, TEST_DIES_AT=setting) as started:
            started.until(marker.exists, f"{who} dies at {event} of {pattern}")
            self.kills[who] += 1
            if who == "parent":
                assert started.process.wait(60) == -signal.SIGKILL
            else:
                started.until(lambda: list(started.family().values()).count("worker") == 2, "a worker is replaced")
                self._kill(started.pid, "parent")

    def at_random(self, others: int) -> None:
        """Run, kill workers and decoders in turn at random moments, then the parent."""
        with self._running() as started:
            for number in range(others):
                self._wait_a_little(started)
                kind = ("worker", "decoder")[number % 2]
                if pids := [pid for pid, held in started.family().items() if held == kind]:
                    self._kill(int(self._random.choice(pids)), kind)
            self._wait_a_little(started)
            self._kill(started.pid, "parent")

    def _running(self, *options: str, **variables: object) -> contextlib.AbstractContextManager[Running]:
        return running([*self.command, *options], self._log, TEST_SECONDS=SECONDS_AN_EXPERT, **variables)

    def _wait_a_little(self, started: Running) -> None:
        """Wait until a decoder is up, which the first video starts, and then a random time."""
        started.until(lambda: "decoder" in started.family().values(), "workers read videos")
        time.sleep(self._random.uniform(0.0, 0.15))

    def _kill(self, pid: int, kind: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills[kind] += 1


def command(workspace: Workspace) -> list[str]:
    """Return the extraction; its one reader is decord, as pictures that PyAV scales differ by a grey level or two."""
    return extract_command(
        workspace.root, EXPERTS, timeout_seconds=60, reader="decord", shard_videos=4, frames_per_second=3.0
    )


@pytest.mark.slow
def test_the_store_of_a_run_killed_many_times_equals_that_of_a_run_left_alone(clips: Path, tmp_path: Path) -> None:
    whole, broken = prepare(clips, tmp_path / "whole"), prepare(clips, tmp_path / "broken")
    assert run(command(whole), tmp_path / "whole-log").status == 0
    chaos = Chaos(broken, tmp_path / "broken-log", seed=6)
    with Reader(broken, listed=True) as reader:
        for number, moment in enumerate(MOMENTS):
            chaos.at_moment(*moment)
            if number < LIVES:
                chaos.at_random(KILLS_A_LIFE)
        ended = run(chaos.command, tmp_path / "resumed")
    assert ended.status == SOME_FAILED, ended.err
    assert reader.wrong == []
    assert reader.looks > 100
    _assert_a_killed_worker_costs_its_own_video_only(broken, chaos.kills)

    with Reader(broken, listed=False) as reader:
        chaos.at_moment(*LEDGER_MOMENT, "--retry-failed")
        ended = run([*chaos.command, "--retry-failed"], tmp_path / "retried")
    assert ended.status == 0, ended.err
    assert reader.wrong == []
    assert sum(chaos.kills.values()) >= 30
    assert _entries(broken) == _entries(whole)
    assert {status for _, status in _entries(whole).values()} == {"absent"}  # the sound of silent clips
    assert covered(broken) == dict.fromkeys(EXPERTS.split(","), ALL_VIDEOS)
    assert rows(broken) == rows(whole)
    assert shard_bytes(broken) == shard_bytes(whole)
    assert problems(broken) == []
    assert leftovers(broken) == leftovers(whole) == []


def _assert_a_killed_worker_costs_its_own_video_only(workspace: Workspace, kills: Mapping[str, int]) -> None:
    """Every video is in the store or in the ledger; in the ledger are as many as workers and decoders were killed."""
    held = {key: entry for key, entry in _entries(workspace).items() if entry[1] == "failed"}
    read = covered(workspace)
    for expert in EXPERTS.split(","):
        lost = {video_id for video_id, blamed in held if blamed in (expert, ALL_EXPERTS)}
        assert sorted([*read[expert], *lost]) == ALL_VIDEOS
    assert 0 < len({video_id for video_id, _ in held}) <= kills["worker"] + kills["decoder"]
    assert {kind for kind, _ in held.values()} == {"crash"}


def _entries(workspace: Workspace) -> dict[tuple[str, str], tuple[str, str]]:
    """Return (video id, expert) -> kind and status."""
    return {key: (entry.kind, entry.status) for key, entry in failures(workspace).items()}
