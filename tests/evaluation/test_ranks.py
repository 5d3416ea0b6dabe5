"""Ranks, nDCG and average precision against every order of the tied items, written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import plain_ranks as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn.functional import normalize

from vtr.errors import InputError
from vtr.evaluation import ranks, scores
from vtr.evaluation.correspondence import Correspondence
from vtr.evaluation.metrics import all_right, evaluate_scores
from vtr.evaluation.scores import EmbeddedScores, MatrixScores
from vtr.similarity import exact_scores
from vtr.types import TextEmbeddings, VideoEmbeddings

Case = tuple[NDArray[np.float32], list[tuple[int, int]]]


@st.composite
def tied_scores(draw: st.DrawFn) -> Case:
    """Few distinct values, so that most rows hold ties; any pairs: several, one or none for each text and video."""
    num_texts, num_videos = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    values = draw(st.lists(st.integers(-1, 1), min_size=num_texts * num_videos, max_size=num_texts * num_videos))
    every = [(t, v) for t in range(num_texts) for v in range(num_videos)]
    pairs = draw(st.lists(st.sampled_from(every), unique=True, min_size=1))
    return np.asarray(values, np.float32).reshape(num_texts, num_videos), sorted(pairs)


def correspondence(matrix: NDArray[Any], pairs: list[tuple[int, int]]) -> Correspondence:
    texts, videos = np.asarray(pairs, np.int64).T
    return Correspondence(*matrix.shape, texts, videos)


@settings(deadline=None, max_examples=60)
@given(tied_scores(), st.sampled_from(ranks.TIE_RULES))
def test_every_tie_rule_equals_the_orders_written_out(case: Case, ties: ranks.TieRule) -> None:
    matrix, pairs = case
    both = ranks.count_both(matrix, correspondence(matrix, pairs), "all")
    for counts, lists, flip in zip(both, (matrix, matrix.T), (1, -1), strict=True):
        right: dict[int, list[int]] = {}
        for pair in pairs:
            query, item = pair[::flip]
            right.setdefault(query, []).append(item)
        assert counts.queries.tolist() == sorted(right)
        rows = [(lists[query].tolist(), right[query]) for query in sorted(right)]
        assert counts.ranks(ties).tolist() == [plain.rank(row, items, ties) for row, items in rows]
        ndcg, precision = all_right(counts, ties)
        assert ndcg == pytest.approx([plain.over_orders(plain.ndcg, *row, ties) for row in rows])
        assert precision == pytest.approx([plain.over_orders(plain.average_precision, *row, ties) for row in rows])
        ambiguous = [sum(score == max(row[i] for i in items) for score in row) > 1 for row, items in rows]
        assert counts.tied.tolist() == ambiguous


@settings(deadline=None, max_examples=40)
@given(tied_scores())
def test_one_direction_is_half_of_both_and_the_best_is_the_first_of_all(case: Case) -> None:
    matrix, pairs = case
    right = correspondence(matrix, pairs)
    t2v, v2t = ranks.count_both(matrix, right, "all")
    for whole, alone, best in [
        (t2v, ranks.count_texts(matrix, right, "all"), ranks.count_texts(matrix, right)),
        (v2t, ranks.count_videos(matrix, right, "all"), ranks.count_videos(matrix, right)),
    ]:
        for name in ("queries", "num_right", "higher", "same", "same_right"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(whole, name))
        for ties in ranks.TIE_RULES:
            np.testing.assert_array_equal(best.ranks(ties), whole.ranks(ties))
    transposed = Correspondence(right.num_videos, right.num_texts, *_sorted(right.videos, right.texts))
    np.testing.assert_array_equal(ranks.count_texts(matrix.T, transposed).ranks(), v2t.ranks())


def _sorted(texts: NDArray[np.int64], videos: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.lexsort((videos, texts))
    return texts[order], videos[order]


def loop_max_caption(matrix: NDArray[Any], owners: list[int]) -> list[float]:
    """Return the ranks of CLIP4Clip's protocol: a video's captions become one item, their maximum."""
    found = []
    for video in sorted({owner for owner in owners if owner >= 0}):
        best: dict[Any, float] = {}
        for text, owner in enumerate(owners):
            key = ("video", owner) if owner >= 0 else ("loose", text)
            best[key] = max(best.get(key, -np.inf), float(matrix[text, video]))
        names = list(best)
        found.append(plain.mean_place_of_best(list(best.values()), [names.index(("video", video))]))
    return found


def test_max_caption_ranks_videos_by_their_best_caption() -> None:
    generator = np.random.default_rng(2)
    for seed in range(20):
        owners = generator.integers(-1, 9, 40)
        matrix = generator.integers(0, 6 + 40 * (seed % 2), (40, 9)).astype(np.float32)
        found = ranks.video_to_text(matrix, owners, protocol="max_caption_then_rank_videos")
        assert found.tolist() == loop_max_caption(matrix, owners.tolist())


def test_both_video_to_text_protocols_agree_on_r1_and_not_on_r5() -> None:
    generator = np.random.default_rng(3)
    owners = np.repeat(np.arange(60), 5)
    alike = np.repeat(generator.normal(size=(60, 60)), 5, axis=0)  # a video's captions score alike
    matrix = alike + 0.3 * generator.normal(size=(300, 60)) + (owners[:, None] == np.arange(60))
    own, grouped = (
        evaluate_scores(matrix, owners, video_to_text=protocol).video_to_text for protocol in ranks.VIDEO_TO_TEXT
    )
    assert own.recall[1] == grouped.recall[1]
    assert own.recall[5] < grouped.recall[5]
    assert (own.num_items, grouped.num_items) == (300, 60)
    single = matrix[::5]
    np.testing.assert_array_equal(
        *(ranks.video_to_text(single, np.arange(60), protocol=protocol) for protocol in ranks.VIDEO_TO_TEXT)
    )
    with pytest.raises(ValueError, match="describes several videos"):
        ranks.max_caption(np.zeros((1, 2)), Correspondence(1, 2, np.zeros(2, np.int64), np.arange(2)))


def test_blocks_chunks_and_dtypes_do_not_change_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    matrix = generator.integers(0, 20, (300, 12)).astype(np.float32)
    owners = generator.integers(0, 12, 300)
    whole = [c.ranks() for c in ranks.count_both(matrix, owners)] + [ranks.max_caption(matrix, owners).ranks()]

    def same(values: Any) -> None:
        again = [c.ranks() for c in ranks.count_both(values, owners)] + [ranks.max_caption(values, owners).ranks()]
        for first, second in zip(whole, again, strict=True):
            np.testing.assert_array_equal(first, second)

    for dtype in (np.float16, np.float64):  # small whole numbers: the same values in each
        same(matrix.astype(dtype))
    same(torch.from_numpy(matrix).bfloat16())
    monkeypatch.setattr(scores, "BLOCK_VALUES", 25)
    monkeypatch.setattr(ranks, "CHUNK_ROWS", 1)
    same(matrix)


def test_permutations_and_added_constants_change_nothing() -> None:
    generator = np.random.default_rng(7)
    owners = generator.integers(0, 15, 50)
    matrix = generator.integers(0, 9, (50, 15)).astype(np.float64)
    whole = evaluate_scores(matrix, owners)
    texts, videos = generator.permutation(50), generator.permutation(15)
    again = evaluate_scores(matrix[texts][:, videos], np.argsort(videos)[owners[texts]])
    for found in (again, evaluate_scores(matrix + 4, owners), evaluate_scores(0.5 * matrix, owners)):
        for name in ("text_to_video", "video_to_text"):
            one, other = getattr(whole, name), getattr(found, name)
            assert one.recall == other.recall
            for metric in ("median_rank", "mean_rank", "mean_reciprocal_rank", "ndcg_at_10", "mean_average_precision"):
                assert getattr(one, metric) == pytest.approx(getattr(other, metric), rel=1e-12), (name, metric)


def embeddings(num_texts: int, num_videos: int, seed: int = 0) -> tuple[TextEmbeddings, VideoEmbeddings]:
    generator = torch.Generator().manual_seed(seed)
    texts = normalize(torch.randn((num_texts, 3, 8), generator=generator), dim=-1)
    videos = normalize(torch.randn((num_videos, 3, 8), generator=generator), dim=-1)
    weights = torch.softmax(torch.randn((num_texts, 3), generator=generator), dim=-1)
    present = (torch.rand((num_videos, 3), generator=generator) > 0.3).float()
    ids = tuple(str(row) for row in range(max(num_texts, num_videos)))
    return TextEmbeddings(ids[:num_texts], texts, weights), VideoEmbeddings(ids[:num_videos], videos, present)


def test_streamed_from_embeddings_equals_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "EMBEDDED_BLOCK_VALUES", 100)
    texts, videos = embeddings(90, 20)
    texts.vectors[10:20] = texts.vectors[:10]  # captions that are alike must tie
    texts.weights[10:20] = texts.weights[:10]
    owners = np.random.default_rng(1).integers(-1, 20, 90)
    right = Correspondence.of(owners, 20).with_pairs(np.arange(5), np.arange(5))
    streamed = ranks.count_both(EmbeddedScores(texts, videos, right), right, "all")
    matrix = ranks.count_both(exact_scores(texts, videos), right, "all")
    for one, other in zip(streamed, matrix, strict=True):
        for name in ("queries", "num_right", "higher", "same", "same_right"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    source = EmbeddedScores(texts, videos, Correspondence.of(owners, 20))
    np.testing.assert_array_equal(
        ranks.max_caption(source, owners).ranks(), ranks.max_caption(exact_scores(texts, videos), owners).ranks()
    )
    with pytest.raises(ValueError, match="not among the right ones"):
        source.pairs(np.asarray([0]), np.asarray([(owners[0] + 1) % 20]))


def test_infinite_scores_rank() -> None:
    matrix = np.asarray([[np.inf, 0.0, -np.inf], [-np.inf, -np.inf, 1.0]])
    assert ranks.text_to_video(matrix, [0, 0]).tolist() == [1.0, 2.5]


@pytest.mark.parametrize("rank", [ranks.text_to_video, ranks.video_to_text, ranks.max_caption])
def test_nan_is_an_error_that_names_the_rows(rank: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "CHUNK_ROWS", 2)
    matrix = np.zeros((9, 3), np.float32)
    matrix[2, 1] = matrix[7, 0] = np.nan
    with pytest.raises(InputError, match="2 texts are NaN: rows 2, 7"):
        rank(matrix, np.arange(9) % 3)
    with pytest.raises(InputError, match="9 texts are NaN: rows 0, 1, 2, 3, 4 and 4 more"):
        rank(np.full((9, 3), np.nan), np.arange(9) % 3)


@pytest.mark.parametrize("owners", [np.zeros(3, np.int64), np.asarray([0, 5]), np.asarray([0, -2])])
def test_owners_that_do_not_fit_are_an_error(owners: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="video_of_text"):
        ranks.text_to_video(np.zeros((2, 4)), owners)


def test_correspondences_check_themselves() -> None:
    pairs = np.asarray([0, 1])
    with pytest.raises(ValueError, match="not sorted"):
        Correspondence(2, 2, pairs[::-1], pairs)
    with pytest.raises(ValueError, match="videos 0 to 1, the scores have 1"):
        Correspondence(2, 1, pairs, pairs)
    with pytest.raises(ValueError, match="correspondence of 2 texts and 2 videos"):
        ranks.count_texts(np.zeros((2, 3)), Correspondence(2, 2, pairs, pairs))
    with pytest.raises(ValueError, match=r"\[2, 3\] expected"):
        Correspondence.of_captions(2, 3, np.ones((3, 2), bool))
    with pytest.raises(ValueError, match="floats"):
        MatrixScores(np.zeros((2, 2), np.int64))
    there = np.asarray([[True, False], [True, True]])
    assert Correspondence.of_captions(2, 2, there).videos.tolist() == [0, 1, 1]
    assert Correspondence.of_captions(2, 2).videos.tolist() == [0, 0, 1, 1]
