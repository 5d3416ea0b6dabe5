"""Batches: features gathered as a plain loop would, captions from the right video, parts never cut down silently."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import make_workspace

from vtr.config import DataConfig, TextConfig
from vtr.data.corpus import load_corpus, resolve_part
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.data.sampling import batches_per_epoch, epoch_batches
from vtr.data.texts import CaptionTable
from vtr.errors import ConfigError, WorkspaceError
from vtr.models.text import TextInput
from vtr.store.reader import FeatureStore
from vtr.types import ExpertFeatures
from vtr.workspace import Workspace


def table(dtype: str = "float32", **choice: Any) -> tuple[FeatureTable, dict[str, dict[str, ExpertFeatures]]]:
    draw = np.random.default_rng(0)
    features: dict[str, dict[str, ExpertFeatures]] = {"a": {}, "b": {}}
    for number in range(8):
        for name, dim in (("a", 3), ("b", 5)):
            if name == "b" and number % 3 == 0:
                continue
            count = 1 + number * 2 if name == "a" else 16 - number * 2
            start = np.arange(count, dtype=np.float32)
            values = draw.normal(size=(count, dim)).astype(dtype)
            features[name][f"v{number}"] = ExpertFeatures(values, start, start + 1)
    return FeatureTable([f"v{n}" for n in range(8)], features, {"b": 5, "a": 3}, FeatureChoice(**choice)), features


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    ("rows", "most"), [((7, 0, 3, 4), 4), ((0, 4, 2, 3), 30), ((7, 1), 30), ((6, 7), 30), ((3, 0), 30)], ids=str
)
def test_batches_equal_a_plain_loop(rows: tuple[int, ...], most: int, dtype: str, seed: int | None) -> None:
    """Some features or all of them; of videos in the middle and at the end of what is held; of none at all."""
    built, features = table(max_features=most, dtype=dtype)
    generator = None if seed is None else np.random.default_rng(seed)
    batch = built.batch(rows, generator)
    assert batch.ids == tuple(f"v{row}" for row in rows)
    for place, (name, expert) in enumerate(batch.experts.items()):
        for row, video_id in enumerate(batch.ids):
            found = features[name].get(video_id)
            mask = expert.mask[row]
            assert batch.present[row, place] == (found is not None)
            assert not expert.values[row][~mask].any()
            assert expert.mid_seconds[row][~mask].isnan().all()
            if found is None:
                assert not mask.any()
                assert not expert.aggregate[row].any()
                continue
            assert mask.sum() == min(most, len(found.values))
            assert expert.values.dtype == torch.float32
            seconds = expert.mid_seconds[row][mask]
            assert (seconds.diff() > 0).all(), "features are in order of time, none twice"
            expected = found.values[(seconds - 0.5).long().numpy()]
            np.testing.assert_array_equal(expert.values[row][mask].numpy(), expected)
            np.testing.assert_array_equal(expert.aggregate[row].numpy(), found.values.max(axis=0))


def test_evaluation_takes_evenly_spaced_features_and_training_all_of_them_in_time() -> None:
    built, _ = table(max_features=5)
    even = built.batch([7]).experts["a"].mid_seconds[0] - 0.5
    assert even.tolist() == [1, 4, 7, 10, 13]  # of 15
    generator = np.random.default_rng(0)
    seen = Counter(
        second for _ in range(200) for second in built.batch([7], generator).experts["a"].mid_seconds[0].tolist()
    )
    assert len(seen) == 15
    assert max(seen.values()) < 2 * min(seen.values())


def test_an_epoch_visits_every_video_once_a_pass_and_never_twice_in_a_batch() -> None:
    captions = {video: list(range(video * 10, video * 10 + 1 + video % 3)) for video in range(23)} | {99: []}
    config = DataConfig(batch_size=7, passes=3)
    batches = list(epoch_batches(captions, config, seed=1, epoch=2))
    assert len(batches) == batches_per_epoch(23, config)
    assert all(len({video for video, _ in batch}) == len(batch) for batch in batches)
    visits = Counter(video for batch in batches for video, _ in batch)
    assert set(visits.values()) == {3}
    assert 99 not in visits
    assert all(caption in captions[video] for batch in batches for video, caption in batch)
    assert batches == list(epoch_batches(captions, config, seed=1, epoch=2))
    assert batches != list(epoch_batches(captions, config, seed=1, epoch=3))


def test_a_last_batch_of_one_is_left_out() -> None:
    captions, config = {video: [video] for video in range(9)}, DataConfig(batch_size=4)
    assert [len(batch) for batch in epoch_batches(captions, config, seed=0, epoch=0)] == [4, 4]
    assert batches_per_epoch(9, config) == 2
    assert batches_per_epoch(10, config) == 3


def test_frozen_states_are_cached_and_equal_fresh_ones(toy: Workspace, tiny_bert: Path) -> None:
    corpus = load_corpus(toy, "toy", parts=("train",), available_only=False)
    captions = corpus.annotations.captions[:20]
    source = TextInput(TextConfig(model=str(tiny_bert), mode="frozen"))
    first = CaptionTable(captions, source, toy).batch([3, 0, 19])
    assert len(list(toy.cache.glob("*.npy"))) == 1
    again = CaptionTable(captions, source, toy).batch([3, 0, 19])
    assert first.states is not None
    assert again.states is not None
    assert torch.equal(first.states, again.states)
    fresh = source.states([captions[row].text for row in (3, 0, 19)])
    torch.testing.assert_close(first.states, fresh, atol=1e-5, rtol=1e-4)
    assert first.ids == tuple(captions[row].id for row in (3, 0, 19))


def test_a_corpus_says_what_is_missing(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", without_features=4)
    with pytest.raises(WorkspaceError, match=r"4 of 10 videos of toy test have no features.*--available-only"):
        load_corpus(workspace, "toy", parts=("test",), available_only=False)
    corpus = load_corpus(workspace, "toy", parts=("test",), available_only=True)
    assert str(corpus.coverage("test")) == "toy test: 6 of 10"
    assert len(corpus.queries("test")) == 18
    with pytest.raises(ConfigError, match=r"no expert 'motions'. Did you mean 'motion'\?"):
        load_corpus(workspace, "toy", ["motions"], parts=("test",), available_only=True)
    with pytest.raises(WorkspaceError, match=r"no split 'tox'. Did you mean 'toy'\? It has: toy, toy-single"):
        load_corpus(workspace, "tox", parts=("test",), available_only=True)


def test_the_part_a_command_means(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    assert resolve_part(workspace, "toy", None, None) == ("toy", "test")
    assert resolve_part(workspace, "toy", "val", None) == ("toy", "validation")
    assert resolve_part(workspace, "toy", "toy-single", "train") == ("toy-single", "train")
    with pytest.raises(ConfigError, match="contradicts"):
        resolve_part(workspace, "toy", "val", "test")
    no_test = make_workspace(tmp_path / "ws2", without_features=10)
    assert resolve_part(no_test, "toy", None, None) == ("toy", "validation")
    assert FeatureStore(no_test.features).experts == ("appearance", "motion")
