"""Metrics against the answers of the published metric code, and chance against a simulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from by_chance import by_chance
from numpy.typing import NDArray

from vtr.evaluation import ranks
from vtr.evaluation.correspondence import Correspondence
from vtr.evaluation.metrics import RECALL_AT, BothWays, all_right, evaluate_scores, hits, measure, rsum
from vtr.evaluation.ranks import Counts, count_both

CASES = ("square_50", "square_200_hard", "captions_60x5_masked", "ties_80", "ties_40x3_masked", "constant_10")


def published(folder: Path, case: str) -> tuple[NDArray[np.float32], Correspondence, dict[str, dict[str, float]]]:
    """Return the scores without the masked captions' rows, which describe which video, and the published answers."""
    arrays = np.load(folder / "metrics_cases.npz")
    scores = arrays[f"{case}/similarities"]
    there = arrays[f"{case}/caption_mask"].astype(bool) if f"{case}/caption_mask" in arrays else None
    right = Correspondence.of_captions(scores.shape[1], len(scores) // scores.shape[1], there)
    kept = scores if there is None else scores[there.ravel()]
    return kept, right, json.loads((folder / "metrics_expected.json").read_text())[case]


def test_every_published_case_is_checked(shared: Path) -> None:
    expected = json.loads((shared / "reference/metrics/metrics_expected.json").read_text())
    assert set(expected) == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_published_answers(shared: Path, case: str) -> None:
    scores, right, expected = published(shared / "reference/metrics", case)
    both = evaluate_scores(scores, right)
    for found in (both.text_to_video, both.video_to_text):
        answers = {f"R{at}": found.recall[at] for at in (1, 5, 10, 50)}
        answers |= {"MedR": found.median_rank, "MeanR": found.mean_rank}
        answers["geometric_mean_R1-R5-R10"] = found.geometric_mean
        assert answers == pytest.approx(expected[found.direction], rel=0, abs=1e-9)


def single(ranks: list[int], num_items: int) -> Counts:
    """Return the counts of queries with one right answer and no ties."""
    higher, ones = np.asarray(ranks, np.int64)[:, None] - 1, np.ones((len(ranks), 1), np.int64)
    return Counts(np.arange(len(ranks)), num_items, ones[:, 0], higher, ones, ones)


def test_metrics_by_hand() -> None:
    found = measure(single([1, 2, 6, 11], 20), direction="text_to_video")
    assert found.recall == {1: 25.0, 5: 50.0, 10: 75.0, 50: 100.0, 100: 100.0}
    assert (found.median_rank, found.mean_rank, found.num_queries, found.num_items) == (4.0, 5.0, 4, 20)
    reciprocal = (1 + 1 / 2 + 1 / 6 + 1 / 11) / 4
    assert found.mean_reciprocal_rank == pytest.approx(reciprocal)
    assert found.mean_average_precision == pytest.approx(reciprocal)  # one right answer each
    assert found.ndcg_at_10 == pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(7)) / 4)
    assert found.geometric_mean == pytest.approx((25 * 50 * 75) ** (1 / 3))
    assert found.num_tied == 0
    part = measure(single([1, 2, 6, 11], 20).take(np.asarray([True, False, True, False])), direction="text_to_video")
    assert (part.num_queries, part.num_items, part.mean_rank) == (2, 20, 3.5)


def test_all_right_answers_must_have_been_counted() -> None:
    best, _ = count_both(np.eye(3), Correspondence.of([0, 1, 2], 3).with_pairs(np.asarray([0]), np.asarray([1])))
    with pytest.raises(ValueError, match='1 of up to 2 right answers were counted; which="all"'):
        all_right(best)


@pytest.mark.parametrize("value", [0.0, -3.5, np.inf])
def test_a_constant_matrix_gets_the_middle_of_the_gallery(value: float) -> None:
    """No rule but `optimistic` may reward a model that scores everything the same."""
    owners = np.repeat(np.arange(240), 2)
    scores = np.full((480, 240), value)
    expected = by_chance(owners, 240)
    average = evaluate_scores(scores, owners)
    t2v, v2t = average.text_to_video, average.video_to_text
    assert (t2v.mean_rank, t2v.median_rank) == (expected.text_to_video.mean_rank, expected.text_to_video.median_rank)
    assert (v2t.mean_rank, v2t.median_rank) == (240.5, 240.5)
    for found, random in ((t2v, expected.text_to_video), (v2t, expected.video_to_text)):
        assert max(found.recall.values()) == 0.0
        assert found.mean_average_precision == pytest.approx(random.mean_average_precision)
        assert found.ndcg_at_10 == pytest.approx(random.ndcg_at_10)
        assert found.num_tied == found.num_queries
    assert evaluate_scores(scores, owners, ties="optimistic").rsum == 600.0
    pessimistic = evaluate_scores(scores, owners, ties="pessimistic")
    assert (pessimistic.text_to_video.mean_rank, pessimistic.video_to_text.mean_rank) == (240.0, 479.0)


def test_distractors_are_ranked_and_do_not_ask() -> None:
    scores = np.asarray([[0.5, 0.1, 0.9], [0.2, 0.3, 0.4], [0.6, 0.8, 0.0]])
    found = evaluate_scores(scores, [0, 1, -1])  # the third video has no text, the third text no video
    assert (found.text_to_video.num_queries, found.text_to_video.num_items) == (2, 3)
    assert (found.video_to_text.num_queries, found.video_to_text.num_items) == (2, 3)
    assert (found.text_to_video.mean_rank, found.video_to_text.mean_rank) == (2.0, 2.0)


def test_hits_of_tied_places() -> None:
    tied = np.asarray([1.0, 1.5, 5.0, 5.5, 6.0])
    assert hits(tied, 1).tolist() == [True, False, False, False, False]
    assert hits(tied, 5).tolist() == [True, True, True, True, False]


def test_rsum_adds_evaluate_scores() -> None:
    scores = np.eye(20, dtype=np.float32)
    assert evaluate_scores(scores, np.arange(20)).rsum == 600.0
    # every answer ties with 18 zeros, below one
    assert evaluate_scores(np.roll(scores, 1, axis=1), list(range(20))).rsum == 0.0
    uneven = evaluate_scores(np.asarray([[0.9, 0.1], [0.2, 0.1], [0.3, 0.8]]), [0, 1, 1])
    assert uneven.rsum == rsum(uneven.text_to_video, uneven.video_to_text) == pytest.approx(500 + 200 / 3)


@pytest.mark.parametrize(("found", "message"), [([], "no ranks"), ([0], "1 to 5"), ([6], "1 to 5")])
def test_impossible_ranks_are_an_error(found: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(single(found, 5), direction="text_to_video")


def simulate(owners: NDArray[np.int64], num_videos: int, rounds: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ranks of many random score matrices."""
    generator = np.random.default_rng(5)
    t2v, v2t = [], []
    for _ in range(rounds):
        scores = generator.random((len(owners), num_videos))
        t2v.append(ranks.text_to_video(scores, owners))
        v2t.append(ranks.video_to_text(scores, owners))
    return np.concatenate(t2v), np.concatenate(v2t)


def simulated_means(owners: NDArray[np.int64], num_videos: int, rounds: int) -> list[BothWays]:
    generator = np.random.default_rng(6)
    return [evaluate_scores(generator.random((len(owners), num_videos)), owners) for _ in range(rounds)]


def test_chance_equals_simulation() -> None:
    owners = np.repeat(np.arange(30), np.arange(30) % 5 + (np.arange(30) % 5 == 0))  # 1, 1, 2, 3, 4 captions a video
    expected = by_chance(owners, 34)  # four videos have no caption
    both = (expected.text_to_video, expected.video_to_text)
    for theory, drawn in zip(both, simulate(owners, 34, 400), strict=True):
        for at in RECALL_AT:
            error = 100 * np.sqrt(theory.recall[at] / 100 * (1 - theory.recall[at] / 100) / len(drawn))
            assert abs(100 * hits(drawn, at).mean() - theory.recall[at]) <= 4 * error + 1e-9
        assert drawn.mean() == pytest.approx(theory.mean_rank, rel=0.03)
        assert abs(np.median(drawn) - theory.median_rank) <= 1
        assert theory.num_queries == len(drawn) // 400
    rounds = simulated_means(owners, 34, 400)
    for direction in ("text_to_video", "video_to_text"):
        for metric in ("mean_reciprocal_rank", "ndcg_at_10", "mean_average_precision"):
            drawn = np.asarray([getattr(getattr(one, direction), metric) for one in rounds])
            error = drawn.std() / np.sqrt(len(drawn))
            assert abs(drawn.mean() - getattr(getattr(expected, direction), metric)) <= 4 * error, (direction, metric)


def test_chance_on_the_published_protocols() -> None:
    full = by_chance(np.repeat(np.arange(2990), 20), 2990)
    t2v, v2t = full.text_to_video, full.video_to_text
    assert t2v.recall[10] == pytest.approx(100 * 10 / 2990)
    assert v2t.recall[1] == pytest.approx(100 * 20 / 59_800)
    assert (t2v.median_rank, t2v.mean_rank) == (1495.5, 1495.5)
    one_each = by_chance(np.arange(1000), 1000)
    assert one_each.text_to_video.recall == pytest.approx(one_each.video_to_text.recall)
    assert one_each.rsum == pytest.approx(2 * (0.1 + 0.5 + 1.0))
