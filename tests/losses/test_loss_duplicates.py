"""Known positives besides the diagonal are no negatives, for every loss; and the order of a batch does not matter."""

from __future__ import annotations

import loops
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import CASES, draw, mask, offline_scores, random_scores
from torch import Tensor

from vtr.losses import (
    LOSSES,
    OfflineScores,
    UnifiedLoss,
    WeightedUnifiedLoss,
    adaptive_margin_unified_loss,
    offline_quintuplet_loss,
    triplet_hard_negative_loss,
    unified_loss,
    weighted_unified_loss,
)


def some_known(size: int, seed: int, share: float) -> list[tuple[int, int]]:
    """Random pairs (text, video); not symmetric, and the diagonal sometimes among them, which must not matter."""
    chosen = draw((size, size), seed + 1, 0.0, 1.0) < share
    return [(i, j) for i in range(size) for j in range(size) if chosen[i, j]]


def value_and_gradient(name: str, scores: Tensor, positives: Tensor | None) -> tuple[float, Tensor]:
    leaf = scores.clone().requires_grad_()
    value = CASES[name].ours(leaf, 0.2, 20.0, reduction="sum", positives=positives)
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=10, deadline=None)
@given(size=st.integers(1, 9), seed=st.integers(0, 10_000), share=st.sampled_from([0.1, 0.4, 0.8]))
def test_known_positives_are_left_out_as_in_the_loops(name: str, size: int, seed: int, share: float) -> None:
    scores, known = random_scores(size, seed), some_known(size, seed, share)
    value, gradient = value_and_gradient(name, scores, mask(known, size))
    case = CASES[name]
    expected = loops.total(case.loop(scores.tolist(), 0.2, 20.0, known))
    assert value == pytest.approx(expected, rel=case.digits, abs=1e-11)
    by_loops = loops.gradient(lambda s: case.loop(s, 0.2, 20.0, known), scores)
    torch.testing.assert_close(gradient, by_loops, rtol=case.digits, atol=max(case.digits, 1e-9))
    left_out = mask(known, size) & ~torch.eye(size, dtype=torch.bool)
    assert (gradient[left_out] == 0).all()


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_out_may_have_any_score(name: str) -> None:
    """The duplicate of a caption scores best of all; with the mask, it might as well score worst."""
    scores, known = random_scores(7, 1), [(0, 3), (3, 0), (2, 5)]
    best, worst = scores.clone(), scores.clone()
    for text, video in known:
        best[text, video], worst[text, video] = 1.0, -1.0
    of_best, of_worst = (value_and_gradient(name, s, mask(known, 7)) for s in (best, worst))
    assert of_best[0] == pytest.approx(of_worst[0], rel=1e-6)
    assert value_and_gradient(name, best, None)[0] > of_best[0]


@pytest.mark.parametrize("name", CASES)
def test_the_mean_divides_by_what_it_says_with_known_positives(name: str) -> None:
    scores, known = random_scores(6, 2), [(0, 3), (4, 0), (2, 5)]
    total = value_and_gradient(name, scores, mask(known, 6))[0]
    mean = CASES[name].ours(scores, 0.2, 20.0, reduction="mean", positives=mask(known, 6)).item()
    negatives = 2 * (6 * 5 - 3)
    assert mean == pytest.approx(total / (negatives if name == "max_margin" else 6))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_all_pairs_are_positives_nothing_is_left_to_learn(name: str, dtype: torch.dtype) -> None:
    scores = random_scores(5, 3).to(dtype).requires_grad_()
    loss = CASES[name].ours(scores, 0.2, 50.0, positives=torch.ones((5, 5), dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss, scores)
    if name == "offline_quintuplet":  # what was mined elsewhere stays
        everything = [(i, j) for i in range(5) for j in range(5)]
        assert loss.item() == pytest.approx(
            loops.total(loops.offline_quintuplet(scores.tolist(), offline_scores(5)[1], 0.2, known=everything))
        )
        assert torch.isfinite(gradient).all()
        assert (gradient[~torch.eye(5, dtype=torch.bool)] == 0).all()
    else:
        assert loss.item() == 0
        assert (gradient == 0).all()


def test_the_modules_take_the_mask_too() -> None:
    scores, known = random_scores(6, 4), [(0, 3), (4, 0), (2, 5)]
    positives = mask(known, 6)
    low = torch.full((6,), -9.0)
    for name, module in LOSSES.items():
        more = {"offline": OfflineScores(low, low, low)} if name == "offline_quintuplet" else {}
        moved = scores + 5.0 * positives  # the known positives score best by far
        assert module()(scores, positives=positives, **more).item() == pytest.approx(
            module()(moved, positives=positives, **more).item()
        ), name
        assert module()(scores, **more).item() != pytest.approx(module()(moved, **more).item()), name


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (torch.zeros((4, 4)), r"float32 \(4, 4\), bool \(4, 4\) expected"),
        (torch.zeros((4, 3), dtype=torch.bool), r"bool \(4, 3\), bool \(4, 4\) expected"),
        (torch.zeros(4, dtype=torch.bool), r"bool \(4,\), bool \(4, 4\) expected"),
    ],
)
def test_a_mask_of_another_shape_or_type_is_refused(name: str, wrong: Tensor, named: str) -> None:
    low = torch.zeros(4)
    more = {"offline": OfflineScores(low, low, low)} if name == "offline_quintuplet" else {}
    with pytest.raises(ValueError, match=f"positives are .*{named}: True where a text is known"):
        LOSSES[name]()(random_scores(4, 5), positives=wrong, **more)


# The cases whose weights, margins or offline scores hang on the place in the batch have tests of their own.
OF_SCORES_ALONE = [
    name
    for name in CASES
    if name
    not in (
        "weighted_unified",
        "weighted_unified, a weight an anchor",
        "adaptive_margin_unified",
        "offline_quintuplet",
    )
]


@pytest.mark.parametrize("name", OF_SCORES_ALONE)
def test_the_order_of_the_batch_does_not_matter(name: str) -> None:
    scores, known = random_scores(11, 6), some_known(11, 6, 0.2)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(7))
    positives = mask(known, 11)
    value, gradient = value_and_gradient(name, scores, positives)
    permuted, of_permuted = value_and_gradient(name, scores[order][:, order], positives[order][:, order])
    accuracy = max(CASES[name].digits, 1e-9)
    assert permuted == pytest.approx(value, rel=accuracy)
    torch.testing.assert_close(of_permuted, gradient[order][:, order], rtol=accuracy, atol=accuracy)


@pytest.mark.parametrize("name", OF_SCORES_ALONE)
def test_texts_and_videos_may_change_places(name: str) -> None:
    scores, positives = random_scores(9, 8), mask(some_known(9, 8, 0.2), 9)
    value, gradient = value_and_gradient(name, scores, positives)
    turned, of_turned = value_and_gradient(name, scores.T, positives.T)
    accuracy = max(CASES[name].digits, 1e-9)
    assert turned == pytest.approx(value, rel=accuracy)
    torch.testing.assert_close(of_turned, gradient.T, rtol=accuracy, atol=accuracy)


def test_what_belongs_to_a_pair_moves_with_it() -> None:
    scores, order = random_scores(8, 9), torch.randperm(8, generator=torch.Generator().manual_seed(9))
    moved = scores[order][:, order]
    weights, apart, margins = draw((8, 8), 10), draw((2, 8, 8), 11), draw(8, 12)
    offline, _ = offline_scores(8)
    same = [
        (weighted_unified_loss(scores, weights), weighted_unified_loss(moved, weights[order][:, order])),
        (weighted_unified_loss(scores, apart), weighted_unified_loss(moved, apart[:, order][:, :, order])),
        (adaptive_margin_unified_loss(scores, margins), adaptive_margin_unified_loss(moved, margins[order])),
        (
            offline_quintuplet_loss(scores, offline),
            offline_quintuplet_loss(
                moved, OfflineScores(offline.text[order], offline.video[order], offline.pair[order])
            ),
        ),
    ]
    for value, permuted in same:
        assert permuted.item() == pytest.approx(value.item(), rel=1e-9)


def test_duplicates_in_the_batch_cost_without_the_mask_and_not_with_it() -> None:
    """Two captions of one video: without the mask each must beat the other's copy of its own video by the margin."""
    scores = torch.full((4, 4), -0.9, dtype=torch.float64).fill_diagonal_(0.9)
    scores[0, 1] = scores[1, 0] = 0.9
    positives = mask([(0, 1), (1, 0)], 4)
    assert triplet_hard_negative_loss(scores).item() == pytest.approx(4 * 0.2)
    assert triplet_hard_negative_loss(scores, positives=positives).item() == 0
    assert UnifiedLoss()(scores).item() > 4 * 0.2
    assert UnifiedLoss()(scores, positives).item() < 1e-9
    assert unified_loss(scores, positives=positives) == WeightedUnifiedLoss()(scores, positives)
