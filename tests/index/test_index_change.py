"""A changed index against scoring what should be in it; kills at random moments, and searches meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from index_writer import GROUPS, OF_EACH, group, groups, name

from vtr.embeddings import EmbeddedPart
from vtr.errors import WorkspaceError
from vtr.files import lock
from vtr.index import build, change, gallery, layout, ranking, segment
from vtr.index.build import build_index
from vtr.index.change import add_videos, remove_videos
from vtr.index.layout import read_state, verify
from vtr.index.search import RetrievalIndex, text_rows
from vtr.similarity import exact_scores

MakePart = Callable[..., EmbeddedPart]
WRITER = Path(__file__).with_name("index_writer.py")


def check(folder: Path, members: set[int]) -> None:
    """Hold an index against the scores of the groups that it should have, found by id."""
    index = RetrievalIndex.open(folder, embed_output=name(members))
    part = groups(sorted(members))
    assert sorted(index.video_ids) == sorted(part.videos.ids)
    assert sorted(index.caption_ids) == sorted(part.texts.ids)
    queries = groups(list(range(3)))
    scores = exact_scores(queries.texts, part.videos).numpy()
    found = index.videos_for(queries.texts, 4)
    for row in range(len(scores)):
        right = sorted(zip(-scores[row], part.videos.ids, strict=True))[:4]
        assert [
            (-score, index.video_ids[video]) for score, video in zip(found.scores[row], found.rows[row], strict=True)
        ] == right
    scores = exact_scores(part.texts, queries.videos).numpy()
    found = index.captions_for(queries.videos, 4)
    for row in range(scores.shape[1]):
        right = sorted(zip(-scores[:, row], part.texts.ids, strict=True))[:4]
        assert [
            (-score, index.caption_ids[text]) for score, text in zip(found.scores[row], found.rows[row], strict=True)
        ] == right
    owners = {
        text_id: part.videos.ids[video] for text_id, video in zip(part.texts.ids, part.video_of_text, strict=True)
    }
    held = [index.video_ids[video] for video in index.video_of_caption]
    assert [owners[text_id] for text_id in index.caption_ids] == held
    assert index.coverage.available == index.num_videos == OF_EACH * len(members)


@pytest.mark.parametrize("fold_share", [0, 5])
def test_changes_leave_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fold_share: int) -> None:
    """By turns added, replaced and removed; with segments that are folded (5), or only merged (0)."""
    monkeypatch.setattr(change, "FOLD_SHARE", fold_share)
    monkeypatch.setattr(change, "MOST_SEGMENTS", 3)
    random, members = Random(fold_share), {0, 1, 2}
    build_index(tmp_path, groups([0, 1, 2]), embed_output=name(members))
    check(tmp_path, members)
    generations = {RetrievalIndex.open(tmp_path).generation}
    for _ in range(20):
        number = random.randrange(GROUPS)
        if number in members and len(members) > 1 and random.random() < 0.6:
            members.discard(number)
            gone = (*group(number).videos.ids, "never there")
            assert remove_videos(tmp_path, gone, embed_output=name(members)) == OF_EACH
        else:
            members.add(number)
            add_videos(tmp_path, group(number), embed_output=name(members))
        check(tmp_path, members)
        verify(tmp_path)
        generations.add(RetrievalIndex.open(tmp_path).generation)
    assert len(generations) > 10
    state = read_state(tmp_path)
    assert len(state.segments) <= (1 if fold_share else 3) + 1
    named = {entry.name for entry in state.segments} | {entry.removed for entry in state.segments if entry.removed}
    assert {path.name for path in tmp_path.iterdir()} == named | {"manifest.json", ".lock"}


def test_what_is_replaced_is_found_anew(tmp_path: Path) -> None:
    build_index(tmp_path, groups([0, 1, 2, 3, 4, 5]), embed_output="old")
    other = replace(group(7), videos=replace(group(7).videos, ids=group(0).videos.ids))
    add_videos(tmp_path, other, embed_output="new")
    index = RetrievalIndex.open(tmp_path, embed_output="new")
    assert index.num_videos == 6 * OF_EACH
    found = index.videos_for(other.texts, 30)
    scores = exact_scores(other.texts, other.videos).numpy()
    for row, (rows, values) in enumerate(zip(found.rows, found.scores, strict=True)):
        by_id = {index.video_ids[video]: score for video, score in zip(rows, values, strict=True)}
        assert [by_id[video_id] for video_id in other.videos.ids] == scores[row].tolist()


def test_a_change_writes_no_file_of_the_main_segment(tmp_path: Path, make_part: MakePart) -> None:
    build_index(tmp_path, make_part(200), embed_output="a")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "000001").iterdir()}
    add_videos(tmp_path, group(1), embed_output="b")
    remove_videos(tmp_path, ["video3"], embed_output="c")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "000001").iterdir()} == before
    written = sum(path.stat().st_size for path in (tmp_path / "000002").iterdir())
    assert written < sum(path.stat().st_size for path in before) / 10
    index = RetrievalIndex.open(tmp_path, embed_output="c")
    assert "video3" not in index.video_ids
    assert index.num_captions == 600 + 2 * OF_EACH - 3


def test_another_shape_is_refused_and_so_is_a_second_writer(tmp_path: Path, make_part: MakePart) -> None:
    build_index(tmp_path, make_part(20), embed_output="a")
    with pytest.raises(WorkspaceError, match=r"dim 9 cannot be added to the index .*, which has .* dim 8"):
        add_videos(tmp_path, make_part(3, dim=9), embed_output="b")
    with pytest.raises(WorkspaceError, match="not there or not finished"):
        add_videos(tmp_path / "none", make_part(3), embed_output="b")
    with (
        lock(tmp_path / ".lock", "test"),
        pytest.raises(WorkspaceError, match=f"process {os.getpid()} is already at it"),
    ):
        remove_videos(tmp_path, ["video1"], embed_output="b")
    assert read_state(tmp_path).inputs["embed"] == "a"


@pytest.mark.parametrize("opens", ["_faiss", "_table", "_mapped"])
def test_an_index_that_is_replaced_while_it_is_opened_is_opened_anew(
    tmp_path: Path, make_part: MakePart, monkeypatch: pytest.MonkeyPatch, opens: str
) -> None:
    """Its files go just before one of them is opened, which FAISS reports in a way of its own."""
    part = make_part(60)
    build_index(tmp_path, part, embed_output="old", factory="IVF4,Flat")
    held, calls = getattr(segment, opens), []

    def replaced_first(path: Path, *arguments: Any) -> Any:
        if path.is_relative_to(tmp_path / "000001") and not calls:
            calls.append(path)
            build_index(tmp_path, part, embed_output="new", factory="IVF4,Flat")
        return held(path, *arguments)

    monkeypatch.setattr(segment, opens, replaced_first)
    index = RetrievalIndex.open(tmp_path)
    assert calls
    assert index.state.inputs["embed"] == "new"
    assert not index.exact


def test_a_video_that_is_added_twice_at_once_changes_nothing(tmp_path: Path) -> None:
    build_index(tmp_path, groups([0, 1, 2]), embed_output="0,1,2")
    before, twice = read_state(tmp_path), group(0)
    ids = (*twice.videos.ids[:-1], twice.videos.ids[0])
    with pytest.raises(ValueError, match="hold 'g0-0' twice"):
        add_videos(tmp_path, replace(twice, videos=replace(twice.videos, ids=ids)), embed_output="?")
    assert read_state(tmp_path) == before
    check(tmp_path, {0, 1, 2})


def test_captions_of_a_replaced_video_go_with_it(tmp_path: Path) -> None:
    build_index(tmp_path, groups([0, 1, 2, 3, 4, 5, 6]), embed_output="old")
    mute = group(3)
    none = np.zeros(0, np.int64)
    mute = replace(mute, texts=text_rows(mute.texts, none), texts_plain=(), video_of_text=none)
    add_videos(tmp_path, mute, embed_output="new")
    index = RetrievalIndex.open(tmp_path)
    assert index.num_videos == 7 * OF_EACH
    assert not {caption_id for caption_id in index.caption_ids if caption_id.startswith("g3-")}
    assert index.num_captions == 12 * OF_EACH
    found = index.captions_for(group(3).videos, 1000)
    assert found.rows.shape[1] == 12 * OF_EACH
    owners = [index.video_ids[row].split("-")[0] for row in index.video_of_caption]
    assert owners == [caption_id.split("-")[0] for caption_id in index.caption_ids]


@pytest.mark.parametrize("overlooked", [0, 256])
def test_removed_videos_are_passed_over_whatever_they_score(
    tmp_path: Path, make_part: MakePart, monkeypatch: pytest.MonkeyPatch, overlooked: int
) -> None:
    """Candidates are listed among all, or among what is left; each text's own video, its best, may be gone."""
    monkeypatch.setattr(ranking, "SMALL", 10)
    monkeypatch.setattr(ranking, "GATHER_COST", 0)
    monkeypatch.setattr(gallery, "OVERLOOKED", overlooked)
    monkeypatch.setattr(change, "FOLD_SHARE", 0)
    part = make_part(300, 1, dim=16)
    build_index(tmp_path, part, embed_output="a")
    gone = np.arange(0, 300, 3)
    remove_videos(tmp_path, [part.videos.ids[row] for row in gone], embed_output="b")
    index, scores = RetrievalIndex.open(tmp_path), exact_scores(part.texts, part.videos).numpy()
    scores[:, gone] = -np.inf
    right = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    found = index.videos_for(part.texts, 7)
    names = [[part.videos.ids[row] for row in rows] for rows in right]
    assert [[index.video_ids[row] for row in rows] for rows in found.rows] == names
    np.testing.assert_array_equal(found.scores, np.take_along_axis(scores, right, axis=1))
    some = found.rows[:, 0]
    assert index.videos_at(some).ids == tuple(index.video_ids[row] for row in some)
    told = index.captions_at(np.arange(index.num_captions)[::-1].copy())
    assert told.texts.ids == index.caption_ids[::-1]
    assert told.plain == index.caption_texts[::-1]


def test_all_videos_may_go_and_others_come(tmp_path: Path) -> None:
    build_index(tmp_path, groups([0, 1]), embed_output="0,1", factory="IVF2,Flat")
    remove_videos(tmp_path, [*group(0).videos.ids, *group(1).videos.ids], embed_output="")
    index = RetrievalIndex.open(tmp_path)
    assert (index.num_videos, index.num_captions, index.video_ids) == (0, 0, ())
    assert index.videos_for(group(0).texts, 5).rows.shape == (2 * OF_EACH, 0)
    add_videos(tmp_path, group(4), embed_output="4")
    check(tmp_path, {4})


@pytest.mark.parametrize("factory", ["IVF8,Flat", "HNSW8", "SQ8", "OPQ4,IVF4,PQ4x4"])
def test_approximate_kinds_answer_no_removed_video(tmp_path: Path, make_part: MakePart, factory: str) -> None:
    part = make_part(400, 1)
    build_index(tmp_path, part, embed_output="a", factory=factory)
    gone = part.videos.ids[:60]
    assert remove_videos(tmp_path, gone, embed_output="b") == 60
    add_videos(tmp_path, group(3), embed_output="c")
    index = RetrievalIndex.open(tmp_path, embed_output="c")
    assert not index.exact
    found = index.videos_for(part.texts, 10)
    assert (found.rows >= 0).all()
    right = np.argsort(-exact_scores(part.texts, index.part.videos).numpy(), axis=1, kind="stable")[:, :10]
    recall = np.mean([np.isin(rows, best).mean() for rows, best in zip(found.rows, right, strict=True)])
    assert recall > 0.9
    assert not set(gone) & set(index.video_ids)


def test_kills_at_random_moments_leave_a_whole_index_that_is_searched_meanwhile(tmp_path: Path) -> None:
    """A process changes the index and is killed, eight times; this one opens and searches it all the while."""
    build_index(tmp_path, groups([0, 1, 2]), embed_output="0,1,2")
    random, seen = Random(0), set()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for seed in range(8):
        before = read_state(tmp_path).generation
        writer = subprocess.Popen([sys.executable, str(WRITER), str(tmp_path), str(seed)], env=environment)
        try:
            until = time.monotonic() + 120
            wanted = before + random.randrange(2, 12)
            while read_state(tmp_path).generation < wanted:
                assert writer.poll() is None
                assert time.monotonic() < until
                index = RetrievalIndex.open(tmp_path)
                seen.add(index.generation)
                check_opened(index)
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        members = set(map(int, read_state(tmp_path).inputs["embed"].split(",")))
        verify(tmp_path)
        check(tmp_path, members)
    assert len(seen) > 8
    members = set(map(int, read_state(tmp_path).inputs["embed"].split(",")))
    add_videos(
        tmp_path, group(0), embed_output=name(members | {0})
    )  # what the killed left is removed, and in nobody's way
    check(tmp_path, members | {0})
    names = {path.name for path in tmp_path.iterdir()}
    state = read_state(tmp_path)
    named = {entry.name for entry in state.segments} | {entry.removed for entry in state.segments if entry.removed}
    assert names == named | {"manifest.json", ".lock"}


def check_opened(index: RetrievalIndex) -> None:
    """Check that an opened index is whole: it answers every video that its manifest says it holds, and no other."""
    members = set(map(int, index.state.inputs["embed"].split(",")))
    assert {video_id.split("-")[0] for video_id in index.video_ids} == {f"g{number}" for number in members}
    queries = group(0)
    found = index.videos_for(queries.texts, 1000)
    assert found.rows.shape[1] == OF_EACH * len(members)
    held = index.part.videos
    np.testing.assert_array_equal(
        np.take_along_axis(exact_scores(queries.texts, held).numpy(), found.rows, axis=1), found.scores
    )


def test_a_disk_that_is_full_while_faiss_writes_leaves_the_former_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(tmp_path, groups([0, 1]), embed_output="0,1")

    def full(*_: object) -> None:
        raise RuntimeError("Error in virtual void write(...)\nNo space left on device")  # as FAISS reports it

    monkeypatch.setattr(build.faiss, "write_index", full)
    with pytest.raises(WorkspaceError, match=r"cannot write .*: No space left on device"):
        build_index(tmp_path, groups([0]), embed_output="0", factory="IVF2,Flat", parameters="nprobe=2")
    check(tmp_path, {0, 1})


def test_an_index_that_is_replaced_again_and_again_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(tmp_path, groups([0]), embed_output="0")
    state, generations = read_state(tmp_path), iter(range(1000))
    monkeypatch.setattr(layout, "read_state", lambda _: replace(state, generation=next(generations)))

    def gone(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(tmp_path / "000001" / "videos.f32"))

    monkeypatch.setattr(layout, "open_segments", gone)
    with pytest.raises(WorkspaceError, match=r"was replaced \d+ times while it was being read"):
        RetrievalIndex.open(tmp_path)
