"""Batches made on a device, and parts of batches, hold what batches made by numpy on the host hold, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from resident_cases import CPU, PLENTY, data, same, same_batch
from toy import make_workspace

from vtr.config import Selection, TextConfig
from vtr.data.corpus import load_corpus
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.data.resident import ROWS_AT_ONCE, put
from vtr.data.texts import CaptionTable
from vtr.models.text import TextInput
from vtr.store.reader import FeatureStore
from vtr.types import ExpertFeatures
from vtr.workspace import Workspace

DIMS = {"a": 3, "b": 5, "nowhere": 4}
SELECTIONS: tuple[Selection, ...] = ("spaced", "mmt", "first")


def table(dtype: str, **choice: Any) -> FeatureTable:
    """Return a table of 12 videos: all have `a`, some have `b`, none has `nowhere`."""
    draw = np.random.default_rng(0)
    features: dict[str, dict[str, ExpertFeatures]] = {name: {} for name in DIMS}
    for number in range(12):
        for name in ("a", "b") if number % 3 else ("a",):
            count = 1 + number if name == "a" else 14 - number
            start = np.arange(count, dtype=np.float32) if number % 4 else np.full(count, np.nan, np.float32)
            values = draw.normal(size=(count, DIMS[name])).astype(dtype)
            features[name][f"v{number}"] = ExpertFeatures(values, start, start + 1)
    return FeatureTable([f"v{n}" for n in range(12)], features, DIMS, FeatureChoice(**choice))


def _bytes(name: str, itemsize: int) -> int:
    """Return what an expert of `table` takes: values and seconds of its features, aggregates of its videos."""
    held = {"a": range(1, 13), "b": [14 - number for number in range(12) if number % 3], "nowhere": ()}[name]
    return sum(held) * (DIMS[name] * itemsize + 4) + len(held) * DIMS[name] * 4


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("most", [4, 30], ids=["thinned", "whole"])
@pytest.mark.parametrize("seed", [None, 5])
def test_batches_on_a_device_are_those_of_the_host(dtype: str, selection: Selection, most: int, seed: int) -> None:
    host = table(dtype, selection=selection, max_features=most, limits={"b": 3})
    there, taken = host.to(CPU, PLENTY)
    assert there.on_host == () and host.on_host == tuple(DIMS)
    assert taken == sum(_bytes(name, np.dtype(dtype).itemsize) for name in DIMS)
    for rows in ([11, 0, 3, 4], [0, 3], [7], list(range(12)), [5, 5, 2]):
        draws = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
        same(host.batch(rows, draws[0]), there.batch(rows, draws[1]))


def test_the_largest_experts_that_fit_go_to_the_device() -> None:
    host = table("float32")
    sizes = {name: _bytes(name, 4) for name in ("a", "b")}
    assert sizes["b"] > sizes["a"]
    for room, left in ((sizes["b"], ("a",)), (sizes["b"] - 1, ("b",)), (sizes["a"] - 1, ("a", "b"))):
        there, taken = host.to(CPU, room)
        assert there.on_host == left
        assert taken == sum(size for name, size in sizes.items() if name not in left)
        same(host.batch([1, 4, 3], np.random.default_rng(0)), there.batch([1, 4, 3], np.random.default_rng(0)))


def test_rows_are_put_on_a_device_some_after_the_others(tmp_path: Path) -> None:
    np.save(tmp_path / "values.npy", np.arange(3 * ROWS_AT_ONCE, dtype=np.float16).reshape(-1, 2) % 1000)
    values = np.load(tmp_path / "values.npy", mmap_mode="r")
    rows = np.random.default_rng(0).permutation(len(values))
    assert len(rows) > ROWS_AT_ONCE
    np.testing.assert_array_equal(put(values, CPU, rows).numpy(), np.array(values)[rows])
    np.testing.assert_array_equal(put(values, CPU).numpy(), values)


def test_the_features_of_other_videos_of_a_cache_stay_behind(toy: Workspace) -> None:
    store = FeatureStore(toy.store, toy.cache)
    ids, experts = ["v013", "unknown", "v004", "v019"], ["appearance", "motion"]
    host = FeatureTable.open(store, ids, experts, FeatureChoice(max_features=2))
    there, taken = host.to(CPU, PLENTY)
    found = {name: store.read(name, ids) for name in experts}
    assert taken == sum(f.values.nbytes + 4 * len(f.values) + 4 * f.dim for of in found.values() for f in of.values())
    for seed in (0, None):
        draws = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
        same(host.batch([3, 1, 0, 2], draws[0]), there.batch([3, 1, 0, 2], draws[1]))


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("most", [4, 30])
def test_parts_of_a_batch_hold_together_what_the_whole_does(selection: Selection, most: int, resident: bool) -> None:
    built = table("float16", selection=selection, max_features=most)
    built = built.to(CPU, PLENTY)[0] if resident else built
    rows = [0, 3, 11, 2, 5, 8, 1, 6]
    whole_draw = np.random.default_rng(9)
    whole = built.batch(rows, whole_draw)
    for cut in ((slice(0, 2), slice(2, 5), slice(5, None)), (slice(0, None, 2), slice(1, None, 2))):
        draws = [np.random.default_rng(9) for _ in cut]
        parts = [built.batch(rows, draw, part) for draw, part in zip(draws, cut, strict=True)]
        for draw in draws:
            assert draw.bit_generator.state == whole_draw.bit_generator.state, "draws do not depend on the part"
        for part, of_rows in zip(parts, cut, strict=True):
            assert part.ids == whole.ids[of_rows]
            assert torch.equal(part.present, whole.present[of_rows])
            for name, expert in part.experts.items():
                other = whole.experts[name]
                assert torch.equal(expert.mask.sum(1), other.mask[of_rows].sum(1))
                assert torch.equal(expert.aggregate, other.aggregate[of_rows])
                assert torch.equal(expert.values[expert.mask], other.values[of_rows][other.mask[of_rows]])
                seconds = expert.mid_seconds[expert.mask], other.mid_seconds[of_rows][other.mask[of_rows]]
                torch.testing.assert_close(*seconds, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("mode", ["frozen", "frozen_tokens", "fine_tuned"])
def test_captions_on_a_device_are_those_of_the_host(toy: Workspace, tiny_bert: Path, mode: str) -> None:
    corpus = load_corpus(toy, "toy", parts=("train",), available_only=False)
    source = TextInput(TextConfig(model=str(tiny_bert), mode=mode, max_tokens=8))  # type: ignore[arg-type]
    host = CaptionTable(corpus.captions("train"), source, toy)
    there, taken = host.to(CPU, PLENTY)
    assert there.dim == host.dim == 32
    for rows in ([5, 2, 0, 2], [7], list(range(40))):
        same(host.batch(rows), there.batch(rows))
    assert taken > 0
    assert host.to(CPU, taken)[1] == taken
    behind, nothing = host.to(CPU, taken - 1)
    assert nothing == 0
    same(behind.batch([1, 0]), host.batch([1, 0]))


def test_training_data_go_to_a_device_as_far_as_they_fit(
    tmp_path: Path, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = data(make_workspace(tmp_path / "ws"), tiny_bert)
    pairs = [(row, host.train[row][0]) for row in (0, 9, 4, 2)]
    wanted = host.batch(pairs, np.random.default_rng(0), CPU)
    _, of_captions = host.captions.to(CPU, PLENTY)
    sizes = sorted(host.table.to(CPU, PLENTY)[0].dims)
    assert sizes == ["appearance", "motion"]
    capsys.readouterr()
    for room, said in (
        (PLENTY, "of features and captions\n"),
        (of_captions, "of features and captions; the features of appearance, motion stay on the host"),
        (0, "; the features of appearance, motion and the captions stay on the host, as there is room for 0.00 GiB"),
    ):
        there = host.within(CPU, room)
        assert said in capsys.readouterr().err
        same_batch(there.batch(pairs, np.random.default_rng(0), CPU), wanted)
    assert host.to(CPU) is host


def test_a_part_of_the_pairs(toy: Workspace, tiny_bert: Path) -> None:
    host = data(toy, tiny_bert)
    pairs = [(row, host.train[row][1]) for row in (3, 8, 4, 11, 0)]
    whole = host.batch(pairs, np.random.default_rng(2), CPU)
    part = host.batch(pairs, np.random.default_rng(2), CPU, slice(1, None, 2))
    assert part.videos.ids == whole.videos.ids[1::2] == ("v008", "v011")
    assert part.texts.ids == whole.texts.ids[1::2] == ("v008#1", "v011#1")
    same(part.texts, host.captions.batch([pairs[1][1], pairs[3][1]]))
