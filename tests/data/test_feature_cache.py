"""The training cache gives what the store gives, to the bit, and follows it when it changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import make_workspace, write_features

from vtr.data.feature_cache import open_cached
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.errors import WorkspaceError
from vtr.store.reader import FeatureStore
from vtr.store.schema import encode_row
from vtr.store.writer import write_expert_manifest, write_shard
from vtr.types import ExpertFeatures, VideoBatch
from vtr.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """20 videos; a quarter lacks motion."""
    return make_workspace(tmp_path / "ws", videos=20)


def same(one: VideoBatch, other: VideoBatch) -> None:
    assert one.ids == other.ids
    assert torch.equal(one.present, other.present)
    for name, expert in one.experts.items():
        for field in ("values", "mid_seconds", "mask", "aggregate"):
            left, right = getattr(expert, field), getattr(other.experts[name], field)
            torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("aggregate", ["max", "mean"])
@pytest.mark.parametrize("seed", [None, 3])
def test_batches_are_those_of_the_store_in_memory(workspace: Workspace, aggregate: str, seed: int | None) -> None:
    choice = FeatureChoice(max_features=3, aggregate=aggregate)  # type: ignore[arg-type]
    store = FeatureStore(workspace.store, workspace.cache)
    ids = ["v013", "v000", "unknown", "v005", "v004", "v019"]
    experts = ("motion", "appearance")
    loaded, opened = FeatureTable.load(store, ids, experts, choice), FeatureTable.open(store, ids, experts, choice)
    for rows in ([0, 1, 2, 3, 4, 5], [2], [5, 5, 1]):
        draws = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
        same(loaded.batch(rows, draws[0]), opened.batch(rows, draws[1]))


def test_an_expert_that_found_nothing_anywhere(workspace: Workspace) -> None:
    store = FeatureStore(workspace.store, workspace.cache)
    nothing = np.zeros((1, 5), np.float32)
    write_features(workspace, "empty", {"v001": ExpertFeatures(nothing, nothing[:, 0], nothing[:, 0])}, ["v001"], {})
    shard = store.shards("empty")[0]
    checksum = write_shard(shard, store.spec("empty"), [], ["v001"], {})
    counts = {"examined": 1, "present": 0}
    write_expert_manifest(
        shard.parent,
        store.spec("empty"),
        {shard.name: checksum},
        inputs={},
        config={},
        counts=counts,
        counts_by_shard={},
    )
    loaded, opened = (make(store, ["v001", "v002"], ["empty"]) for make in (FeatureTable.load, FeatureTable.open))
    same(loaded.batch([0, 1]), opened.batch([0, 1]))


def test_mixed_precisions_come_as_float32(workspace: Workspace) -> None:
    store = FeatureStore(workspace.store, workspace.cache)
    spec, held = store.spec("motion"), store.read("motion")
    rows = [encode_row(v, f, None, "float16" if n % 2 else "float32") for n, (v, f) in enumerate(held.items())]
    shard = store.shards("motion")[0]
    checksum = write_shard(shard, spec, rows, [row["video_id"] for row in rows], {})
    write_expert_manifest(
        shard.parent, spec, {shard.name: checksum}, inputs={}, config={}, counts={}, counts_by_shard={}
    )
    loaded, opened = (make(store, list(held), ["motion"]) for make in (FeatureTable.load, FeatureTable.open))
    same(loaded.batch(range(len(held))), opened.batch(range(len(held))))


def test_values_are_mapped_and_made_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(workspace.store, workspace.cache)
    first = open_cached(store, workspace.cache, "motion", "max")
    assert isinstance(first.values.base, np.memmap)
    assert not first.values.flags.writeable
    wanted = store.read("motion", ["v001"])["v001"].values
    monkeypatch.setattr(FeatureStore, "stream", None)  # the shards stay closed
    again = open_cached(store, workspace.cache, "motion", "mean")
    np.testing.assert_array_equal(again.values, first.values)
    row = again.row_of["v001"]
    np.testing.assert_array_equal(again.values[again.offsets[row] : again.offsets[row + 1]], wanted)
    np.testing.assert_array_equal(again.aggregate[row], wanted.mean(axis=0, dtype=np.float32))


def test_features_that_change_take_the_place_of_the_old(workspace: Workspace) -> None:
    store = FeatureStore(workspace.store, workspace.cache)
    open_cached(store, workspace.cache, "motion", "max")
    (workspace.cache / "features" / "motion" / ".tmp-1-x").mkdir()  # a killed run left it
    times = np.zeros(2, np.float32)
    new = ExpertFeatures(np.ones((2, 8), np.float32), times, times)
    write_features(workspace, "motion", {"v001": new}, ["v001"], {})
    opened = FeatureTable.open(store, ["v001", "v002"], ["motion"])
    assert opened.batch([0, 1]).experts["motion"].mask.sum() == 2
    left = [path.name for path in (workspace.cache / "features" / "motion").iterdir() if path.name != ".lock"]
    assert left == [store.fingerprint(["motion"])]


def change_after(monkeypatch: pytest.MonkeyPatch, method: str, change: Callable[[], None]) -> None:
    """Have the store change just after one of its methods has read it."""
    real = getattr(FeatureStore, method)

    def changed(*arguments: object) -> object:
        answer = real(*arguments)
        answer = iter(list(answer)) if method == "stream" else answer
        change()
        return answer

    monkeypatch.setattr(FeatureStore, method, changed)


@pytest.mark.parametrize("method", ["fingerprint", "counts", "stream"])
def test_a_store_that_changes_while_it_is_read_is_read_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """An extraction lists one more video, whose rows come before those of the others."""
    store = FeatureStore(workspace.store, workspace.cache)
    held, times = store.read("motion"), np.zeros(3, np.float32)
    grown = {"first": ExpertFeatures(np.ones((3, 8), np.float32), times, times), **held}
    left = [grown]

    def list_one_more() -> None:
        if left:
            write_features(workspace, "motion", left.pop(), list(grown), {})

    with monkeypatch.context() as patch:
        change_after(patch, method, list_one_more)
        cached = open_cached(store, workspace.cache, "motion", "max")
    assert list(cached.row_of) == list(grown)
    for video_id, row in cached.row_of.items():
        values = cached.values[cached.offsets[row] : cached.offsets[row + 1]]
        np.testing.assert_array_equal(values, grown[video_id].values)
    kept = [path.name for path in (workspace.cache / "features" / "motion").iterdir() if path.name != ".lock"]
    assert kept == [store.fingerprint(["motion"])]


def test_a_store_that_never_rests_is_not_cached(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(workspace.store, workspace.cache)
    held = store.read("motion")

    def take_one_away() -> None:
        held.popitem()
        write_features(workspace, "motion", held, list(held), {})

    change_after(monkeypatch, "counts", take_one_away)
    with pytest.raises(WorkspaceError, match=r"motion features in .* changed 5 times .* `vtr extract` has ended"):
        open_cached(store, workspace.cache, "motion", "max")
    assert [path.name for path in (workspace.cache / "features" / "motion").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_says_so(workspace: Workspace) -> None:
    workspace.cache.mkdir()
    (workspace.cache / "features").write_text("in the way")
    store = FeatureStore(workspace.store, workspace.cache)
    with pytest.raises(WorkspaceError, match=r"cannot write .*cache/features/motion"):
        FeatureTable.open(store, ["v001"], ["motion"])
