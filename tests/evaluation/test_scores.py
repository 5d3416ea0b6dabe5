"""Sources of scores against the matrix they stand for, and against the score's definition in plain loops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vtr.embeddings import EmbeddedPart
from vtr.evaluation import scores as module
from vtr.evaluation.correspondence import Correspondence
from vtr.evaluation.scores import EmbeddedScores, MatrixScores, ScoreSource, row_blocks, score_embeddings
from vtr.similarity import exact_scores

Matrix = NDArray[Any]


def by_loops(part: EmbeddedPart) -> Matrix:
    """Return [T, V], for each pair the weighted mean of the cosines of the experts that the video has."""
    texts, videos = part.texts, part.videos
    found = np.zeros((len(texts.ids), len(videos.ids)))
    for t, v in np.ndindex(*found.shape):
        total = weight_sum = 0.0
        for expert in range(len(part.experts)):
            weight = float(texts.weights[t, expert]) * float(videos.present[v, expert])
            pairs = zip(texts.vectors[t, expert].tolist(), videos.vectors[v, expert].tolist(), strict=True)
            total += weight * sum(one * other for one, other in pairs)
            weight_sum += weight
        found[t, v] = total / weight_sum if weight_sum else 0.0
    return found


def read(source: ScoreSource) -> tuple[list[int], Matrix]:
    """Return the rows that the blocks cover, in their order, and the blocks put together."""
    blocks = list(source.blocks())
    for rows, block in blocks:
        assert block.shape == (rows.stop - rows.start, source.shape[1])
        assert block.dtype == source.dtype
    return [row for rows, _ in blocks for row in range(rows.start, rows.stop)], np.concatenate([b for _, b in blocks])


def check_reads(source: ScoreSource, matrix: Matrix) -> None:
    """Check that rows and columns are those of the matrix, for any choice in any order."""
    texts, videos = np.array([3, 0, 3, len(matrix) - 1]), np.array([2, 1, matrix.shape[1] - 1, 1])
    for found, expected in ((source.rows(texts), matrix[texts]), (source.columns(videos), matrix.T[videos])):
        assert found.dtype == source.dtype
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(source.matrix(), matrix)
    assert source.rows(texts[:0]).shape == (0, matrix.shape[1])
    assert source.columns(videos[:0]).shape == (0, len(matrix))


def test_a_matrix_is_read_in_as_many_blocks_as_its_size_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.arange(40, dtype=np.float32).reshape(10, 4)
    monkeypatch.setattr(module, "BLOCK_VALUES", 12)
    assert [rows for rows, _ in MatrixScores(matrix).blocks()] == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10)]


@given(st.integers(0, 50), st.integers(0, 30), st.integers(1, 200))
def test_row_blocks_cover_all_rows_once_and_are_as_large_as_allowed(rows: int, columns: int, values: int) -> None:
    blocks = list(row_blocks(rows, columns, values))
    assert [row for block in blocks for row in range(rows)[block]] == list(range(rows))
    assert all(block.stop <= rows for block in blocks)
    width = max(1, columns)
    for number, block in enumerate(blocks):
        size = block.stop - block.start
        assert size == 1 or size * width <= values
        assert number == len(blocks) - 1 or (size + 1) * width > values


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_matrix_is_read_as_it_is(dtype: Any, order: Any) -> None:
    matrix = np.asarray(np.random.default_rng(0).normal(size=(9, 5)), dtype, order=order)
    source = MatrixScores(matrix)
    assert (source.shape, source.dtype) == ((9, 5), np.dtype(dtype))
    covered, whole = read(source)
    assert covered == list(range(9))
    np.testing.assert_array_equal(whole, matrix)
    check_reads(source, matrix)
    texts, videos = np.array([8, 0, 8]), np.array([1, 4, 0])
    assert source.pairs(texts, videos).tolist() == [matrix[8, 1], matrix[0, 4], matrix[8, 0]]
    assert source.columns(np.array([2, 0])).flags.c_contiguous


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_tensor_keeps_its_values(dtype: torch.dtype) -> None:
    tensor = torch.randn((4, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    source = MatrixScores(tensor.requires_grad_())
    assert source.values.tolist() == tensor.tolist()
    assert source.values.itemsize == max(tensor.itemsize, 4 if dtype == torch.bfloat16 else 0)


def test_a_memory_map_is_read_a_block_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "scores.npy"
    matrix = np.random.default_rng(1).normal(size=(2100, 1024)).astype(np.float16)  # just above one block
    np.save(path, matrix)
    mapped = np.load(path, mmap_mode="r")
    source = MatrixScores(mapped)
    blocks = list(source.blocks())
    assert [(rows.start, rows.stop) for rows, _ in blocks] == [(0, 2048), (2048, 2100)]
    assert all(np.shares_memory(block, mapped) for _, block in blocks)  # nothing was copied
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), matrix)
    check_reads(source, matrix)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 2), np.int64), r"scores are int64 \(3, 2\), floats \[T, V\]"),
        (np.zeros(3), r"scores are float64 \(3,\)"),
        (np.zeros((3, 2, 1)), r"scores are float64 \(3, 2, 1\)"),
        (torch.zeros((3, 2), dtype=torch.bool), r"scores are bool \(3, 2\)"),
    ],
)
def test_what_is_no_matrix_of_floats_is_an_error(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatrixScores(values)


@pytest.mark.parametrize("missing", [0.0, 0.5])
@pytest.mark.parametrize("rows_a_block", [1, 4, 1000])
def test_embeddings_give_the_exact_scores(
    make_part: Callable[..., EmbeddedPart], monkeypatch: pytest.MonkeyPatch, missing: float, rows_a_block: int
) -> None:
    part = make_part(7, 2, missing)
    monkeypatch.setattr(module, "EMBEDDED_BLOCK_VALUES", 7 * rows_a_block)
    right = Correspondence.of(part.video_of_text, 7)
    source = EmbeddedScores(part.texts, part.videos, right)
    assert (source.shape, source.dtype) == ((14, 7), np.float32)
    covered, whole = read(source)
    assert covered == list(range(14))
    assert len(list(source.blocks())) == -(-14 // rows_a_block)
    np.testing.assert_allclose(whole, by_loops(part), atol=1e-6)
    np.testing.assert_array_equal(whole, exact_scores(part.texts, part.videos))
    check_reads(source, whole)


def test_the_right_pairs_have_one_value_everywhere(
    make_part: Callable[..., EmbeddedPart], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the products of a pair and of a block to differ, the blocks would hold the pair's."""
    part = make_part(6, 2, 0.3)
    right = Correspondence.of(np.where(np.arange(12) == 5, -1, part.video_of_text), 6).with_pairs(
        np.array([0, 11]), np.array([4, 0])
    )
    own = np.arange(len(right.texts), dtype=np.float32) + 2  # no cosine
    monkeypatch.setattr(module, "exact_pairs", lambda *_: torch.from_numpy(own.copy()))
    monkeypatch.setattr(module, "EMBEDDED_BLOCK_VALUES", 6 * 5)
    source = EmbeddedScores(part.texts, part.videos, right)
    _, whole = read(source)
    expected = exact_scores(part.texts, part.videos).numpy()
    for number, (text, video) in enumerate(zip(right.texts, right.videos, strict=True)):
        expected[text, video] = own[number]
    np.testing.assert_array_equal(whole, expected)
    chosen = np.array([12, 0, 3, 3])
    assert source.pairs(right.texts[chosen], right.videos[chosen]).tolist() == own[chosen].tolist()


def test_only_right_pairs_can_be_asked_for(make_part: Callable[..., EmbeddedPart]) -> None:
    part = make_part(4, 1)
    source = EmbeddedScores(part.texts, part.videos, Correspondence.of(part.video_of_text, 4))
    for text, video in ((0, 1), (3, 0)):
        with pytest.raises(ValueError, match="not among the right ones"):
            source.pairs(np.array([0, text]), np.array([0, video]))
    nothing = EmbeddedScores(part.texts, part.videos, Correspondence.of([-1] * 4, 4))
    none = np.zeros(0, np.int64)
    assert nothing.pairs(none, none).shape == source.pairs(none, none).shape == (0,)
    with pytest.raises(ValueError, match="not among the right ones"):
        nothing.pairs(np.array([0]), np.array([0]))
    np.testing.assert_array_equal(read(nothing)[1], exact_scores(part.texts, part.videos))


def test_a_matrix_is_held_where_it_fits(
    make_part: Callable[..., EmbeddedPart], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = make_part(5, 3, 0.2)
    right = Correspondence.of(part.video_of_text, 5)
    monkeypatch.setattr(module, "MATRIX_BYTES", 4 * 15 * 5)
    held = score_embeddings(part.texts, part.videos, right)
    monkeypatch.setattr(module, "MATRIX_BYTES", 4 * 15 * 5 - 1)
    streamed = score_embeddings(part.texts, part.videos, right)
    assert isinstance(held, MatrixScores)
    assert isinstance(streamed, EmbeddedScores)
    np.testing.assert_array_equal(read(held)[1], read(streamed)[1])
    assert held.dtype == streamed.dtype
