"""The index against sorting the scores of plain loops, in both directions, with and without missing experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from vtr.embeddings import EmbeddedPart
from vtr.errors import ConfigError, WorkspaceError
from vtr.files import read_json, write_json
from vtr.index import gallery, ranking
from vtr.index.build import Settings, build_index, held_settings, is_current
from vtr.index.search import RetrievalIndex
from vtr.similarity import exact_scores
from vtr.types import TextEmbeddings, VideoEmbeddings
from vtr.workspace import MANIFEST

MakePart = Callable[..., EmbeddedPart]


def loop_scores(texts: TextEmbeddings, videos: VideoEmbeddings) -> NDArray[np.float64]:
    """Return [T, V] by the definition, one pair and one expert at a time."""
    text_vectors, weights = texts.vectors.double().numpy(), texts.weights.double().numpy()
    video_vectors, present = videos.vectors.double().numpy(), videos.present.double().numpy()
    scores = np.zeros((len(texts.ids), len(videos.ids)))
    for t in range(scores.shape[0]):
        for v in range(scores.shape[1]):
            counts = weights[t] * present[v]
            if counts.sum() > 0:
                cosines = [float(a @ b) for a, b in zip(text_vectors[t], video_vectors[v], strict=True)]
                scores[t, v] = counts @ cosines / counts.sum()
    return scores


def best(scores: NDArray[np.float64], wanted: int) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable")[:, :wanted]


def opened(folder: Path, part: EmbeddedPart) -> RetrievalIndex:
    build_index(folder, part, embed_output="abc")
    return RetrievalIndex.open(folder, part, embed_output="abc")


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize(
    ("small", "gather_cost"),
    [(1000, 16), (10, 1), (10, 16)],  # FAISS lists all; few candidates, widened; few candidates, then all
)
def test_both_directions_equal_sorted_loops(
    tmp_path: Path, make_part: MakePart, monkeypatch: pytest.MonkeyPatch, missing: float, small: int, gather_cost: int
) -> None:
    monkeypatch.setattr(ranking, "SMALL", small)
    monkeypatch.setattr(ranking, "FIRST_CANDIDATES", 3)
    monkeypatch.setattr(ranking, "GATHER_COST", gather_cost)
    part = make_part(40, 3, missing)
    index = opened(tmp_path, part)
    scores = loop_scores(part.texts, part.videos)
    for found, expected in (
        (index.videos_for(part.texts, 5), scores),
        (index.captions_for(part.videos, 7), scores.T),
    ):
        wanted = found.rows.shape[1]
        np.testing.assert_array_equal(found.rows, best(expected, wanted))
        np.testing.assert_allclose(found.scores, np.take_along_axis(expected, found.rows, 1), atol=1e-6)


def test_masked_experts_need_the_widening(make_part: MakePart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the numerator misleads, the first candidates alone would give another answer."""
    part = make_part(60, 1, 0.6, seed=3)
    index = opened(tmp_path, part)
    right = best(loop_scores(part.texts, part.videos), 3)
    monkeypatch.setattr(ranking, "SMALL", 10)
    monkeypatch.setattr(ranking, "GATHER_COST", 0)
    monkeypatch.setattr(ranking, "FIRST_CANDIDATES", 6)
    np.testing.assert_array_equal(index.videos_for(part.texts, 3).rows, right)
    monkeypatch.setattr(ranking, "_ceiling", lambda last, *_: np.full(len(last), -np.inf))  # never widen
    assert (index.videos_for(part.texts, 3).rows != right).any()


@pytest.mark.parametrize("copies", [1, 40])
def test_unmasked_galleries_need_few_candidates_and_keep_the_order_of_ties(
    tmp_path: Path, make_part: MakePart, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    """Every video, and every caption, is there `copies` times: more often than candidates are spared."""
    part = make_part(600 // copies, 1, dim=4)
    again = torch.arange(600 // copies * copies) % (600 // copies)
    ids = tuple(f"n{row}" for row in range(len(again)))
    videos = VideoEmbeddings(ids, part.videos.vectors[again], torch.ones((len(again), 4)))
    texts = TextEmbeddings(ids, part.texts.vectors[again], part.texts.weights[again])
    index = opened(tmp_path, EmbeddedPart(part.experts, videos, texts, ids, np.arange(len(again)), part.coverage))
    monkeypatch.setattr(ranking, "SMALL", 10)
    monkeypatch.setattr(ranking, "GATHER_COST", 0)
    listed: list[int] = []
    nearest = ranking.Gallery.nearest

    def counting(gallery: ranking.Gallery, asked: Any, count: int, allowed: Any = None) -> Any:
        listed.append(count)
        return nearest(gallery, asked, count, allowed)

    monkeypatch.setattr(ranking.Gallery, "nearest", counting)
    scores = exact_scores(texts, videos).numpy().astype(np.float64)
    for search, expected in ((index.videos_for, scores), (index.captions_for, scores.T)):
        found = search(texts if search == index.videos_for else videos, 5)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.rows, best(expected, 5))
        assert listed[0] == 5 + ranking.SPARE
        assert (len(listed) > 1) == (copies > 1)
        listed.clear()


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.float32, (3, 9), elements=st.one_of(st.sampled_from([0.0, -0.0, 0.5, -0.5]), st.floats(-1, 1, width=32))),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_the_best_of_candidates_in_order(scores: NDArray[np.float32], wanted: int, random: Random) -> None:
    """Against sorting Python tuples: falling score, then rising row."""
    candidates = np.asarray([random.sample(range(70_000), 9) for _ in range(3)])
    rows, kept = ranking._best(candidates, scores, wanted)
    for query in range(3):
        pairs = sorted(zip((-scores[query]).tolist(), candidates[query].tolist(), strict=True))[:wanted]
        assert rows[query].tolist() == [row for _, row in pairs]
        assert kept[query].tolist() == [-score for score, _ in pairs]


def test_blocks_do_not_change_answers(make_part: MakePart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = make_part(30, 4, 0.3)
    index = opened(tmp_path, part)
    whole = index.videos_for(part.texts, 30), index.captions_for(part.videos, 120)
    monkeypatch.setattr(ranking, "BLOCK_SCORES", 100)
    for before, after in zip(
        whole, (index.videos_for(part.texts, 30), index.captions_for(part.videos, 120)), strict=True
    ):
        np.testing.assert_array_equal(before.rows, after.rows)
        np.testing.assert_array_equal(before.scores, after.scores)


@pytest.mark.parametrize("at_once", [1, 100, 700])
def test_the_nearest_are_found_block_by_block(
    make_part: MakePart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    part = make_part(50)
    index = opened(tmp_path, part)
    monkeypatch.setattr(gallery, "SCORES_AT_ONCE", at_once)
    asked = part.texts.vectors[:7].flatten(1).numpy()
    products = asked.astype(np.float64) @ part.videos.vectors.flatten(1).double().numpy().T
    numerators, rows = index._videos.nearest(asked, 5)
    assert rows.tolist() == best(products, 5).tolist()
    np.testing.assert_allclose(numerators, -np.sort(-products, axis=1)[:, :5], atol=1e-6)


def test_videos_with_no_expert_score_nothing_and_are_still_listed(make_part: MakePart, tmp_path: Path) -> None:
    part = make_part(6, 2)
    present = part.videos.present.clone()
    present[2] = 0
    part = replace(part, videos=replace(part.videos, present=present))
    found = opened(tmp_path, part).videos_for(part.texts, 6)
    assert (np.sort(found.rows, axis=1) == np.arange(6)).all()
    assert (found.scores[found.rows == 2] == 0).all()


def test_more_wanted_than_there_are(make_part: MakePart, tmp_path: Path) -> None:
    part = make_part(4, 1)
    assert opened(tmp_path, part).videos_for(part.texts, 50).rows.shape == (4, 4)


def test_a_part_without_captions_is_searched_with_words_only(make_part: MakePart, tmp_path: Path) -> None:
    part, queries = make_part(5, 0), make_part(5, 1).texts
    index = opened(tmp_path, part)
    np.testing.assert_array_equal(index.videos_for(queries, 2).rows, best(loop_scores(queries, part.videos), 2))
    with pytest.raises(WorkspaceError, match="full test: 5 of 5 has no captions"):
        index.captions_for(part.videos, 1)


def test_queries_of_another_model_are_refused(make_part: MakePart, tmp_path: Path) -> None:
    index = opened(tmp_path, make_part(5))
    with pytest.raises(ValueError, match=r"\(5, 4, 9\).*same experts"):
        index.captions_for(make_part(5, dim=9).videos, 1)


def test_equal_embeddings_tie_whatever_they_are_computed_with(make_part: MakePart) -> None:
    part = make_part(50, 2, 0.3, dim=37)
    twins = np.arange(100) % 3  # every text is one of three
    chosen = torch.from_numpy(twins)
    texts = TextEmbeddings(part.texts.ids, part.texts.vectors[chosen], part.texts.weights[chosen])
    scores = exact_scores(texts, part.videos, block=7).numpy()
    np.testing.assert_array_equal(scores, scores[twins])
    np.testing.assert_array_equal(scores, exact_scores(texts, part.videos, block=100).numpy())
    np.testing.assert_allclose(scores, loop_scores(texts, part.videos), atol=1e-6)


def test_index_of_other_embeddings(make_part: MakePart, tmp_path: Path) -> None:
    part = make_part(5)
    build_index(tmp_path, part, embed_output="abc")
    assert is_current(tmp_path, "abc", Settings())
    assert not is_current(tmp_path, "def", Settings())
    assert not is_current(tmp_path / "nowhere", "abc", Settings())
    with pytest.raises(WorkspaceError, match=r"made from embed abc, but embed is now def. Run `vtr index RUN`"):
        RetrievalIndex.open(tmp_path, part, embed_output="def")
    renamed = replace(part, videos=replace(part.videos, ids=tuple("abcde")))
    with pytest.raises(WorkspaceError, match="ids are not those of the 5 videos"):
        RetrievalIndex.open(tmp_path, renamed, embed_output="abc")


@pytest.mark.parametrize("name", ["videos.f32", "captions.arrow", "videos.keys", "captions.owners"])
def test_damaged_index(make_part: MakePart, tmp_path: Path, name: str) -> None:
    part = make_part(5)
    build_index(tmp_path, part, embed_output="abc")
    path = tmp_path / "000001" / name
    content = path.read_bytes()
    for damage in (content[: len(content) // 2], bytes([content[0] ^ 1]) + content[1:]):
        path.write_bytes(damage)
        with pytest.raises(
            WorkspaceError, match=f"damaged: 000001/{name} has changed since.*run `vtr index RUN` again"
        ):
            RetrievalIndex.open(tmp_path, part, embed_output="abc")
    path.unlink()
    with pytest.raises(WorkspaceError, match=f"{name} is missing"):
        RetrievalIndex.open(tmp_path, part, embed_output="abc")


def test_damage_behind_a_right_checksum(make_part: MakePart, tmp_path: Path) -> None:
    """What a checksum cannot see: an index that was written wrong."""
    part, other = make_part(5), make_part(5, seed=1)
    build_index(tmp_path, other, embed_output="abc")
    index = RetrievalIndex.open(tmp_path, part, embed_output="abc")
    with pytest.raises(WorkspaceError, match="index of the videos holds other vectors"):
        index.check(part)
    swapped = replace(part, texts=replace(part.texts, weights=part.texts.weights.flip(1)))
    with pytest.raises(WorkspaceError, match="index of the captions holds other vectors"):
        opened(tmp_path, part).check(swapped)
    opened(tmp_path, part).check(part)
    manifest = read_json(tmp_path / "manifest.json")
    write_json(tmp_path / "manifest.json", manifest | {"dim": 9})
    with pytest.raises(WorkspaceError, match=r"videos.f32 holds 640 bytes, \(5, 36\) of float32 were expected"):
        RetrievalIndex.open(tmp_path, part, embed_output="abc")


def test_unfinished_index(make_part: MakePart, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"not there or not finished\. Run `vtr index RUN`"):
        RetrievalIndex.open(tmp_path / "full-test", make_part(5), embed_output="abc")


def approximate(folder: Path, part: EmbeddedPart, factory: str, parameters: str = "") -> RetrievalIndex:
    build_index(folder, part, embed_output="abc", factory=factory, parameters=parameters)
    return RetrievalIndex.open(folder, part, embed_output="abc")


def test_an_approximate_index_ranks_its_candidates_by_the_score(tmp_path: Path, make_part: MakePart) -> None:
    part = make_part(200, missing=0.3)
    scores = exact_scores(part.texts, part.videos).numpy()
    index = approximate(tmp_path, part, "IVF20,Flat", "nprobe=2")
    assert (index.exact, index.kind) == (False, "IVF20,Flat nprobe=2")
    index.check(part)
    found = index.videos_for(part.texts, 60)
    there = found.rows >= 0
    assert not there.all()  # two of twenty lists do not hold sixty videos for every query
    assert np.isneginf(found.scores[~there]).all()
    texts = np.nonzero(there)[0]
    np.testing.assert_array_equal(found.scores[there], scores[texts, found.rows[there]])
    assert (found.scores[:, 1:] <= found.scores[:, :-1]).all()
    for rows in found.rows:
        assert len(set(rows[rows >= 0].tolist())) == (rows >= 0).sum()
    whole = approximate(tmp_path, part, "IVF20,Flat", "nprobe=20")  # all lists: nothing is missed
    assert (whole.videos_for(part.texts, 100).rows >= 0).all()


@pytest.mark.parametrize(("factory", "parameters"), [("Nonsense", ""), ("IVF500,Flat", ""), ("IVF4,Flat", "nprobes=3")])
def test_a_kind_that_faiss_cannot_make_is_an_error(
    tmp_path: Path, make_part: MakePart, factory: str, parameters: str
) -> None:
    with pytest.raises(ConfigError, match=f"'{factory}' with parameters '{parameters}' of 9 vectors of 32"):
        build_index(tmp_path, make_part(9), embed_output="x", factory=factory, parameters=parameters)
    assert not (tmp_path / MANIFEST).exists()


def test_another_kind_is_not_current(tmp_path: Path, make_part: MakePart) -> None:
    approximate(tmp_path, make_part(40), "IVF4,Flat")
    assert held_settings(tmp_path) == Settings("IVF4,Flat")
    assert is_current(tmp_path, "abc", Settings("IVF4,Flat"))
    assert is_current(tmp_path, "abc", Settings("IVF4,Flat", memory_limit=1 << 20))
    assert not is_current(tmp_path, "another", Settings("IVF4,Flat"))
    assert not is_current(tmp_path, "abc", Settings("Flat"))
    assert not is_current(tmp_path, "abc", Settings("IVF4,Flat", "nprobe=2"))
    assert not is_current(tmp_path, "abc", Settings("IVF4,Flat", target_recall=0.5))
    build_index(tmp_path, make_part(40), embed_output="abc", factory="auto", memory_limit=1 << 20)
    assert is_current(tmp_path, "abc", Settings("auto", memory_limit=1 << 20))
    assert not is_current(tmp_path, "abc", Settings("auto", memory_limit=1 << 30))  # it may choose another kind
