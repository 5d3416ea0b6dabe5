"""Folders that hold tar shards and folders of frames; the shards are written by the webdataset library."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path

import pytest
import webdataset
from typer.testing import CliRunner

from vtr.annotations.collection import find_collection
from vtr.annotations.images import are_frames
from vtr.annotations.locators import Locator, parse
from vtr.annotations.prepare import prepare_folder
from vtr.annotations.tables import load_annotations, load_split, split_names
from vtr.annotations.tars import read_index, read_tar
from vtr.cli import app
from vtr.errors import InputError


def shard(path: Path, *samples: dict[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    return path


def frames(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_the_index_says_where_each_member_of_a_shard_is(tmp_path: Path) -> None:
    chance = random.Random(3)
    samples = [{"__key__": f"dir{n % 3}/clip{n}", "mp4": chance.randbytes(chance.randrange(2000))} for n in range(60)]
    path = shard(tmp_path / "0.tar", *samples, {"__key__": "long" * 60, "webm": b"w"})
    data = path.read_bytes()
    with path.open("rb") as stream:
        index = read_index(stream)
    assert index.damage is None and index.repeated == []
    found = {member.name: data[member.offset : member.offset + member.size] for member in index.members.values()}
    with path.open("rb") as stream:
        expected = {one["fname"]: one["data"] for one in webdataset.tariterators.tar_file_iterator(stream)}
    assert len(expected) == 61 and found == expected


def test_links_folders_and_hidden_files_of_a_shard_are_no_videos(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name in ("./a.mp4", "./._a.mp4", "caf\udce9.mp4"):
            archive.add(tmp_path / "a.mp4", name)
        archive.addfile(_folder("dir.mp4"))
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "a.mp4"
        archive.addfile(link)
    found = read_tar(tmp_path / "0.tar")
    assert found.videos == ["./a.mp4"] and found.others == ["./._a.mp4", "caf\udce9.mp4"]
    assert list(find_collection(tmp_path).locators) == ["0/a", "a"]


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


def test_captions_are_read_from_the_shards(tmp_path: Path) -> None:
    shard(
        tmp_path / "v" / "train" / "00000.tar",
        {"__key__": "plain", "mp4": b"1", "txt": " a dog \n"},
        {"__key__": "both", "mp4": b"2", "txt": "a cat", "json": {"caption": "a cat", "duration": 3}},
        {"__key__": "several", "webm": b"3", "txt": "one", "json": {"captions": ["one", "two", ""]}},
        {"__key__": "words", "mp4": b"4", "json": {"text": "a song"}},
        {"__key__": "none", "mp4": b"5", "json": {"caption": None}, "cls": 3},
        {"__key__": "two", "left.mp4": b"6", "right.mp4": b"7", "txt": "both eyes", "left.txt": "the left eye"},
    )
    report = prepare_folder(tmp_path / "v", None, tmp_path / "ws")
    annotations = load_annotations(report.workspace)
    texts = {
        video_id.removeprefix("train/00000/"): [caption.text for caption in captions]
        for video_id, captions in annotations.captions_by_video.items()
    }
    assert texts == {
        "plain": ["a dog"],
        "both": ["a cat"],
        "several": ["one", "two"],
        "words": ["a song"],
        "none": [],
        "two.left": ["the left eye"],
        "two.right": ["both eyes"],
    }
    video = annotations.video_by_id["train/00000/two.left"]
    assert parse(video.path or "") == Locator(str(tmp_path / "v/train/00000.tar"), "two.left.mp4")
    assert split_names(report.workspace) == ("folder", "folder-all", "folder-single")
    assert "1 other file: train/00000.tar: none.cls" in str(report)
    table = tmp_path / "c.csv"
    table.write_text("video,caption\nplain,from the table\ntrain/00000/words.mp4,too\n")
    annotations = load_annotations(prepare_folder(tmp_path / "v", table, tmp_path / "ws").workspace)
    assert [(c.video_id[12:], c.text) for c in annotations.captions] == [("plain", "from the table"), ("words", "too")]


def test_captions_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    shard(tmp_path / "v/0.tar", {"__key__": "a", "mp4": b"", "json": b"{no"}, {"__key__": "b", "mp4": b"", "txt": "x"})
    with tarfile.open(tmp_path / "v/0.tar", "a") as archive:
        info = tarfile.TarInfo("a.txt")
        info.size = 2
        (tmp_path / "bytes").write_bytes(b"\xff\xfe")
        with (tmp_path / "bytes").open("rb") as stream:
            archive.addfile(info, stream)
    report = prepare_folder(tmp_path / "v", None, tmp_path / "ws")
    assert "v/0.tar that cannot be read: a.json, a.txt" in str(report)
    assert [c.text for c in load_annotations(report.workspace).captions] == ["x"]


@pytest.mark.parametrize(
    ("damage", "kept", "words"),
    [
        (lambda data: data[:2700], ["0/a", "0/b"], "it ends within c.mp4"),
        (lambda data: data[:2100], ["0/a", "0/b"], ""),
        (lambda data: data[:2048] + b"x" * 512 + data[2560:], ["0/a", "0/b"], "the header at byte 2048 is damaged"),
    ],
)
def test_a_damaged_shard_gives_what_lies_before(tmp_path: Path, damage: object, kept: list[str], words: str) -> None:
    path = tmp_path / "v" / "0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:  # a header of 512 bytes each, then 512 more
        for key in "abcd":
            info = tarfile.TarInfo(f"{key}.mp4")
            info.size = 300
            archive.addfile(info, io.BytesIO(key.encode() * 300))
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    found = find_collection(tmp_path / "v")
    assert list(found.locators) == kept
    assert len(found.notes) == 1 and words in found.notes[0] and "2 videos before that place" in found.notes[0]


def test_a_shard_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(tmp_path / "v/0.tar", {"__key__": "a", "mp4": b""})

    def refused(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("vtr.annotations.collection.read_tar", refused)
    with pytest.raises(InputError, match=r"0\.tar cannot be read: Permission denied"):
        find_collection(tmp_path / "v")


def test_videos_of_one_path_without_suffix_have_longer_ids(tmp_path: Path) -> None:
    root = tmp_path / "v"
    shard(root / "0.tar", {"__key__": "a", "mp4": b"", "avi": b"", "txt": "both"}, {"__key__": "b", "mp4": b""})
    frames(root / "walk", "1.jpg", "2.jpg")
    for name in ("walk.mp4", "0/b.mp4", "alone.mp4", "c.mp4.avi", "c.mp4", "c.mkv"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    found = find_collection(root, 25)
    assert {video_id: str(locator).replace(str(root), "") for video_id, locator in found.locators.items()} == {
        "0/a.avi": "tar://a.avi::/0.tar",
        "0/a.mp4": "tar://a.mp4::/0.tar",
        "0/b.mp4": "/0/b.mp4",
        "0.tar/b.mp4": "tar://b.mp4::/0.tar",
        "alone": "/alone.mp4",
        "c.mkv": "/c.mkv",
        "c.mp4": "/c.mp4",
        "c.mp4.avi": "/c.mp4.avi",
        "walk": "frames://25@/walk",
        "walk.mp4": "/walk.mp4",
    }
    assert found.captions == {"0/a.avi": ("both",), "0/a.mp4": ("both",)}
    assert (
        len(found.notes) == 1 and "without it: 8 (0/a.avi, 0/a.mp4, 0/b.mp4, 0.tar/b.mp4, c.mkv and" in found.notes[0]
    )


def test_files_of_one_name_in_a_shard_are_refused(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    with tarfile.open(tmp_path / "v/0.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a.mp4"))
        archive.addfile(tarfile.TarInfo("a.mp4"))
    with pytest.raises(InputError, match=r"0\.tar holds files of one name more than once: a\.mp4"):
        find_collection(tmp_path / "v")


def test_tar_files_without_videos_are_other_files(tmp_path: Path) -> None:
    shard(tmp_path / "v/0.tar", {"__key__": "a", "jpg": b"one image is no video", "txt": "x"})
    with pytest.raises(InputError, match=r"holds no video \(1 other file: 0\.tar\)"):
        find_collection(tmp_path / "v")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0001.jpg", "0002.jpg"], True),
        (["frame-9.png", "frame-10.png", "frame-11.png"], True),
        (["0001.jpg"], False),
        (["1.jpg", "01.jpg"], False),
        (["cover.jpg", "poster.jpg"], False),
        (["a1.jpg", "b2.jpg"], False),
        (["1.jpg", "2.png"], False),
        (["1.jpg", "2.jpg", "notes.txt"], False),
        (["1.txt", "2.txt"], False),
    ],
)
def test_frames_are_numbered_images(names: list[str], expected: bool) -> None:
    assert are_frames(names) == expected


def test_folders_of_frames_are_videos_of_a_given_rate(tmp_path: Path) -> None:
    root = tmp_path / "v"
    frames(root / "run.1", *(f"{n:04d}.jpg" for n in range(3)))
    frames(root / "deep" / "walk", "f1.png", "f2.png", ".hidden")
    frames(root / "covers", "1.jpg", "cover.jpg")
    shard(root / "0.tar", {"__key__": "s", "0001.jpg": b"1", "0002.jpg": b"2", "txt": "a sample"})
    with pytest.raises(InputError, match=r"3 folders of frames .*0/s.* Give --frame-rate, for example --frame-rate 25"):
        find_collection(root)
    found = find_collection(root, 12.5)
    assert found.others == ["covers/1.jpg", "covers/cover.jpg"]
    assert {video_id: str(locator) for video_id, locator in found.locators.items()} == {
        "0/s": f"frames://12.5@tar://s::{root}/0.tar",
        "deep/walk": f"frames://12.5@{root}/deep/walk",
        "run.1": f"frames://12.5@{root}/run.1",
    }
    assert found.captions == {"0/s": ("a sample",)}
    only = find_collection(root / "run.1", 25)
    assert {video_id: str(locator) for video_id, locator in only.locators.items()} == {
        "run.1": f"frames://25@{root}/run.1"
    }


def test_the_command_line_reads_frames_and_shards(tmp_path: Path) -> None:
    frames(tmp_path / "v" / "a", "1.jpg", "2.jpg")
    shard(tmp_path / "v" / "b.tar", {"__key__": "c", "mp4": b"", "txt": "said of c"})
    runner = CliRunner()
    refused = runner.invoke(app, ["prepare", "folder", str(tmp_path / "v"), "--out", str(tmp_path / "ws")])
    assert isinstance(refused.exception, InputError) and "--frame-rate" in str(refused.exception)
    arguments = ["prepare", "folder", str(tmp_path / "v"), "--out", str(tmp_path / "ws"), "--frame-rate", "25"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 videos (2 with a file), 1 captions" in result.output
    videos = json.loads((tmp_path / "ws" / "annotations" / "manifest.json").read_text())["counts"]
    assert videos == {"videos": 2, "captions": 1}


def test_videos_of_a_shard_keep_their_places_when_shards_are_added(tmp_path: Path) -> None:
    shard(tmp_path / "v" / "5.tar", {"__key__": "a", "mp4": b""}, {"__key__": "b", "mp4": b""})
    prepare_folder(tmp_path / "v", None, tmp_path / "ws")
    shard(tmp_path / "v" / "1.tar", {"__key__": "a", "mp4": b""})
    workspace = prepare_folder(tmp_path / "v", None, tmp_path / "ws").workspace
    assert load_split(workspace, "folder").test == ("5/a", "5/b", "1/a")
