"""The prepare stage: idempotent, all or nothing, and exact about what it counted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vtr.annotations import prepare, tables
from vtr.annotations.msrvtt_layouts import Layout, Recognised
from vtr.annotations.prepare import prepare_annotations, prepare_folder, prepare_msrvtt
from vtr.annotations.tables import annotations_fingerprint, load_annotations, load_split, load_videos, split_names
from vtr.errors import InputError, WorkspaceError
from vtr.files import lock, read_json, write_json
from vtr.types import Annotations, Caption, Split, Video
from vtr.workspace import Workspace


def clips(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.mp4").write_bytes(name.encode())
    return folder


def captions(path: Path, *names: str) -> Path:
    path.write_text("video,caption\n" + "".join(f"{name},one of {name}\n{name},two of {name}\n" for name in names))
    return path


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_a_folder_with_captions(tmp_path: Path) -> None:
    names = [f"v{n:02d}" for n in range(40)]
    videos = clips(tmp_path / "v", *names, "bare")
    report = prepare_folder(videos, captions(tmp_path / "c.csv", *names), tmp_path / "ws")
    workspace = report.workspace
    assert split_names(workspace) == ("folder", "folder-all", "folder-single")
    annotations = load_annotations(workspace)
    assert [c.text for c in annotations.captions_by_video["v03"]] == ["one of v03", "two of v03"]
    assert annotations.video_by_id["v03"].path == str(videos / "v03.mp4")
    split, single = load_split(workspace, "folder"), load_split(workspace, "folder-single")
    assert (split.train, split.validation, split.test) == (single.train, single.validation, single.test)
    captioned = [video_id for video_id in split.test if video_id != "bare"]
    assert len(split.queries("test", annotations)) == 2 * len(captioned)
    assert [c.video_id for c in single.queries("test", annotations)] == captioned
    whole = load_split(workspace, "folder-all")
    assert set(whole.test) == {*names, "bare"} and whole.queries("test", annotations) == ()
    assert "1 videos have no caption: bare" in str(report)
    assert f"next: vtr extract {tmp_path / 'ws'}" in str(report)


def test_a_folder_without_captions_is_one_gallery(tmp_path: Path) -> None:
    report = prepare_folder(clips(tmp_path / "v", "a", "b"), None, tmp_path / "ws")
    split = load_split(report.workspace, "folder")
    assert (split.train, split.validation, split.test) == ((), (), ("a", "b"))
    assert split.queries("test", load_annotations(report.workspace)) == ()


def test_the_same_input_changes_nothing(tmp_path: Path) -> None:
    videos, table = clips(tmp_path / "v", "a", "b", "c"), captions(tmp_path / "c.csv", "a", "b", "c")
    first = prepare_folder(videos, table, tmp_path / "ws")
    before = contents(tmp_path / "ws")
    again = prepare_folder(videos, table, tmp_path / "ws")
    assert (first.changed, again.changed) == (True, False)
    assert "nothing has changed" in str(again) and "nothing has changed" not in str(first)
    assert contents(tmp_path / "ws") == before


def test_added_videos_come_behind_known_ones_and_make_what_follows_stale(tmp_path: Path) -> None:
    videos = clips(tmp_path / "v", "m", "z")
    workspace = prepare_folder(videos, None, tmp_path / "ws").workspace
    before = annotations_fingerprint(workspace)
    clips(videos, "a", "n")
    assert prepare_folder(videos, None, tmp_path / "ws").changed
    assert [video.id for video in load_videos(workspace)] == ["m", "z", "a", "n"]
    assert load_split(workspace, "folder").test == ("m", "z", "a", "n")
    assert annotations_fingerprint(workspace) != before


def test_a_changed_caption_changes_the_fingerprint(tmp_path: Path) -> None:
    videos, table = clips(tmp_path / "v", "a", "b", "c"), captions(tmp_path / "c.csv", "a", "b", "c")
    workspace = prepare_folder(videos, table, tmp_path / "ws").workspace
    before = annotations_fingerprint(workspace)
    table.write_text(table.read_text().replace("two of b", "two of B"))
    assert prepare_folder(videos, table, tmp_path / "ws").changed
    assert annotations_fingerprint(workspace) != before
    assert load_annotations(workspace).captions_by_video["b"][1].text == "two of B"


def test_workspace_and_videos_can_be_moved_together(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    clips(here / "v", "a")
    prepare_folder(here / "v", None, here / "ws")
    here.rename(tmp_path / "there")
    moved = load_videos(Workspace.open(tmp_path / "there" / "ws"))
    assert [video.path for video in moved] == [str(tmp_path / "there" / "v" / "a.mp4")]


def test_another_collection_is_refused_and_other_files_are_noted(tmp_path: Path) -> None:
    prepare_folder(clips(tmp_path / "v", "a", "b"), None, tmp_path / "ws")
    before = contents(tmp_path / "ws")
    with pytest.raises(WorkspaceError, match=r"holds 2 other videos \(a, b\), none of which is among these 1"):
        prepare_folder(clips(tmp_path / "other", "x"), None, tmp_path / "ws")
    assert contents(tmp_path / "ws") == before
    report = prepare_folder(clips(tmp_path / "copy", "a", "b"), None, tmp_path / "ws")
    assert "2 videos have another file than before (a, b)" in str(report)


def test_an_interrupted_prepare_leaves_the_former_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = clips(tmp_path / "v", "a", "b")
    workspace = prepare_folder(videos, None, tmp_path / "ws").workspace
    before = contents(tmp_path / "ws")
    clips(videos, "c")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_manifest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_folder(videos, None, tmp_path / "ws")
    assert contents(tmp_path / "ws") == before
    assert prepare_folder(videos, None, tmp_path / "ws").changed
    assert [video.id for video in load_videos(workspace)] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["videos.parquet", "captions.parquet", "splits/folder.json"])
def test_damage_is_named_and_mended_by_the_same_command(tmp_path: Path, name: str) -> None:
    videos = clips(tmp_path / "v", "a", "b", "c")
    workspace = prepare_folder(videos, None, tmp_path / "ws").workspace
    before = contents(tmp_path / "ws")
    path = workspace.annotations / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(WorkspaceError, match=rf"{path.name} is .*damaged"):
        load_annotations(workspace)
        load_split(workspace, "folder")
    prepare_folder(videos, None, tmp_path / "ws")
    assert {k: v for k, v in contents(tmp_path / "ws").items() if "manifest" not in k} == {
        k: v for k, v in before.items() if "manifest" not in k
    }


def test_an_unknown_split_lists_those_there_are(tmp_path: Path) -> None:
    workspace = prepare_folder(clips(tmp_path / "v", "a"), None, tmp_path / "ws").workspace
    with pytest.raises(WorkspaceError, match=r"has no split 'foldr'\. Did you mean 'folder'\? It has: folder\."):
        load_split(workspace, "foldr")


def test_reading_before_prepare_says_what_to_run(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "ws")
    for read in (load_annotations, load_videos, split_names, annotations_fingerprint):
        with pytest.raises(WorkspaceError, match="Run `vtr prepare"):
            read(workspace)


def test_annotations_of_a_newer_vtr_are_left_alone(tmp_path: Path) -> None:
    videos = clips(tmp_path / "v", "a")
    workspace = prepare_folder(videos, None, tmp_path / "ws").workspace
    manifest = workspace.annotations / "manifest.json"
    write_json(manifest, read_json(manifest) | {"format": 99, "vtr": "9.9"})
    before = contents(tmp_path / "ws")
    with pytest.raises(WorkspaceError, match=r"made by vtr 9\.9 in format 99"):
        prepare_folder(videos, None, tmp_path / "ws")
    assert contents(tmp_path / "ws") == before


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    videos = clips(tmp_path / "v", "a")
    workspace = Workspace.create(tmp_path / "ws")
    with lock(workspace.prepare_lock, "test"), pytest.raises(WorkspaceError, match=r"cannot prepare .*already at it"):
        prepare_folder(videos, None, tmp_path / "ws")


def test_a_bad_split_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    annotations = Annotations((Video("a"), Video("b")), (Caption("a#0", "a", "x"),))
    with pytest.raises(InputError, match="split s names videos the annotations do not hold: c"):
        prepare_annotations(annotations, [Split("s", ("a",), (), ("c",))], tmp_path / "ws")
    with pytest.raises(InputError, match="several splits are named s"):
        prepare_annotations(annotations, [Split("s", ("a",), (), ())] * 2, tmp_path / "ws")
    assert not (tmp_path / "ws").exists()
    with pytest.raises(InputError, match="query captions are not in the annotations: b#0"):
        prepare_annotations(annotations, [Split("s", (), (), ("b",), ("b#0",))], tmp_path / "ws")


def test_outputs_that_are_no_workspace_are_refused(tmp_path: Path) -> None:
    videos = clips(tmp_path / "v", "a")
    with pytest.raises(WorkspaceError, match="holds other files"):
        prepare_folder(videos, None, videos)
    with pytest.raises(WorkspaceError, match="is a file"):
        prepare_folder(videos, None, videos / "a.mp4")
    with pytest.raises(WorkspaceError, match="cannot write"):
        prepare_folder(videos, None, videos / "a.mp4" / "below")
    with pytest.raises(WorkspaceError, match="cannot write"):
        prepare_folder(videos, None, Path("/proc/nowhere/ws"))


def test_msrvtt_files_are_matched_by_id_wherever_they_lie(
    tmp_path: Path, made_up: tuple[Annotations, Split], lists: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout("made up", (), "", lambda _: made_up)
    monkeypatch.setattr(prepare, "recognise", lambda _: Recognised(layout, (), ()))
    videos = clips(tmp_path / "v", "video0", "video7005", "unrelated")
    (videos / "test").mkdir()
    clips(videos / "test", "video9999")
    report = prepare_msrvtt(tmp_path, lists, videos, tmp_path / "ws")
    with_file = {video.id for video in load_videos(report.workspace) if video.path}
    assert with_file == {"video0", "video7005", "video9999"}
    counts = {(count.split, count.part): (count.files, count.videos, count.queries) for count in report.parts}
    assert counts["full", "train"] == (1, 6513, None)
    assert counts["full", "validation"] == (1, 497, 3 * 497)
    assert counts["1k-A", "test"] == (1, 1000, 1000)
    assert counts["full-single", "test"] == (1, 2990, 2990)
    assert f"ignored in {videos}: 1 other file: unrelated.mp4\n" in str(report)

    clips(videos / "test", "video0")
    with pytest.raises(InputError, match=r"test/video0\.mp4 and .*v/video0\.mp4 would both be the video 'video0'"):
        prepare_msrvtt(tmp_path, lists, videos, tmp_path / "ws")
    with pytest.raises(InputError, match=r"no video in .*others is one of MSR-VTT's: none is .* video0\.mp4"):
        prepare_msrvtt(tmp_path, lists, clips(tmp_path / "others", "x"), tmp_path / "ws")


def test_msrvtt_without_videos_says_so(
    tmp_path: Path, made_up: tuple[Annotations, Split], lists: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout("made up", (), "", lambda _: made_up)
    monkeypatch.setattr(prepare, "recognise", lambda _: Recognised(layout, (), ()))
    report = prepare_msrvtt(tmp_path, lists, None, tmp_path / "ws")
    assert report.num_files == 0 and "run again with --videos" in str(report)


def test_a_video_that_is_known_keeps_its_id_whatever_comes_or_goes_beside_it(tmp_path: Path) -> None:
    folder = clips(tmp_path / "v", "one", "other")

    def prepared() -> tuple[dict[str, str], str]:
        report = prepare_folder(folder, None, tmp_path / "ws")
        return {video.id: Path(video.path or "").name for video in load_videos(report.workspace)}, str(report)

    assert prepared()[0] == {"one": "one.mp4", "other": "other.mp4"}
    (folder / "one.avi").touch()
    found, told = prepared()
    assert found == {"one": "one.mp4", "other": "other.mp4", "one.avi": "one.avi"}
    assert "ids with a suffix, as other videos have, or had, the same path without it: 1 (one.avi)" in told
    (folder / "one.mp4").unlink()
    assert prepared()[0] == {"other": "other.mp4", "one.avi": "one.avi"}
    folder = folder.rename(tmp_path / "moved")
    assert prepared()[0] == {"other": "other.mp4", "one.avi": "one.avi"}
    (folder / "other.mp4").rename(folder / "other.mkv")
    found, told = prepared()
    assert found == {"other": "other.mkv", "one.avi": "one.avi"}
    assert "another file than before (other)" in told
    (folder / "one.mov").touch()  # another film; what was made of one.mp4 is not its own
    assert prepared()[0] == {"other": "other.mkv", "one.avi": "one.avi", "one.mov": "one.mov"}
    for name in ("one.mp4", "other.mp4"):
        (folder / name).touch()
    assert prepared()[0] == {
        "other": "other.mkv",
        "one.avi": "one.avi",
        "one.mov": "one.mov",
        "one": "one.mp4",
        "other.mp4": "other.mp4",
    }


def test_ignored_files_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    folder = clips(tmp_path / "v", "a", "b.part", "~c")
    (folder / "sub").mkdir()
    for name in ("notes.txt", "sub/cover.jpg", "caf\udce9.txt"):
        (folder / name).touch()
    assert (
        "ignored (no videos, or not finished): 5 other files: b.part.mp4, caf\\udce9.txt, notes.txt, ~c.mp4, sub/"
        in str(prepare_folder(folder, None, tmp_path / "ws"))
    )
    for number in range(9):
        (folder / f"{number}.txt").touch()
    told = str(prepare_folder(folder, None, tmp_path / "ws"))
    assert "14 other files: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 9 more" in told
    assert "other file" not in str(prepare_folder(clips(tmp_path / "w", "a"), None, tmp_path / "ws2"))
