"""A hold-out by source: how many, whole sources, the same every time, and what it refuses."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import make_workspace

from vtr.annotations.holdout import hold_out_sources
from vtr.annotations.prepare import prepare_annotations, prepare_msrvtt
from vtr.annotations.tables import load_annotations, load_split, split_names
from vtr.cli import main
from vtr.errors import InputError, WorkspaceError
from vtr.stages.holdout import prepare_holdout
from vtr.types import Annotations, Caption, Split, Video
from vtr.workspace import Workspace


def collection(sizes: list[int], lone: int = 0) -> Annotations:
    """Return videos of sources of given sizes, their clips apart from one another, and `lone` without a source."""
    numbers = [source for place in range(max(sizes, default=0)) for source, size in enumerate(sizes) if place < size]
    videos = [Video(f"v{n}", source_id=f"source{source}") for n, source in enumerate(numbers)]
    videos += [Video(f"lone{n}") for n in range(lone)]
    captions = tuple(Caption(f"{v.id}#{n}", v.id, f"text {n} of {v.id}") for v in videos for n in range(3))
    return Annotations(tuple(videos), captions)


def full(annotations: Annotations, validation: int = 0, test: int = 0, name: str = "full") -> Split:
    """Return a split whose training part is what stands after the first videos."""
    ids = tuple(video.id for video in annotations.videos)
    return Split(name, ids[validation + test :], ids[:validation], ids[validation : validation + test])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(0, 4), st.integers(1, 60), st.integers(0, 3))
def test_whole_sources_that_fit_and_none_that_still_would(sizes: list[int], lone: int, count: int, seed: int) -> None:
    annotations = collection(sizes, lone)
    base = full(annotations)
    if count >= len(base.train):
        with pytest.raises(InputError, match=f"{count} videos cannot be held out"):
            hold_out_sources("held", base, annotations, count, seed=seed)
        return
    try:
        split = hold_out_sources("held", base, annotations, count, seed=seed)
    except InputError as error:
        assert "has more than" in str(error)
        assert not lone and min(sizes) > count
        return
    source = {video.id: video.source_id or video.id for video in annotations.videos}
    remaining = Counter(source[video_id] for video_id in split.train)
    assert not remaining.keys() & {source[video_id] for video_id in split.test}
    assert sorted([*split.train, *split.test]) == sorted(base.train)
    assert split.train and list(split.train) == [i for i in base.train if i in set(split.train)]
    assert len(split.test) == count or min(remaining.values()) > count - len(split.test) > 0


def test_the_choice_depends_on_the_seed_and_on_nothing_else() -> None:
    annotations = collection([2] * 40)
    base = full(annotations, validation=6, test=4)
    first = hold_out_sources("held", base, annotations, 20)
    assert first.validation == base.validation
    assert not set(first.test) & set(base.test)
    assert "the test part of full is left out" in first.note
    turned = Annotations(annotations.videos[::-1], annotations.captions[::-1])
    again = hold_out_sources("held", dataclasses.replace(base, train=base.train[::-1]), turned, 20)
    assert set(again.test) == set(first.test)
    assert set(hold_out_sources("held", base, annotations, 20, seed=1).test) != set(first.test)
    assert set(first.test) < set(hold_out_sources("held", base, annotations, 30).test)


def test_a_validation_part_is_made_where_there_is_none_and_every_video_keeps_its_one_query() -> None:
    annotations = collection([1] * 20)
    base = dataclasses.replace(full(annotations, test=5), query_caption_ids=tuple(f"v{n}#1" for n in range(5)))
    split = hold_out_sources("held", base, annotations, 7, part="validation")
    assert (len(split.train), len(split.validation), split.test) == (8, 7, base.test)
    assert [c.id for c in split.queries("test", annotations)] == list(base.query_caption_ids or ())
    assert Counter(c.video_id for c in split.queries("validation", annotations)) == Counter(split.validation)
    assert hold_out_sources("held", full(annotations, test=5), annotations, 7).query_caption_ids is None
    with pytest.raises(InputError, match="full has a validation part of 2 videos, which would be lost"):
        hold_out_sources("held", full(annotations, validation=2), annotations, 7, part="validation")


def prepared(root: Path, annotations: Annotations, base: Split) -> Workspace:
    prepare_annotations(annotations, [base], root)
    return Workspace.open(root)


def test_the_command_says_what_it_did_and_may_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = collection([3, 3, 3])
    workspace = prepared(tmp_path / "ws", annotations, full(annotations))

    def call(*more: str) -> tuple[int, str]:
        arguments = ["vtr", "prepare", "holdout", str(workspace.root), "mine", "--of", "full", *more]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((said.out + said.err).split())

    code, said = call("--videos", "4")
    assert code == 0, said
    assert "mine test: 0 of 3 9" in said
    assert "3 videos are held out, not 4: no further source fits as a whole" in said
    assert "none of these 3 videos is cut from a source that training videos are cut from" in said
    assert "use it as --split mine" in said
    written = (workspace.own_splits / "mine.json").read_bytes()
    code, said = call("--videos", "4")
    assert code == 0 and "nothing has changed" in said
    assert (workspace.own_splits / "mine.json").read_bytes() == written
    code, said = call("--videos", "6")
    assert code != 0 and "is another split 'mine'. Choose another name" in said
    assert (workspace.own_splits / "mine.json").read_bytes() == written
    assert split_names(workspace) == ("full", "mine")


def test_what_is_damaged_or_taken_is_not_overwritten(tmp_path: Path) -> None:
    annotations = collection([1] * 6)
    workspace = prepared(tmp_path / "ws", annotations, full(annotations))
    with pytest.raises(InputError, match="has a split 'full' already"):
        prepare_holdout(workspace, "full", "full", 2)
    with pytest.raises(InputError, match="'a b' cannot be a split's name"):
        prepare_holdout(workspace, "a b", "full", 2)
    with pytest.raises(WorkspaceError, match=r"no split 'fulll'\. Did you mean 'full'\?"):
        prepare_holdout(workspace, "mine", "fulll", 2)
    workspace.own_splits.mkdir()
    (workspace.own_splits / "mine.json").write_text("{")
    with pytest.raises(InputError, match=r"mine\.json is another split"):
        prepare_holdout(workspace, "mine", "full", 2)
    with pytest.raises(WorkspaceError, match=r"has no features yet\. Run `vtr extract"):
        prepare_holdout(workspace, "other", "full", 2, available_only=True)


def test_only_videos_with_features_are_chosen_and_kept(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=60, without_features=14)  # of test and validation
    base = load_split(workspace, "toy")
    held = {f"v{number:03d}" for number in range(46)}
    said = str(prepare_holdout(workspace, "mine", "toy", 10, available_only=True))
    assert "46 of 50 videos have features; the others are left out" in said
    split = load_split(workspace, "mine")
    assert len(split.test) == 10
    assert set(split.test) | set(split.train) == held & set(base.train)
    assert set(split.validation) == held & set(base.validation)
    assert "only videos that had features" in split.note
    bare = make_workspace(tmp_path / "bare", videos=60, without_features=25)
    with pytest.raises(InputError, match="none of the 10 validation videos of split toy has features"):
        prepare_holdout(bare, "mine", "toy", 10, available_only=True)


def test_five_hundred_of_msr_vtt_share_no_source_with_what_is_left(tmp_path: Path, shared: Path) -> None:
    prepare_msrvtt(shared / "msrvtt/annotation", shared / "msrvtt/splits", None, tmp_path / "ws")
    workspace = Workspace.open(tmp_path / "ws")
    found = prepare_holdout(workspace, "held", "full", 500)
    split, published = load_split(workspace, "held"), load_split(workspace, "full")
    assert (len(split.train), len(split.validation), len(split.test)) == (6013, 497, 500)
    assert split.validation == published.validation
    clips: dict[str | None, set[str]] = defaultdict(set)
    for video in load_annotations(workspace).videos:
        clips[video.source_id].add(video.id)
    train, test = set(split.train), set(split.test)
    assert None not in clips
    assert not [source for source, ids in clips.items() if ids & train and ids & test]
    assert found.shared.num_shared == 0 and found.shared.known == 500
