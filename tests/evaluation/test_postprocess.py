"""Post-processing against plain loops over the published definitions, on small and large numbers and a planted hub."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vtr.errors import InputError
from vtr.evaluation import postprocess, ranks
from vtr.evaluation.postprocess import POST_PROCESSING, QueryBank

Matrix = NDArray[Any]


def cosines(num_rows: int, num_columns: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).uniform(-1, 1, (num_rows, num_columns)).astype(np.float32)


def hub_scores(num: int, seed: int) -> Matrix:
    """Score text i best with video i, but for video 0, which comes closest to a third of the texts."""
    generator = np.random.default_rng(seed)
    scores = generator.uniform(-0.02, 0.02, (num, num)) + 0.5 * np.eye(num)
    scores[1:, 0] = np.where(np.arange(1, num) % 3 == 0, 0.7, 0.4)
    return scores.astype(np.float32)


def loop_shares(scores: Matrix, scale: float) -> tuple[list[list[float]], list[list[float]]]:
    """Return exp(scale * s) over the sum of its column, and over the sum of its row."""
    powers = [[math.exp(scale * float(s)) for s in row] for row in scores]
    columns = [math.fsum(row[v] for row in powers) for v in range(scores.shape[1])]
    over_texts = [[p / columns[v] for v, p in enumerate(row)] for row in powers]
    over_videos = [[p / math.fsum(row) for p in row] for row in powers]
    return over_texts, over_videos


def loop_qb_norm(bank: Matrix, scores: Matrix, beta: float, k: int) -> list[list[float]]:
    """Divide the powers of a query by the bank's sums if its best item is among the k best of a query of the bank."""
    activated = {item for row in bank for item in sorted(range(len(row)), key=lambda n: -row[n])[:k]}
    sums = [math.fsum(math.exp(beta * float(row[n])) for row in bank) for n in range(bank.shape[1])]
    answer = []
    for row in scores.tolist():
        powers = [math.exp(beta * s) for s in row]
        best = row.index(max(row))
        answer.append([p / total for p, total in zip(powers, sums, strict=True)] if best in activated else row)
    return answer


def order(row: Any) -> list[int]:
    return sorted(range(len(row)), key=lambda n: -row[n])


def test_inverted_softmax_equals_plain_loops() -> None:
    scores = cosines(6, 4)
    t2v, v2t = postprocess.inverted_softmax(scores, 7.0)
    over_texts, over_videos = loop_shares(scores, 7.0)
    np.testing.assert_allclose(np.exp(t2v), over_texts, rtol=1e-12)
    np.testing.assert_allclose(np.exp(v2t), over_videos, rtol=1e-12)


def test_dual_softmax_equals_plain_loops() -> None:
    scores = cosines(6, 4)
    t2v, v2t = postprocess.dual_softmax(scores, 7.0)
    over_texts, over_videos = loop_shares(scores, 7.0)
    for answer, shares in ((t2v, over_texts), (v2t, over_videos)):
        expected = [[float(s) * p for s, p in zip(*rows, strict=True)] for rows in zip(scores, shares, strict=True)]
        np.testing.assert_allclose(answer, expected, rtol=1e-12)


def test_both_softmaxes_equal_those_of_torch_at_their_default_scale() -> None:
    scores = cosines(40, 30)
    values = torch.from_numpy(scores).double()
    dual, inverted = postprocess.apply("dual_softmax", scores), postprocess.apply("inverted_softmax", scores)
    for dim in (0, 1):
        np.testing.assert_allclose(dual[dim], values * torch.softmax(100 * values, dim), rtol=1e-10)
        np.testing.assert_allclose(inverted[dim], torch.log_softmax(20 * values, dim), rtol=1e-10)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([1.0, 20.0, 100.0]))
def test_qb_norm_ranks_as_the_published_definition(seed: int, k: int, beta: float) -> None:
    bank, scores = cosines(4, 7, seed), cosines(6, 7, seed + 1)
    answer = QueryBank.gather([bank], beta=beta, k=k).normalise(scores)
    assert [order(row) for row in answer] == [order(row) for row in loop_qb_norm(bank, scores, beta, k)]


def test_qb_norm_values_and_which_rows_it_divides() -> None:
    bank = np.asarray([[0.9, 0.1, 0.0], [0.8, 0.2, 0.1]])
    scores = np.asarray([[0.5, 0.4, 0.0], [0.3, 0.4, 0.2]])
    gathered = QueryBank.gather([bank], beta=2.0)
    assert gathered.activated.tolist() == [True, False, False]
    divided, kept = gathered.normalise(scores)
    expected = [math.exp(1.0) / (math.exp(1.8) + math.exp(1.6)), math.exp(0.8) / (math.exp(0.2) + math.exp(0.4))]
    np.testing.assert_allclose(np.exp(divided[:2]), expected, rtol=1e-12)
    np.testing.assert_allclose(kept, [0.6, 0.8, 0.4], rtol=1e-12)


def test_of_items_that_tie_the_first_is_the_best() -> None:
    tied, decided = np.asarray([[0.5, 0.5, 0.1, 0.5]]), np.asarray([[0.0, 0.0, 0.0, 0.9]])
    assert np.flatnonzero(QueryBank.gather([tied]).activated).tolist() == [0]
    assert np.flatnonzero(QueryBank.gather([tied], k=2).activated).tolist() == [0, 1]
    wide = np.asarray([[(0.1, 0.5, 0.2)[item % 3] for item in range(300)]])  # an unstable sort mixes up so many
    assert np.flatnonzero(QueryBank.gather([wide], k=3).activated).tolist() == [1, 4, 7]
    only_last = QueryBank.gather([decided], beta=1.0)
    np.testing.assert_array_equal(only_last.normalise(tied), tied)  # item 3 is activated, item 0 is the best


@pytest.mark.parametrize("name", ["dual_softmax", "inverted_softmax", "qb_norm"])
def test_large_scores_do_not_overflow(name: str) -> None:
    scores = 1000 * cosines(12, 9)
    banks = {}
    if name == "qb_norm":
        banks = {"text_bank": QueryBank.gather([1000 * cosines(5, 9, 1)])}
        banks["video_bank"] = QueryBank.gather([1000 * cosines(5, 12, 2)])
    for answer in postprocess.apply(name, scores, **banks):
        assert answer.shape == scores.shape
        assert np.isfinite(answer).all()


@pytest.mark.parametrize("function", [postprocess.dual_softmax, postprocess.inverted_softmax])
def test_blocks_do_not_change_the_softmaxes(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = cosines(23, 5)
    whole = function(scores)
    monkeypatch.setattr("vtr.evaluation.scores.BLOCK_VALUES", 15)
    np.testing.assert_allclose(function(scores), whole, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_a_bank_in_blocks_is_the_bank_in_one(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, scores = cosines(50, 20), cosines(9, 20, 1)
    whole = QueryBank.gather([bank], k=k)
    parts = QueryBank.gather((bank[rows] for rows in (slice(0, 0), slice(0, 1), slice(1, 30), slice(30, 50))), k=k)
    np.testing.assert_allclose(parts.log_sums, whole.log_sums, rtol=1e-12)
    np.testing.assert_array_equal(parts.activated, whole.activated)
    assert (parts.num_queries, parts.k, parts.beta) == (50, k, 20.0)
    normalised = whole.normalise(scores)
    monkeypatch.setattr("vtr.evaluation.scores.BLOCK_VALUES", 40)
    np.testing.assert_array_equal(whole.normalise(scores), normalised)


def test_the_bank_of_videos_serves_video_to_text() -> None:
    scores, texts, videos = cosines(8, 5), cosines(6, 5, 1), cosines(7, 8, 2)
    t2v, v2t = postprocess.apply(
        "qb_norm", scores, text_bank=QueryBank.gather([texts]), video_bank=QueryBank.gather([videos])
    )
    assert t2v.shape == v2t.shape == scores.shape
    assert [order(row) for row in t2v] == [order(row) for row in loop_qb_norm(texts, scores, 20.0, 1)]
    assert [order(column) for column in v2t.T] == [order(row) for row in loop_qb_norm(videos, scores.T, 20.0, 1)]


def test_a_hub_is_demoted() -> None:
    num = 24
    scores, owners = hub_scores(num, 0), np.arange(num)
    bank = QueryBank.gather([hub_scores(num, 1)])
    answers = {
        "inverted_softmax": postprocess.inverted_softmax(scores)[0],
        "dual_softmax": postprocess.dual_softmax(scores, 20.0)[0],
        "qb_norm": bank.normalise(scores),
    }
    robbed = np.flatnonzero(scores.argmax(1) != owners)
    assert len(robbed) == 7
    assert set(scores[robbed].argmax(1).tolist()) == {0}
    for name, answer in answers.items():
        assert (ranks.text_to_video(answer, owners)[robbed] == 1).all(), name


@pytest.mark.parametrize("name", ["dual_softmax", "inverted_softmax", "qb_norm"])
def test_permuted_queries_get_permuted_answers(name: str) -> None:
    scores, moved = cosines(10, 6), np.random.default_rng(3).permutation(10)
    bank, videos = QueryBank.gather([cosines(7, 6, 1)]), cosines(7, 10, 2)
    first: dict[str, QueryBank] = {}
    second: dict[str, QueryBank] = {}
    if name == "qb_norm":
        first = {"text_bank": bank, "video_bank": QueryBank.gather([videos])}
        second = {"text_bank": bank, "video_bank": QueryBank.gather([videos[:, moved]])}
    before, after = postprocess.apply(name, scores, **first), postprocess.apply(name, scores[moved], **second)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other, one[moved], rtol=1e-10)


def test_qb_norm_answers_a_query_alone_as_in_a_batch() -> None:
    scores, bank = cosines(30, 11), QueryBank.gather([cosines(5, 11, 1)])
    together = bank.normalise(scores)
    assert 0 < bank.activated[scores.argmax(1)].sum() < 30
    for query in range(30):
        np.testing.assert_array_equal(bank.normalise(scores[query : query + 1])[0], together[query])
    assert not POST_PROCESSING["qb_norm"].transductive


@pytest.mark.parametrize("name", ["dual_softmax", "inverted_softmax"])
def test_other_queries_change_the_answer_of_the_softmaxes(name: str) -> None:
    scores = np.zeros((30, 11))
    scores[0] = np.linspace(0.4, 0.5, 11)
    crowded = scores.copy()
    crowded[1:, 10] = 0.9  # every other text is close to the best video of text 0
    before, after = (postprocess.apply(name, values)[0][0] for values in (scores, crowded))
    assert (order(before)[0], order(after)[-1]) == (10, 10)
    assert POST_PROCESSING[name].transductive


def test_distinct_scores_stay_distinct_and_equal_columns_stay_equal() -> None:
    scores = np.float32(0.25) + np.arange(4000, dtype=np.float32).reshape(4, 1000) * np.float32(2.0**-24)
    scores[:, 999] = scores[:, 500]  # two videos with the same embedding
    bank = QueryBank.gather([np.full((50000, 1000), 0.3, np.float32)])
    for answer in (
        postprocess.inverted_softmax(scores)[0],
        postprocess.dual_softmax(scores)[0],
        bank.normalise(scores),
    ):
        np.testing.assert_array_equal(answer[:, 999], answer[:, 500])
    assert {len(np.unique(row)) for row in bank.normalise(scores)} == {999}


def test_negative_scores_turn_dual_softmax_upside_down_as_published() -> None:
    scores = np.asarray([[-0.1, -0.1], [-0.9, -0.2]])  # text 0 is the likelier of video 0 by far, of video 1 hardly
    t2v, _ = postprocess.dual_softmax(scores, 10.0)
    assert t2v[0, 0] < t2v[0, 1]
    lifted, _ = postprocess.dual_softmax(scores + 1, 10.0)
    assert lifted[0, 0] > lifted[0, 1]


def test_a_saved_bank_comes_back(tmp_path: Path) -> None:
    bank = QueryBank.gather([cosines(9, 13)], beta=12.5, k=2)
    bank.save(tmp_path / "banks" / "texts.npz")
    found = QueryBank.load(tmp_path / "banks" / "texts.npz")
    np.testing.assert_array_equal(found.log_sums, bank.log_sums)
    np.testing.assert_array_equal(found.activated, bank.activated)
    assert (found.beta, found.k, found.num_queries) == (12.5, 2, 9)
    assert [path.name for path in (tmp_path / "banks").iterdir()] == ["texts.npz"]


def test_damaged_banks_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bank.npz"
    with pytest.raises(InputError, match=r"bank\.npz does not exist"):
        QueryBank.load(path)
    QueryBank.gather([cosines(9, 13)]).save(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 50):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"bank\.npz is not a whole query bank"):
            QueryBank.load(path)
    encrypted = bytearray(whole)
    encrypted[whole.index(b"PK\x01\x02") + 8] |= 1
    changed = bytearray(whole)
    changed[whole.index(b"\x93NUMPY") + 130] ^= 255
    for damaged in (encrypted, changed):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"bank\.npz is not a whole query bank"):
            QueryBank.load(path)
    np.savez(path, log_sums=np.zeros(3), activated=np.zeros(4, bool), beta=20.0, k=1, num_queries=2)
    with pytest.raises(InputError, match=r"\(3,\) and activated \(4,\)"):
        QueryBank.load(path)
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(InputError, match="not a whole query bank"):
        QueryBank.load(path)


def test_banks_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(ValueError, match="bank is empty"):
        QueryBank.gather([])
    with pytest.raises(ValueError, match="bank is empty"):
        QueryBank.gather([np.zeros((0, 4))])
    with pytest.raises(ValueError, match=r"\(2, 5\), \[b, 4\] expected"):
        QueryBank.gather([np.zeros((2, 4)), np.zeros((2, 5))])
    bank = QueryBank.gather([np.zeros((2, 4))])
    with pytest.raises(ValueError, match=r"\(3, 5\) and a bank of \(4,\)"):
        bank.normalise(np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"\[Q, N\]"):
        bank.normalise(np.zeros(4))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers_name_their_rows(value: float) -> None:
    scores = cosines(9, 3)
    scores[2, 1] = scores[7, 0] = value
    bank = QueryBank.gather([cosines(4, 3)])
    for function in (postprocess.dual_softmax, postprocess.inverted_softmax, bank.normalise):
        with pytest.raises(InputError, match="2 rows are NaN or infinite: 2, 7"):
            function(scores)
    with pytest.raises(InputError, match="2 rows"):
        QueryBank.gather([scores])


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_scales_that_are_not_positive_are_an_error(scale: float) -> None:
    for name in ("dual_softmax", "inverted_softmax"):
        with pytest.raises(InputError, match="a positive number was expected"):
            postprocess.apply(name, cosines(3, 3), scale=scale)
    with pytest.raises(InputError, match="beta is"):
        QueryBank.gather([cosines(3, 3)], beta=scale)
    with pytest.raises(InputError, match="k is 0"):
        QueryBank.gather([cosines(3, 3)], k=0)


def test_names_and_what_they_take() -> None:
    scores, bank = cosines(3, 3), QueryBank.gather([cosines(3, 3)])
    assert list(POST_PROCESSING) == ["dual_softmax", "inverted_softmax", "qb_norm"]
    with pytest.raises(
        InputError, match=r"'dual_softmx'.*dual_softmax, inverted_softmax, qb_norm.*mean 'dual_softmax'"
    ):
        postprocess.apply("dual_softmx", scores)
    with pytest.raises(ValueError, match="text_bank and a video_bank"):
        postprocess.apply("qb_norm", scores, text_bank=bank)
    with pytest.raises(ValueError, match="in the place of a scale"):
        postprocess.apply("qb_norm", scores, text_bank=bank, video_bank=bank, scale=20.0)
    with pytest.raises(ValueError, match="none was expected"):
        postprocess.apply("inverted_softmax", scores, text_bank=bank)


def test_what_a_result_prints() -> None:
    sentences = {name: known.describe() for name, known in POST_PROCESSING.items()}
    assert sentences == {
        "dual_softmax": "dual softmax over all test queries (transductive), scale 100",
        "inverted_softmax": "inverted softmax over all test queries (transductive), scale 20",
        "qb_norm": "QB-Norm with a bank of training queries, beta 20",
    }
    assert POST_PROCESSING["qb_norm"].describe(12.5).endswith("beta 12.5")
