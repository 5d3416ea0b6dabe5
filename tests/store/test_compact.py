"""Compaction: fewer shards, the same rows, at every moment of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from spooled import contents, extract, files, videos

from feature_extraction.compact import compact
from feature_extraction.plan import read_groups
from vtr.errors import WorkspaceError
from vtr.files import lock, write_json
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace


@pytest.fixture
def grown(tmp_path: Path) -> Workspace:
    """A workspace with shards of 4, 1, 2, 2 and 2 videos; one video has failed."""
    workspace = Workspace.create(tmp_path / "ws")
    for count in (5, 7, 9, 11):
        extract(workspace, videos(*range(count)), fail=["v8"])
    return workspace


def check_whole(workspace: Workspace) -> None:
    store = FeatureStore(workspace.features)
    for expert in store.experts:
        assert store.verify(expert) == []
        assert len(store.video_ids(expert)) == len(set(store.video_ids(expert)))


def test_small_shards_become_full_ones(grown: Workspace) -> None:
    before, prints = contents(grown.features), FeatureStore(grown.features).fingerprint()
    full = next(group for group in read_groups(grown.features) if len(group.ids) == 4)
    kept = (grown.features / "look" / full.name).read_bytes()
    assert compact(grown, 4) == f"{grown.root}: 8 small shards of 2 experts merged into 4"
    groups = read_groups(grown.features)
    assert sorted(len(group.ids) for group in groups) == [3, 4, 4]
    assert {Path(name).name for name in files(grown.features)} == {group.name for group in groups}
    assert (grown.features / "look" / full.name).read_bytes() == kept
    assert contents(grown.features) == before
    assert FeatureStore(grown.features).fingerprint() == prints  # what was trained on it stays current
    check_whole(grown)
    assert compact(grown, 4) == f"{grown.root}: nothing to merge"


def test_extraction_goes_on_after_it(grown: Workspace) -> None:
    compact(grown, 4)
    extract(grown, videos(*range(14)))
    store = FeatureStore(grown.features)
    assert store.examined("look") == {f"v{n}" for n in range(14)}
    check_whole(grown)


def stopping(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Make the process die before its `at`-th write or removal."""
    left = at

    def count(real: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return counted

    import vtr.files

    write = count(vtr.files.write_bytes)
    monkeypatch.setattr("vtr.store.writer.write_bytes", write)
    monkeypatch.setattr("vtr.files.write_bytes", write)
    monkeypatch.setattr(Path, "unlink", count(Path.unlink))


@pytest.mark.parametrize("grow_between", [False, True])
def test_killed_at_any_moment_nothing_is_lost_or_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grow_between: bool
) -> None:
    at = 0
    while True:
        workspace = Workspace.create(tmp_path / f"ws{at}")
        for count in (3, 4, 5):
            extract(workspace, videos(*range(count)), size=3, fail=["v1"])
        before = contents(workspace.features)
        finished = True
        with monkeypatch.context() as patch:
            stopping(patch, at)
            try:
                compact(workspace, 4)
            except KeyboardInterrupt:
                finished = False
        assert contents(workspace.features) == before
        check_whole(workspace)
        if grow_between:  # v1 is read at last, and more has come
            extract(workspace, videos(*range(7)), size=3)
            before = contents(workspace.features)
            check_whole(workspace)
        compact(workspace, 4)
        assert contents(workspace.features) == before
        check_whole(workspace)
        names = {path.name for path in FeatureStore(workspace.features).shards("look")}
        assert names <= {group.name for group in read_groups(workspace.features)}
        assert {Path(name).name for name in files(workspace.features)} == names
        if finished:
            break
        at += 1
    assert at > 15


@pytest.mark.parametrize("already_read", range(5))
def test_a_reader_under_way_gets_every_video_once(grown: Workspace, already_read: int) -> None:
    store = FeatureStore(grown.features)
    features, finds = store.read("look"), list(store.found_texts("words"))
    reading, hearing = store.stream("look"), store.found_texts("words")
    taken = [next(reading) for _ in range(2 * already_read)]
    heard = [next(hearing) for _ in range(2 * already_read)]
    compact(grown, 11)
    taken += reading
    heard += hearing
    assert len(taken) == len(features)
    for video_id, found in taken:
        assert found.values.tobytes() == features[video_id].values.tobytes()
    by_video = [sorted(map(repr, texts)) for texts in (heard, finds)]
    assert by_video[0] == by_video[1]


def test_ids_listed_before_are_found_after(grown: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(grown.features)
    examined, listed = store.examined("look"), store.shards("look")
    compact(grown, 11)
    real = FeatureStore.shards
    answers = [listed]
    monkeypatch.setattr(FeatureStore, "shards", lambda self, expert: answers.pop() if answers else real(self, expert))
    assert store.examined("look") == examined


def test_it_waits_for_nobody_and_leaves_imports_alone(grown: Workspace) -> None:
    with lock(grown.features / ".lock", "test"), pytest.raises(WorkspaceError, match=r"process .* is already at it"):
        compact(grown)
    write_json(grown.root / "import.json", {"format": 1})
    with pytest.raises(WorkspaceError, match="were imported"):
        compact(grown)
