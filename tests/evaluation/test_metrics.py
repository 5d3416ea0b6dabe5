"""Metrics against the answers of the published metric code, and chance against a simulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vtr.evaluation import ranks
from vtr.evaluation.metrics import chance, evaluate_scores, hits, metrics, rsum

CASES = ("square_50", "square_200_hard", "captions_60x5_masked", "ties_80", "ties_40x3_masked", "constant_10")


def published(folder: Path, case: str) -> tuple[NDArray[np.float32], NDArray[np.int64], dict[str, dict[str, float]]]:
    """Return the scores without the masked captions' rows, each row's video, and the published answers."""
    arrays = np.load(folder / "metrics_cases.npz")
    scores = arrays[f"{case}/similarities"]
    owners = np.repeat(np.arange(scores.shape[1]), len(scores) // scores.shape[1])
    if f"{case}/caption_mask" in arrays:
        there = arrays[f"{case}/caption_mask"].reshape(-1).astype(bool)
        scores, owners = scores[there], owners[there]
    return scores, owners, json.loads((folder / "metrics_expected.json").read_text())[case]


def test_every_published_case_is_checked(shared: Path) -> None:
    expected = json.loads((shared / "reference/metrics/metrics_expected.json").read_text())
    assert set(expected) == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_published_answers(shared: Path, case: str) -> None:
    scores, owners, expected = published(shared / "reference/metrics", case)
    both = evaluate_scores(scores, owners)
    for found in (both.text_to_video, both.video_to_text):
        recall = found.recall
        answers = {f"R{at}": value for at, value in recall.items()}
        answers |= {"MedR": found.median_rank, "MeanR": found.mean_rank}
        answers["geometric_mean_R1-R5-R10"] = (recall[1] * recall[5] * recall[10]) ** (1 / 3)
        assert answers == pytest.approx(expected[found.direction], rel=0, abs=1e-9)


def test_metrics_by_hand() -> None:
    found = metrics(np.asarray([1.0, 2.0, 6.0, 11.0]), direction="text_to_video", num_items=20)
    assert (found.recall, found.median_rank, found.mean_rank) == ({1: 25.0, 5: 50.0, 10: 75.0, 50: 100.0}, 4.0, 5.0)
    assert (found.num_queries, found.num_items) == (4, 20)


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


@pytest.mark.parametrize(("found", "message"), [([], "no ranks"), ([0.0], "1 to 5"), ([6.0], "1 to 5")])
def test_impossible_ranks_are_an_error(found: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics(np.asarray(found), direction="text_to_video", num_items=5)


def simulate(owners: NDArray[np.int64], num_videos: int, rounds: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ranks of many random score matrices."""
    generator = np.random.default_rng(5)
    t2v, v2t = [], []
    for _ in range(rounds):
        scores = generator.random((len(owners), num_videos))
        t2v.append(ranks.text_to_video(scores, owners))
        v2t.append(ranks.video_to_text(scores, owners))
    return np.concatenate(t2v), np.concatenate(v2t)


def test_chance_equals_simulation() -> None:
    owners = np.repeat(np.arange(30), np.arange(30) % 5 + (np.arange(30) % 5 == 0))  # 1, 1, 2, 3, 4 captions a video
    expected = chance(owners, 34)  # four videos have no caption
    both = (expected.text_to_video, expected.video_to_text)
    for theory, drawn in zip(both, simulate(owners, 34, 400), strict=True):
        found = metrics(drawn, direction=theory.direction, num_items=theory.num_items)
        for at in (1, 5, 10, 50):
            error = 100 * np.sqrt(theory.recall[at] / 100 * (1 - theory.recall[at] / 100) / len(drawn))
            assert abs(found.recall[at] - theory.recall[at]) <= 4 * error + 1e-9
        assert found.mean_rank == pytest.approx(theory.mean_rank, rel=0.03)
        assert abs(found.median_rank - theory.median_rank) <= 1
        assert theory.num_queries == len(drawn) // 400


def test_chance_on_the_published_protocols() -> None:
    full = chance(np.repeat(np.arange(2990), 20), 2990)
    t2v, v2t = full.text_to_video, full.video_to_text
    assert t2v.recall[10] == pytest.approx(100 * 10 / 2990)
    assert v2t.recall[1] == pytest.approx(100 * 20 / 59_800)
    assert (t2v.median_rank, t2v.mean_rank) == (1495.5, 1495.5)
    one_each = chance(np.arange(1000), 1000)
    assert one_each.text_to_video.recall == pytest.approx(one_each.video_to_text.recall)
    assert one_each.rsum == pytest.approx(2 * (0.1 + 0.5 + 1.0))
