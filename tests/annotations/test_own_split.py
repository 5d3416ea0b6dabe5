"""A split of one's own: what it holds, what it refuses, and what goes stale when it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtr.annotations.own_split import prepare_split
from vtr.annotations.prepare import prepare_annotations, prepare_msrvtt
from vtr.annotations.tables import annotations_fingerprint, load_annotations, load_split, split_names
from vtr.data.corpus import resolve_part
from vtr.errors import InputError, WorkspaceError
from vtr.types import Annotations, Caption, Split, Video
from vtr.workspace import Workspace

VIDEOS = tuple(Video(f"clip{n}") for n in range(6))
CAPTIONS = tuple(Caption(f"{v.id}#{n}", v.id, f"text {n} of {v.id}") for v in VIDEOS for n in range(2))


def prepare(root: Path, captions: tuple[Caption, ...] = CAPTIONS, videos: tuple[Video, ...] = VIDEOS) -> Workspace:
    split = Split("full", ("clip0", "clip1"), ("clip2",), ("clip3",))
    prepare_annotations(Annotations(videos, captions), [split], root)
    return Workspace.open(root)


def listed(path: Path, *ids: str) -> Path:
    path.write_text("".join(f"{name}\n" for name in ids))
    return path


def test_lists_become_a_split_that_stays_when_the_workspace_is_prepared_again(tmp_path: Path) -> None:
    workspace = prepare(tmp_path / "ws")
    lists = {
        "train": listed(tmp_path / "train.txt", "clip5", "clip0"),
        "test": listed(tmp_path / "test.txt", "clip4", "clip1"),
    }
    queries = listed(tmp_path / "queries.txt", "clip1#1", "clip4#0")
    made = prepare_split(workspace, "mine", lists, str(queries))  # type: ignore[arg-type]
    assert "mine test: 0 of 2 2" in " ".join(str(made).split())
    assert "use it as --split mine" in str(made)
    split = load_split(workspace, "mine")
    assert (split.train, split.validation, split.test) == (("clip5", "clip0"), (), ("clip4", "clip1"))
    assert [c.id for c in split.queries("test", load_annotations(workspace))] == ["clip4#0", "clip1#1"]
    assert split_names(workspace) == ("full", "mine")
    assert resolve_part(workspace, "full", "mine", "test") == ("mine", "test")
    prepare(tmp_path / "ws", CAPTIONS[:-1])  # another caption count: the annotations are written anew
    assert load_split(workspace, "mine") == split


def test_a_changed_split_of_ones_own_makes_its_stages_stale_and_no_others(tmp_path: Path) -> None:
    workspace = prepare(tmp_path / "ws")
    before = annotations_fingerprint(workspace)
    prepare_split(workspace, "mine", {"test": listed(tmp_path / "a.txt", "clip4")}, None)
    first = annotations_fingerprint(workspace, "mine")
    assert annotations_fingerprint(workspace) == annotations_fingerprint(workspace, "full") == before != first
    prepare_split(workspace, "mine", {"test": listed(tmp_path / "b.txt", "clip4", "clip5")}, None)
    assert annotations_fingerprint(workspace, "mine") not in (first, before)
    prepare_split(workspace, "mine", {"test": listed(tmp_path / "a.txt", "clip4")}, None)
    assert annotations_fingerprint(workspace, "mine") == first


def test_what_cannot_be_a_split_is_refused(tmp_path: Path) -> None:
    workspace = prepare(tmp_path / "ws")
    test, odd = listed(tmp_path / "test.txt", "clip4"), listed(tmp_path / "odd.txt", "clip4", "clip9")
    for name, lists, queries, message in [
        ("full", {"test": test}, None, "has a split 'full' already"),
        ("val", {"test": test}, None, "'val' cannot be a split's name"),
        ("a+b", {"test": test}, None, "cannot be a split's name"),
        ("mine", {"train": test}, None, "nothing to evaluate"),
        ("mine", {"test": odd}, None, "odd.txt names videos that .* does not hold: clip9"),
        ("mine", {"test": test, "train": test}, None, "train and test overlap"),
        ("mine", {"test": test}, listed(tmp_path / "q.txt", "clip4#0", "clip0#0"), "1 captions of no video .* clip0#0"),
        ("mine", {"test": tmp_path / "none.txt"}, None, "none.txt cannot be read"),
    ]:
        with pytest.raises(InputError, match=message):
            prepare_split(workspace, name, lists, queries and str(queries))  # type: ignore[arg-type]
    assert split_names(workspace) == ("full",)


def test_queries_of_another_split_are_those_of_the_videos_of_this_one(tmp_path: Path) -> None:
    workspace = prepare(tmp_path / "ws")
    test, other = listed(tmp_path / "test.txt", "clip4"), listed(tmp_path / "other.txt", "clip5")
    queries = listed(tmp_path / "queries.txt", "clip4#1")
    prepare_split(workspace, "single", {"test": test}, str(queries))
    prepare_split(workspace, "again", {"test": test}, "single")
    assert load_split(workspace, "again").query_caption_ids == ("clip4#1",)
    prepare_split(workspace, "all", {"test": test}, "full")  # whose queries are all captions
    assert load_split(workspace, "all").query_caption_ids is None
    with pytest.raises(InputError, match="none of split single's queries is of a video in the parts"):
        prepare_split(workspace, "mine", {"test": other}, "single")
    with pytest.raises(InputError, match=r"nothing is neither a file nor one of .*splits: full, "):
        prepare_split(workspace, "mine", {"test": test}, "nothing")


def test_videos_that_are_gone_are_named(tmp_path: Path) -> None:
    workspace = prepare(tmp_path / "ws")
    prepare_split(workspace, "mine", {"test": listed(tmp_path / "a.txt", "clip4", "clip5")}, None)
    prepare(tmp_path / "ws", CAPTIONS[:10], VIDEOS[:5])
    with pytest.raises(WorkspaceError, match=r"1 videos that .* does not hold any more, for example clip5"):
        load_split(workspace, "mine")


def test_the_seven_thousand_of_1k_a(tmp_path: Path, shared: Path) -> None:
    """The training list that many papers use with 1k-A's test: full's training and validation videos."""
    splits = shared / "msrvtt/splits"
    prepare_msrvtt(shared / "msrvtt/annotation", splits, None, tmp_path / "ws")
    workspace = Workspace.open(tmp_path / "ws")
    published = load_split(workspace, "1k-A")
    lists = {"train": splits / "MSRVTT_train.7k.csv", "test": splits / "MSRVTT_JSFUSION_test.csv"}
    prepare_split(workspace, "1k-A-7k", lists, "1k-A")  # type: ignore[arg-type]
    split, full = load_split(workspace, "1k-A-7k"), load_split(workspace, "full")
    assert set(split.train) == set(full.train) | set(full.validation)
    assert set(split.test) == set(published.test)
    queries = split.queries("test", load_annotations(workspace))
    assert [caption.video_id for caption in queries] == list(split.test)
    assert {caption.id for caption in queries} == set(published.query_caption_ids or ())
