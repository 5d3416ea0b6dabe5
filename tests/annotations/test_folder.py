"""Folders of videos and caption CSVs, as people have them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from vtr.annotations.folder import find_videos, read_captions
from vtr.annotations.prepare import prepare_folder
from vtr.annotations.tables import load_annotations, load_split
from vtr.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def captions(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "captions.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_ids_are_relative_paths_without_suffix(tmp_path: Path) -> None:
    videos = touch(tmp_path / "v", "-7KM_1.avi", "sub/deep/été 2.MP4", "a.b.webm", "x#1.mkv", "日本.mov")
    found = find_videos(videos)
    assert list(found.files) == ["-7KM_1", "a.b", "sub/deep/été 2", "x#1", "日本"]
    assert found.others == []


def test_what_is_no_video_is_passed_over_and_counted(tmp_path: Path) -> None:
    videos = touch(tmp_path / "v", "a.mp4", "notes.txt", "b.mp4.part", "c.temp.mp4", "~d.mp4", "mp4", "captions.csv")
    touch(videos, ".hidden.mp4", ".trash/e.mp4", "._a.mp4")
    found = find_videos(videos)
    assert list(found.files) == ["a"]
    assert found.others == ["b.mp4.part", "c.temp.mp4", "captions.csv", "mp4", "notes.txt", "~d.mp4"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "b.mp4")
    videos = touch(tmp_path / "v", "a.mp4")
    (videos / "linked").symlink_to(tmp_path / "elsewhere")
    (videos / "linked-file.mp4").symlink_to(tmp_path / "elsewhere" / "b.mp4")
    (videos / "up").symlink_to(videos)
    (videos / "broken.mp4").symlink_to(videos / "nowhere")
    assert list(find_videos(videos).files) == ["a", "linked/b", "linked-file"]


def test_folders_without_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        find_videos(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"v holds no video \(2 other files: a\.txt, b\.jpg\)"):
        find_videos(touch(tmp_path / "v", "a.txt", "b.jpg"))
    with pytest.raises(InputError, match=r"a\.txt is a file"):
        find_videos(tmp_path / "v" / "a.txt")


def test_two_files_with_one_id_are_refused(tmp_path: Path) -> None:
    twice = (
        r"v/a\.avi and .*v/a\.mp4 would both be the video 'a', .*v/b\.avi and .*v/b\.mp4 would both be .*'b'\. Rename"
    )
    with pytest.raises(InputError, match=twice):
        find_videos(touch(tmp_path / "v", "a.mp4", "a.avi", "sub/a.mp4", "b.mp4", "b.avi"))


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    folder = touch(tmp_path / "v", "a.mp4")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4")).touch()
    with pytest.raises(InputError, match=r"the file name b'.*caf\\xe9\.mp4' is not UTF-8"):
        find_videos(folder)


def test_a_video_may_be_given_by_id_name_or_stem(tmp_path: Path) -> None:
    videos = find_videos(touch(tmp_path / "v", "a.mp4", "sub/b.avi", "sub/é.mkv", "c.mp4", "sub/c.mp4")).files
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    rows = ["a,1", "a.mp4,2", "b,3", "b.avi,4", "sub/b,5", "sub/b.avi,6", f"{composed},7", f"{decomposed},8", "c,9"]
    path = captions(tmp_path, "video,caption\n" + "\n".join(rows) + "\n")
    found = [(c.id, c.text) for c in read_captions(path, videos)]
    accented = next(video_id for video_id in videos if video_id not in ("a", "sub/b", "c", "sub/c"))
    assert found == [
        *[("a#0", "1"), ("a#1", "2")],
        *[(f"sub/b#{n}", str(n + 3)) for n in range(4)],
        *[(f"{accented}#0", "7"), (f"{accented}#1", "8"), ("c#0", "9")],
    ]


def test_captions_of_videos_that_share_a_stem_give_the_suffix(tmp_path: Path) -> None:
    videos = {"sub/a.avi": Path("a.avi"), "sub/a.mp4": Path("a.mp4"), "b": Path("b.avi"), "b.mp4": Path("b.mp4")}
    rows = ["sub/a.avi,1", "a.mp4,2", "b,3", "b.avi,4", "b.mp4,5"]
    path = captions(tmp_path, "video,caption\n" + "\n".join(rows) + "\n")
    assert [(c.video_id, c.text) for c in read_captions(path, videos)] == [
        *[("sub/a.avi", "1"), ("sub/a.mp4", "2"), ("b", "3"), ("b", "4"), ("b.mp4", "5")]
    ]
    for name in ("a", "sub/a"):
        with pytest.raises(InputError, match=rf"line 2: '{name}' may be any of sub/a\.avi, sub/a\.mp4"):
            read_captions(captions(tmp_path, f"video,caption\n{name},x\n"), videos)


@pytest.mark.parametrize("head", ["video_id,caption", "Video,Sentence", "﻿file name,description", "key,text,path"])
def test_common_column_names_are_understood(tmp_path: Path, head: str) -> None:
    row = "k,said,a" if head.startswith("key") else "a,said"
    path = captions(tmp_path, f"{head}\r\n{row}\r\n\r\n")
    assert [(c.video_id, c.text) for c in read_captions(path, {"a": Path("a.mp4")})] == [("a", "said")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,caption\na,x\nnowhere,y\n", r"line 3: 'nowhere' is none of the videos"),
        ("video,caption\nc,x\n", r"line 2: 'c' may be any of one/c, two/c"),
        ("video,caption\na,x\na,  \n", r"line 3: the caption of 'a' is empty"),
        ("video,caption\na,x\n,y\n", r"line 3: '' is none of the videos"),
        ("video,caption\na,first, second\n", r"line 2: 3 fields, 2 were expected .*double quotes"),
        ("video,caption\na\n", r"line 2: 1 fields, 2 were expected"),
        ('video,caption\na,"two\nlines"\nnowhere,x\n', r"line 4: 'nowhere'"),
        ("video;caption\na;x\n", r"line 1: the columns are 'video;caption'; one named 'video' is expected"),
        ("video,title\na,x\n", r"one named 'caption' is expected"),
        ("", r"line 1: the columns are none"),
        ("video,caption\n", r"holds no captions"),
        ("video,caption\na,ok\na,caf\xe9\n".encode("latin1"), r"line 3: not UTF-8"),
        ("video,caption\na,x\n".encode("utf-16"), r"line 1: not UTF-8"),
    ],
)
def test_captions_with_mistakes_are_refused_with_the_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    videos = {name: Path(f"{name}.mp4") for name in ("a", "one/c", "two/c")}
    with pytest.raises(InputError, match=message):
        read_captions(captions(tmp_path, text), videos)


def test_unreadable_captions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv cannot be read: No such file"):
        read_captions(tmp_path / "none.csv", {})
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_captions(tmp_path, {})
    endless = captions(tmp_path, 'video,caption\na,"' + "x" * 200_000 + '"\n')
    with pytest.raises(InputError, match=r"line 2: not a CSV \(field larger than field limit"):
        read_captions(endless, {"a": Path("a.mp4")})


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, scandir = touch(tmp_path / "v", "a.mp4", "closed/b.mp4"), os.scandir

    def guarded(path: str) -> object:
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", guarded)  # root may read anything, so the mode of a folder would not do
    with pytest.raises(InputError, match="closed cannot be read: Permission denied"):
        find_videos(folder)


def test_the_real_msvd_clips(shared: Path, tmp_path: Path) -> None:
    folder = shared / "clips" / "msvd"
    report = prepare_folder(folder, folder / "captions.csv", tmp_path / "ws")
    assert (report.num_videos, report.num_files, report.num_captions) == (29, 29, 1097)
    annotations = load_annotations(report.workspace)
    assert annotations.captions_by_video["-7KMZQEsJW4_205_208"][0].text == "a man demonstrating how to clean a flower"
    assert {Path(video.path or "").name for video in annotations.videos} == {p.name for p in folder.glob("*.avi")}
    split = load_split(report.workspace, "folder")
    assert min(len(split.train), len(split.validation), len(split.test)) >= 1
    assert len(load_split(report.workspace, "folder-all").test) == 29
