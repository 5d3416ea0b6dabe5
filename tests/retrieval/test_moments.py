"""The best moment: how a video is cut, that the best window wins, and that nothing else changes it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize
from toy import make_workspace

from vtr.config import MMTConfig
from vtr.data.feature_cache import find_cached, open_cached
from vtr.data.features import FeatureChoice
from vtr.models.base import RetrievalModel
from vtr.retrieval import Moment, Stretch, moments
from vtr.retrieval.moments import Moments, cut
from vtr.retrieval.stored import Features, StoredFeatures
from vtr.store.reader import FeatureStore
from vtr.types import ExpertFeatures, TextBatch, TextEmbeddings, VideoBatch, VideoEmbeddings
from vtr.workspace import Workspace

DIMS = {"appearance": 6, "speech": 6}


class Means(RetrievalModel):
    """An expert's vector is the mean of its features, so that what a window matches can be read off."""

    def __init__(self) -> None:
        super().__init__(MMTConfig(), DIMS, 1)
        self.embedded: list[int] = []

    def embed_videos(self, videos: VideoBatch) -> VideoEmbeddings:
        self.embedded.append(len(videos.ids))
        means = [
            (e.values * e.mask[..., None]).sum(1) / e.mask.sum(1, keepdim=True).clamp_min(1)
            for e in videos.experts.values()
        ]
        return VideoEmbeddings(videos.ids, normalize(torch.stack(means, 1), dim=-1), videos.present)

    def embed_texts(self, texts: TextBatch) -> TextEmbeddings:
        raise NotImplementedError


class Given(StoredFeatures):
    """Stands in for a store: features that are given."""

    def __init__(self, features: dict[str, Features]) -> None:
        self.features = features
        self.asked: list[str] = []

    def read(self, video_ids: object) -> dict[str, Features]:
        names = sorted(video_ids)  # type: ignore[call-overload]
        self.asked += names
        return {name: self.features[name] for name in names if name in self.features}


def features(spans: list[tuple[float, float]], values: NDArray[np.float32]) -> ExpertFeatures:
    starts, ends = (np.array(edge, np.float32) for edge in zip(*spans, strict=True))
    return ExpertFeatures(values, starts, ends)


def one_hot(*places: int) -> NDArray[np.float32]:
    return np.eye(6, dtype=np.float32)[list(places)]


def asks(place: int, expert: int = 0) -> TextEmbeddings:
    """Return a query that asks one expert for one of the six directions."""
    vectors = torch.from_numpy(one_hot(place, place))[None]
    weights = torch.zeros(1, 2)
    weights[0, expert] = 1
    return TextEmbeddings(("",), vectors, weights)


def seconds_of(video: list[int]) -> dict[str, ExpertFeatures]:
    """Return a video that shows one direction a second."""
    return {"appearance": features([(s, s + 1) for s in range(len(video))], one_hot(*video))}


def test_the_stretch_that_matches_is_found() -> None:
    video = seconds_of([0, 0, 0, 0, 1, 1, 2, 2, 0, 0])
    best = Moments(Means(), FeatureChoice(), Given({"v": video})).best
    assert best(asks(1), ["v"]) == [Moment(4, 6)]
    assert best(asks(2), ["v"]) == [Moment(6, 8)]
    assert best(asks(0), ["v"]) == [Moment(0, 2)]  # the first of three that are equally good
    assert best(asks(5), ["v"]) == [Moment(0, 2)]


def test_what_is_said_finds_its_moment_too() -> None:
    """The experts' times differ, and a long feature is in each window whose middle it covers."""
    video = seconds_of([0] * 12) | {"speech": features([(0, 5.5), (7.1, 7.5)], one_hot(3, 4))}
    best = Moments(Means(), FeatureChoice(), Given({"v": video})).best
    assert best(asks(4, expert=1), ["v"]) == [Moment(6, 8)]
    inside = [window.moment for window in cut(video) if "speech" in window.features]
    assert inside == [Moment(0, 2), Moment(2, 4), Moment(4, 6), Moment(6, 8)]


def test_windows_hold_each_feature_and_count_time_from_their_beginning() -> None:
    video = seconds_of(list(range(5)) * 8)  # 40 seconds
    windows = cut(video)
    assert [window.moment for window in windows] == [Moment(5 * n, 5 * n + 5) for n in range(8)]
    for window in windows:
        held = window.features["appearance"]
        np.testing.assert_array_equal(held.values, one_hot(0, 1, 2, 3, 4))
        np.testing.assert_array_equal(held.start_seconds, [0, 1, 2, 3, 4])
        np.testing.assert_array_equal(held.end_seconds, [1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 1.5), (1.5, 3.9)], [(0, 3.9)]),  # short: the whole
        ([(0.5, 1), (1, 4.5)], [(0.5, 2.5), (2.5, 4.5)]),
        ([(np.nan, np.nan)], []),
        ([(1, 1), (5, 5)], [(1, 3), (3, 5)]),  # points in time; the last one counts
        ([(0, 1), (7, 8)], [(0, 2), (6, 8)]),  # nothing is in between
    ],
)
def test_how_a_video_is_cut(spans: list[tuple[float, float]], expected: list[tuple[float, float]]) -> None:
    windows = cut({"appearance": features(spans, np.ones((len(spans), 6), np.float32))})
    found = [(window.moment.start_seconds, window.moment.end_seconds) for window in windows]
    np.testing.assert_allclose(np.array(found).reshape(-1, 2), np.array(expected).reshape(-1, 2), atol=1e-6)


def test_features_without_time_are_in_every_window() -> None:
    video = seconds_of([0, 0, 1, 1]) | {"speech": features([(np.nan, np.nan)], one_hot(2))}
    windows = cut(video)
    assert len(windows) == 2
    for window in windows:
        assert np.isnan(window.features["speech"].start_seconds).all()
        np.testing.assert_array_equal(window.features["speech"].values, one_hot(2))


def test_a_part_of_a_video_bounds_its_moment() -> None:
    video = seconds_of([1, 1, 0, 0, 2, 2, 1, 1])
    items = {"v@2-6": Stretch("v", 2, 6), "v@0-1": Stretch("v", 0, 1), "w@0-4": Stretch("w", 0, 4)}
    best = Moments(Means(), FeatureChoice(), Given({"v": video}), items).best
    assert best(asks(1), ["v@2-6", "v@0-1", "w@0-4"]) == [Moment(2, 4), Moment(0, 1), Moment(0, 4)]
    assert best(asks(2), ["v@2-6"]) == [Moment(4, 6)]


def test_a_video_without_features_has_no_moment() -> None:
    best = Moments(Means(), FeatureChoice(), Given({"v": seconds_of([0, 1, 2, 3])})).best
    assert best(asks(3), ["nothing", "v", "nothing"]) == [None, Moment(2, 4), None]


def test_embeddings_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six videos in four windows of two experts of 6 float32: room for three of them."""
    monkeypatch.setattr(moments, "HELD_BYTES", 3 * 4 * 2 * 6 * 4)
    monkeypatch.setattr(moments, "WINDOWS_AT_ONCE", 5)
    names = [f"v{number}" for number in range(6)]
    stored = Given({name: seconds_of([0, 0, 1, 1, 2, 2, number, number]) for number, name in enumerate(names)})
    model = Means()
    found = Moments(model, FeatureChoice(), stored)
    assert found.best(asks(5), names)[5] == Moment(6, 8)
    assert sum(model.embedded) == 24 and max(model.embedded) == 5
    assert found.best(asks(2), ["v3", "v5", "v4"]) == [Moment(4, 6)] * 3
    assert sum(model.embedded) == 24  # those used last are still there
    assert found.best(asks(2), ["v0", "v3"]) == [Moment(4, 6)] * 2
    assert stored.asked == [*names, "v0"]


def test_several_threads_find_what_one_does() -> None:
    generator = np.random.default_rng(0)
    names = [f"v{number}" for number in range(30)]
    videos = {name: seconds_of(generator.integers(0, 6, 16).tolist()) for name in names}
    expected = [Moments(Means(), FeatureChoice(), Given(videos)).best(asks(place), names) for place in range(6)]
    shared = Moments(Means(), FeatureChoice(), Given(videos))
    answers: dict[int, list[Moment | None]] = {}

    def ask(place: int) -> None:
        for at in range(0, 30, 7):
            answers.setdefault(place, []).extend(shared.best(asks(place), names[at : at + 7]))

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[place] for place in range(6)] == expected


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ws")


@pytest.mark.parametrize("cached", [False, True])
def test_stored_features_equal_the_stores(workspace: Workspace, cached: bool) -> None:
    store = FeatureStore(workspace.store, workspace.cache)
    if cached:
        for name in store.experts:
            open_cached(store, workspace.cache, name, "max")
    assert all((find_cached(store, name, "max") is not None) == cached for name in store.experts)
    times = {name: store.times(name) for name in store.experts}
    stored = StoredFeatures(store, [*store.experts, "not in the store"], times, "max")
    every = {name: store.read(name) for name in store.experts}
    ids = sorted(store.with_features())
    found = stored.read([*ids[:3], "nobody", ids[-1]])
    assert set(found) == {*ids[:3], ids[-1]}
    for video_id, by_expert in found.items():
        assert set(by_expert) == {name for name, held in every.items() if video_id in held}
        for name, held in by_expert.items():
            right = every[name][video_id]
            np.testing.assert_array_equal(held.values, right.values)
            np.testing.assert_array_equal(held.start_seconds, right.start_seconds)
            np.testing.assert_array_equal(held.end_seconds, right.end_seconds)
