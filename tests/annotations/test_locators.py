"""Locators: what is written is what is read, and paths move with the workspace."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from webdataset import TarWriter

from vtr.annotations.locators import Locator, absolute, is_url, local_file, parse, relative
from vtr.annotations.prepare import prepare_annotations
from vtr.annotations.tables import load_videos
from vtr.errors import InputError
from vtr.files import read_json
from vtr.types import Annotations, Split, Video

NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0/"), min_size=1, max_size=8)
PARTS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4)
MEMBERS = st.none() | PARTS.map("/".join) | st.sampled_from(["a::b.mp4", "a:", "100%.mp4", "%3A", "./a.mp4"])
RATES = st.none() | st.floats(min_value=1e-6, max_value=1e6)


@given(PARTS, MEMBERS, RATES)
def test_what_is_written_is_what_is_read(parts: list[str], member: str | None, rate: float | None) -> None:
    locator = Locator("/" + "/".join(parts), member, rate)
    assert parse(str(locator)) == locator
    assert locator.is_local
    assert is_url(str(locator)) == (member is not None or rate is not None)


@given(PARTS, PARTS, PARTS, MEMBERS, RATES)
def test_relative_paths_are_those_of_the_standard_library(
    root: list[str], stored: list[str], moved: list[str], member: str | None, rate: float | None
) -> None:
    here, path = Path("/", *root), "/" + "/".join(stored)
    text = relative(str(Locator(path, member, rate)), here)
    assert parse(text) == Locator(os.path.relpath(path, here), member, rate)
    assert absolute(text, here) == str(Locator(path, member, rate))
    elsewhere = Path("/moved", *moved, *root)  # all of it moved: the path seen from there
    expected = os.path.normpath(elsewhere / os.path.relpath(path, here))
    assert parse(absolute(text, elsewhere)).path == expected


@pytest.mark.parametrize(
    ("text", "path", "member", "rate", "local"),
    [
        ("../a b/c.mp4", "../a b/c.mp4", None, None, True),
        ("frames://29.97@../x@y", "../x@y", None, 29.97, True),
        ("tar://a/b.mp4::s3://bucket/0.tar", "s3://bucket/0.tar", "a/b.mp4", None, False),
        ("frames://25@tar://clip::/data/0.tar", "/data/0.tar", "clip", 25.0, True),
        ("https://host/a.mp4?x=1", "https://host/a.mp4?x=1", None, None, False),
        ("file:///data/a%20b.mp4", "/data/a b.mp4", None, None, True),
        ("1://a", "1://a", None, None, True),
    ],
)
def test_the_forms_of_a_locator(text: str, path: str, member: str | None, rate: float | None, local: bool) -> None:
    assert parse(text) == Locator(path, member, rate)
    assert parse(text).is_local == local


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frames://../dir", r"frames://RATE@FOLDER was expected"),
        ("frames://fast@dir", r"frames://RATE@FOLDER was expected"),
        ("frames://0@dir", r"0\.0 frames a second, a positive number"),
        ("frames://inf@dir", r"inf frames a second, a positive number"),
        ("frames://25@", r"names no file"),
        ("tar://a.mp4", r"tar://MEMBER::FILE\.tar was expected"),
        ("tar://::a.tar", r"names no file"),
        ("tar://a::tar://b::c.tar", r"one of tar:// are possible"),
        ("", r"names no file"),
    ],
)
def test_what_is_no_locator_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)


def test_a_tar_member_is_written_as_fsspec_writes_it(tmp_path: Path) -> None:
    with TarWriter(str(tmp_path / "0.tar")) as shard:
        shard.write({"__key__": "sub/clip", "mp4": b"pictures"})
    with fsspec.open(str(Locator(str(tmp_path / "0.tar"), "sub/clip.mp4")), "rb") as stream:
        assert stream.read() == b"pictures"


def test_locators_move_with_the_workspace(tmp_path: Path) -> None:
    here = tmp_path / "here"
    paths = [
        f"{here}/v/a.mp4",
        f"frames://12.5@{here}/frames/b",
        f"tar://c.mp4::{here}/0.tar",
        "s3://bucket/d.mp4",
        None,
    ]
    videos = tuple(Video(f"video{number}", path) for number, path in enumerate(paths))
    split = Split("all", (), (), tuple(video.id for video in videos))
    workspace = prepare_annotations(Annotations(videos, ()), [split], here / "ws").workspace
    assert [video.path for video in load_videos(workspace)] == paths
    assert read_json(workspace.annotations / "manifest.json")["counts"] == {"videos": 5, "captions": 0}
    here.rename(tmp_path / "there")
    moved = load_videos(type(workspace)(tmp_path / "there" / "ws"))
    assert [video.path for video in moved] == [path and path.replace("here", "there") for path in paths]


def test_only_files_of_this_machine_are_local_files(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert local_file(str(tmp_path / "a.mp4")) == tmp_path / "a.mp4"
    others = [None, str(tmp_path), str(tmp_path / "gone.mp4"), f"frames://25@{tmp_path}", "https://host/a.mp4"]
    assert [local_file(text) for text in others] == [None] * len(others)
