"""Damaged videos: what is readable of them is used and flagged, or refused; what failed is tried again when asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from extraction_processes import Ended, covered, extract_command, failures, leftovers, prepare, problems, run
from tiny_clips import make_clip, moving

from feature_extraction.ledger import ALL_EXPERTS
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace

SOME_FAILED = 3
FRAMES, RATE = 60, 5


class Collection:
    """A workspace of one good clip, one that was cut in half, one of noise."""

    def __init__(self, folder: Path) -> None:
        self.clips = folder / "clips"
        self.clips.mkdir()
        self._log = folder / "log"
        make_clip(self.clips / "good.mkv", moving(1, FRAMES), "mkv", RATE)
        self.whole = make_clip(self.clips / "cut.mkv", moving(2, FRAMES), "mkv", RATE).read_bytes()
        self.clips.joinpath("cut.mkv").write_bytes(self.whole[: len(self.whole) // 2])
        self.clips.joinpath("noise.mkv").write_bytes(bytes(range(256)) * 40)
        self.workspace: Workspace = prepare(self.clips, folder / "ws")

    def extract(self, *options: str) -> Ended:
        """Run the extraction."""
        return run(extract_command(self.workspace.root, "mean", *options, timeout_seconds=60, workers=1), self._log)

    def seconds(self, video_id: str) -> float:
        """Return until when a video's features go."""
        return float(FeatureStore(self.workspace.features).read("mean")[video_id].end_seconds.max())


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path)


def test_the_readable_part_of_a_video_that_was_cut_is_used_and_flagged(collection: Collection) -> None:
    assert collection.extract().status == SOME_FAILED
    held = failures(collection.workspace)
    assert set(held) == {("cut", "mean"), ("noise", ALL_EXPERTS)}
    assert (held["cut", "mean"].status, held["cut", "mean"].kind) == ("partial", "truncated")
    assert (held["noise", ALL_EXPERTS].status, held["noise", ALL_EXPERTS].kind) == ("failed", "unreadable")
    assert covered(collection.workspace) == {"mean": ["cut", "good"]}
    assert 3.0 < collection.seconds("cut") < 9.0
    assert collection.seconds("good") > 11.0


def test_strict_refuses_a_video_that_was_cut(collection: Collection) -> None:
    ended = collection.extract("--strict")
    assert ended.status == SOME_FAILED, ended.err
    held = failures(collection.workspace)
    assert (held["cut", "mean"].status, held["cut", "mean"].kind) == ("failed", "truncated")
    assert covered(collection.workspace) == {"mean": ["good"]}


def test_strict_after_a_run_without_it_withdraws_what_was_made_of_the_readable_part(collection: Collection) -> None:
    collection.extract()
    before = FeatureStore(collection.workspace.features).read("mean")
    assert ", 1 failed, 1 was done before" in collection.extract("--strict").out
    held = failures(collection.workspace)
    assert {key: (entry.status, entry.kind) for key, entry in held.items()} == {
        ("cut", "mean"): ("failed", "truncated"),
        ("noise", ALL_EXPERTS): ("failed", "unreadable"),
    }
    assert covered(collection.workspace) == {"mean": ["good"]}
    assert problems(collection.workspace) == []
    assert "0 videos read" in collection.extract("--strict").out
    assert "0 videos read" in collection.extract().out
    assert ", 1 failed, 1 was done before" in collection.extract("--retry-failed").out
    assert set(failures(collection.workspace)) == {("cut", "mean"), ("noise", ALL_EXPERTS)}
    again = FeatureStore(collection.workspace.features).read("mean")
    np.testing.assert_array_equal(again["cut"].values, before["cut"].values)
    assert leftovers(collection.workspace) == []


def test_what_failed_is_tried_again_when_asked_and_each_try_is_counted(collection: Collection) -> None:
    assert collection.extract("--strict").status == SOME_FAILED
    again = collection.extract("--strict")
    assert "0 videos read" in again.out
    assert again.status == SOME_FAILED
    assert {failure.attempts for failure in failures(collection.workspace).values()} == {1}
    for attempts in (2, 3):
        assert ", 2 failed," in collection.extract("--strict", "--retry-failed").out
        assert {failure.attempts for failure in failures(collection.workspace).values()} == {attempts}

    collection.clips.joinpath("cut.mkv").write_bytes(collection.whole)
    assert collection.extract("--strict", "--retry-failed").status == SOME_FAILED
    assert {video_id: failure.attempts for (video_id, _), failure in failures(collection.workspace).items()} == {
        "noise": 4
    }
    assert collection.seconds("cut") > 11.0
    make_clip(collection.clips / "noise.mkv", moving(3, FRAMES), "mkv", RATE)
    assert collection.extract("--strict", "--retry-failed").status == 0
    assert failures(collection.workspace) == {}
    assert covered(collection.workspace) == {"mean": ["cut", "good", "noise"]}
    assert problems(collection.workspace) == []
    assert leftovers(collection.workspace) == []
