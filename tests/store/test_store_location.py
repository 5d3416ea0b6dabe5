"""The store behind an fsspec URL: the same content, and uploads that break off harm nothing."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from spooled import contents, extract, files, videos

from feature_extraction.compact import compact
from vtr.errors import WorkspaceError
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "ws")


@pytest.fixture
def url() -> str:
    """A place in memory that no other test uses."""
    return f"memory://store-{uuid.uuid4().hex}/features"


@pytest.mark.parametrize("kind", ["memory", "file", "path"])
def test_a_store_elsewhere_holds_the_same(workspace: Workspace, tmp_path: Path, url: str, kind: str) -> None:
    place = {"memory": url, "file": f"file://{tmp_path}/far", "path": str(tmp_path / "far")}[kind]
    workspace.set_location(place)
    near = Workspace.create(tmp_path / "near")
    for count in (5, 7, 9):
        extract(workspace, videos(*range(count)))
        extract(near, videos(*range(count)))
    again = Workspace.open(workspace.root)
    assert contents(again.store) == contents(near.features)
    assert files(workspace.features) == {}
    assert FeatureStore(again.store).fingerprint() == FeatureStore(near.features).fingerprint()
    assert compact(workspace, 4) == compact(near, 4).replace(str(near.root), str(workspace.root))
    assert contents(again.store) == contents(near.features)
    for expert in FeatureStore(again.store).experts:
        assert FeatureStore(again.store).verify(expert) == []
    if kind != "memory":
        assert isinstance(again.store, Path)
        assert files(tmp_path / "far") == files(near.features)


@pytest.mark.parametrize("at", range(5))
def test_an_upload_that_breaks_off_is_resumed(
    workspace: Workspace, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    workspace.set_location(url)
    left = at
    real = MemoryFileSystem.pipe_file

    def broken(self: MemoryFileSystem, path: str, value: bytes, *rest: object, **options: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionResetError("the connection was reset")
        real(self, path, value, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "pipe_file", broken)
        with pytest.raises(WorkspaceError, match=r"cannot write memory://.*the connection was reset"):
            extract(workspace, videos(*range(4)))
    for expert in FeatureStore(workspace.store).experts:
        assert FeatureStore(workspace.store).verify(expert) == []
    extract(workspace, videos(*range(4)))
    near = Workspace.create(tmp_path / "near")
    extract(near, videos(*range(4)))
    assert contents(workspace.store) == contents(near.features)
    assert FeatureStore(workspace.store).fingerprint() == FeatureStore(near.features).fingerprint()


def test_damage_elsewhere_is_named(workspace: Workspace, url: str) -> None:
    workspace.set_location(url)
    extract(workspace, videos(1, 2))
    store = FeatureStore(workspace.store)
    (path,) = store.shards("look")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(WorkspaceError, match=r"memory://.*part-.*\.parquet cannot be read .* Delete memory://"):
        store.read("look")
    assert len(store.verify("look")) == 2


def test_a_store_with_features_stays_where_it_is(workspace: Workspace, tmp_path: Path, url: str) -> None:
    workspace.set_location(str(workspace.features))
    extract(workspace, videos(1, 2))
    workspace.set_location(str(workspace.features))
    with pytest.raises(WorkspaceError, match=r"has features in .* already, they cannot go to memory://"):
        workspace.set_location(url)
    other = Workspace.create(tmp_path / "other")
    with pytest.raises(WorkspaceError, match="holds the features of another workspace"):
        other.set_location(str(workspace.features))


@pytest.mark.parametrize("place", ["nosuchthing://bucket/x", "abfs://container/x"])
def test_a_place_that_cannot_be_opened_is_named(workspace: Workspace, place: str) -> None:
    with pytest.raises(WorkspaceError, match=f"{place} cannot be opened"):
        workspace.set_location(place)
