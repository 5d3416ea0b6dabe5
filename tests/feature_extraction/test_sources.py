"""Fetching videos: what is copied is what lies there, it is gone afterwards, and nothing waits for ever."""

from __future__ import annotations

import os
import random
import sys
import tarfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import webdataset
from fsspec.implementations.memory import MemoryFileSystem

from feature_extraction import sources
from feature_extraction.sources import LocalSource, SourceError, local_copy
from vtr.annotations.collection import find_collection
from vtr.annotations.locators import Locator
from vtr.errors import WorkspaceError
from vtr.files import remove_temporaries


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where copies go."""
    path = tmp_path / "fetched"
    path.mkdir()
    return path


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """A file system behind memory://, empty again afterwards."""
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def shard(path: Path, samples: int = 5, size: int = 3000) -> dict[str, bytes]:
    """Write a tar file of videos and return their bytes by member."""
    chance = random.Random(1)
    contents = {f"sub/clip{n}.mp4": chance.randbytes(size + n) for n in range(samples)}
    with webdataset.TarWriter(str(path)) as writer:
        for name, content in contents.items():
            writer.write({"__key__": name.removesuffix(".mp4"), "mp4": content, "txt": name})
    return contents


def test_local_files_and_folders_are_used_as_they_are(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a b.mp4").write_bytes(b"a")
    with local_copy(str(tmp_path / "a b.mp4"), folder) as source:
        assert source == LocalSource(tmp_path / "a b.mp4")
    assert (tmp_path / "a b.mp4").exists()
    with local_copy(f"frames://12.5@{tmp_path}", folder) as source:
        assert source == LocalSource(tmp_path, 12.5)
    assert tmp_path.is_dir() and list(folder.iterdir()) == []


def test_a_file_of_no_bytes_is_said_to_be_empty(tmp_path: Path, folder: Path, memory: MemoryFileSystem) -> None:
    (tmp_path / "a.mp4").touch()
    memory.pipe_file("/a.mp4", b"")
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        writer.write({"__key__": "a", "mp4": b""})
    for locator in (f"{tmp_path}/a.mp4", "memory://a.mp4", f"tar://a.mp4::{tmp_path}/0.tar"):
        with pytest.raises(SourceError) as raised, local_copy(locator, folder):
            pass
        assert raised.value.kind == "unreadable"
        assert str(raised.value) == f"the file is empty: {locator} has 0 bytes"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("locator", ["s3://bucket/a.mp4", "tar://a.mp4::s3://bucket/0.tar"])
def test_what_reads_a_url_and_is_not_installed_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, locator: str
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    told = r'cannot be read here: s3:// needs .*pip install "vtr\[s3\]"'
    with pytest.raises(SourceError, match=told), local_copy(locator, folder):
        pass


def test_members_of_a_shard_are_copied_and_removed(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = shard(tmp_path / "0.tar")
    read: list[Any] = []
    index = sources.read_index
    monkeypatch.setattr(sources, "read_index", lambda stream: read.append(stream) or index(stream))
    found = find_collection(tmp_path).locators
    assert len(found) == len(contents)
    for locator in found.values():
        with local_copy(str(locator), folder) as source:
            assert source.images_per_second is None and source.path.suffix == ".mp4"
            assert source.path.parent == folder and source.path.read_bytes() == contents[locator.member or ""]
        assert list(folder.iterdir()) == []
    assert len(read) == 1  # the shard is not searched for each of its members


def test_a_shard_that_was_written_anew_is_read_anew(tmp_path: Path, folder: Path) -> None:
    locator = str(Locator(str(tmp_path / "0.tar"), "sub/clip1.mp4"))
    for size in (100, 5000):
        contents = shard(tmp_path / "0.tar", size=size)
        with local_copy(locator, folder) as source:
            assert source.path.read_bytes() == contents["sub/clip1.mp4"]


def test_urls_and_shards_behind_urls_are_copied(tmp_path: Path, folder: Path, memory: MemoryFileSystem) -> None:
    contents = shard(tmp_path / "0.tar", size=3 << 20)
    memory.pipe("/data/0.tar", (tmp_path / "0.tar").read_bytes())
    memory.pipe("/data/a.webm", b"pictures" * 300_000)
    with local_copy("memory://data/a.webm", folder) as source:
        assert source.path.suffix == ".webm" and source.path.read_bytes() == b"pictures" * 300_000
    with local_copy("tar://sub/clip3.mp4::memory://data/0.tar", folder) as source:
        assert source.path.read_bytes() == contents["sub/clip3.mp4"]
    assert list(folder.iterdir()) == []


def test_the_frames_of_a_sample_become_a_folder(tmp_path: Path, folder: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        writer.write({"__key__": "in/a", "0001.jpg": b"1", "0002.jpg": b"22", "txt": "said"})
        writer.write({"__key__": "in/ab", "0001.jpg": b"other", "0002.jpg": b"other"})
    (locator, _) = find_collection(tmp_path, 25).locators.values()
    with local_copy(str(locator), folder) as source:
        assert source.images_per_second == 25
        assert {path.name: path.read_bytes() for path in source.path.iterdir()} == {"0001.jpg": b"1", "0002.jpg": b"22"}
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_leaves_is_found_by_the_folders_owner(tmp_path: Path, folder: Path) -> None:
    shard(tmp_path / "0.tar")
    with local_copy(f"tar://sub/clip0.mp4::{tmp_path}/0.tar", folder) as source:
        assert source.path.exists()
        remove_temporaries(folder)
        assert not source.path.exists()


def test_the_copy_is_removed_when_its_user_fails(tmp_path: Path, folder: Path) -> None:
    shard(tmp_path / "0.tar")
    with pytest.raises(RuntimeError), local_copy(f"tar://sub/clip0.mp4::{tmp_path}/0.tar", folder):
        raise RuntimeError
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("locator", "kind", "message"),
    [
        ("{tmp}/gone.mp4", "not_fetched", r"gone\.mp4 is not there, a file was expected"),
        ("{tmp}", "not_fetched", r"is not there, a file was expected"),
        ("frames://25@{tmp}/0.tar", "not_fetched", r"0\.tar is not there, a folder of images was expected"),
        ("frames://25@memory://x", "not_fetched", r"a folder of images must be on this machine or in a tar"),
        ("frames://25@tar://sub/none::{tmp}/0.tar", "not_fetched", r"0\.tar holds no file sub/none"),
        ("tar://sub/none.mp4::{tmp}/0.tar", "not_fetched", r"0\.tar holds no file sub/none\.mp4"),
        ("tar://sub/none.mp4::{tmp}/gone.tar", "not_fetched", r"gone\.tar is not there"),
        (
            "tar://sub/clip4.mp4::{tmp}/cut.tar",
            "truncated",
            r"cut\.tar is damaged \(.*\); sub/clip4\.mp4 is not before",
        ),
        ("tar://a.mp4::{tmp}/no.tar", "truncated", r"no\.tar is damaged"),
        ("tar://a.mp4", "not_fetched", r"tar://MEMBER::FILE\.tar was expected"),
        ("memory://nowhere/a.mp4", "not_fetched", r"memory://nowhere/a\.mp4 is not there"),
        ("nonsense://a.mp4", "not_fetched", r"nonsense://a\.mp4 cannot be read: ValueError: Protocol not known"),
    ],
)
def test_what_cannot_be_fetched_says_why(tmp_path: Path, folder: Path, locator: str, kind: str, message: str) -> None:
    shard(tmp_path / "0.tar")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:12_000])
    (tmp_path / "no.tar").write_bytes(b"no tar file" * 100)
    text = locator.replace("{tmp}", str(tmp_path))
    with pytest.raises(SourceError, match=message) as raised, local_copy(text, folder):
        pass
    assert raised.value.kind == kind and raised.value.reason == str(raised.value)
    assert list(folder.iterdir()) == []


def test_a_shard_cut_short_gives_its_whole_videos(tmp_path: Path, folder: Path) -> None:
    contents = shard(tmp_path / "0.tar")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:12_000])
    with local_copy(f"tar://sub/clip0.mp4::{tmp_path}/cut.tar", folder) as source:
        assert source.path.read_bytes() == contents["sub/clip0.mp4"]


class Hanging(MemoryFileSystem):
    """A file system that answers when it is let go."""

    protocol = "hanging"
    go_on = threading.Event()
    went_on = threading.Event()

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        self.go_on.wait()
        self.went_on.set()
        return super().open(path, mode, **options)


def test_a_file_system_that_hangs_is_given_up(folder: Path, memory: MemoryFileSystem) -> None:
    fsspec.register_implementation("hanging", Hanging, clobber=True)
    memory.pipe("/a.mp4", b"late")
    before = set(threading.enumerate())
    with (
        pytest.raises(SourceError, match="was not fetched within") as raised,
        local_copy("hanging://a.mp4", folder, timeout_seconds=0.01),
    ):
        pass
    assert raised.value.kind == "timeout"
    (thread,) = set(threading.enumerate()) - before
    Hanging.go_on.set()
    thread.join()
    assert Hanging.went_on.is_set() and list(folder.iterdir()) == []  # what came late is removed too


def test_a_full_disk_is_no_fault_of_the_video(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(tmp_path / "0.tar")
    name = uuid.UUID(int=7)
    monkeypatch.setattr(uuid, "uuid4", lambda: name)
    (folder / f".tmp-{os.getpid()}-{name.hex[:8]}.mp4").symlink_to("/dev/full")
    locator = f"tar://sub/clip0.mp4::{tmp_path}/0.tar"
    with pytest.raises(WorkspaceError, match=r"cannot write .*No space left on device"), local_copy(locator, folder):
        pass
    with pytest.raises(WorkspaceError, match="cannot write"), local_copy(locator, folder / "nowhere"):
        pass


def test_links_in_a_shard_are_not_taken_for_videos(tmp_path: Path, folder: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        link = tarfile.TarInfo("a.mp4")
        link.type, link.linkname = tarfile.LNKTYPE, "b.mp4"
        archive.addfile(link)
    with pytest.raises(SourceError, match="holds no file"), local_copy(f"tar://a.mp4::{tmp_path}/0.tar", folder):
        pass
