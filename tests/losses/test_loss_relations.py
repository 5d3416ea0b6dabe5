"""How the losses turn into each other, as arXiv 2209.13869 says they do."""

from __future__ import annotations

import itertools
import math

import loops
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import draw, random_scores
from torch import Tensor

from vtr.losses import (
    OfflineScores,
    adaptive_margin_unified_loss,
    contrastive_loss,
    offline_quintuplet_loss,
    relative_polynomial_loss,
    triplet_hard_negative_loss,
    unified_loss,
    weighted_unified_loss,
)

SIZES = st.integers(1, 24)
SEEDS = st.integers(0, 10_000)


def value_and_gradient(loss: object, scores: Tensor) -> tuple[float, Tensor]:
    assert callable(loss)
    leaf = scores.clone().requires_grad_()
    value = loss(leaf)
    return value.item(), torch.autograd.grad(value, leaf)[0]


def assert_same(one: object, other: object, scores: Tensor) -> None:
    """Both losses of scores, and their gradients, are equal."""
    value, gradient = value_and_gradient(one, scores)
    expected, expected_gradient = value_and_gradient(other, scores)
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-11)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(SIZES, SEEDS, st.floats(-0.5, 1.0), st.floats(1.0, 1000.0))
def test_the_unified_loss_is_above_the_triplet_loss_by_log_b_over_gamma_an_anchor_at_most(
    size: int, seed: int, margin: float, gamma: float
) -> None:
    scores = random_scores(size, seed)
    gap = unified_loss(scores, margin, gamma).item() - triplet_hard_negative_loss(scores, margin).item()
    assert -1e-10 <= gap <= 2 * size * math.log(size) / gamma + 1e-10


def test_the_bound_is_met_where_all_similarities_are_equal_up_to_the_margin() -> None:
    scores = torch.full((8, 8), 0.1, dtype=torch.float64)
    scores.fill_diagonal_(0.3)
    gap = unified_loss(scores, 0.2, 40.0).item() - triplet_hard_negative_loss(scores, 0.2).item()
    assert gap == pytest.approx(16 * math.log(8) / 40)


def test_the_gap_to_the_triplet_loss_halves_as_gamma_doubles() -> None:
    """Four hardest negatives for every anchor and no others near: the gap is 2 B log(4) / gamma and more tiny terms."""
    scores = torch.full((10, 10), -1.0, dtype=torch.float64)
    for i, step in itertools.product(range(10), range(1, 5)):
        scores[i, (i + step) % 10] = 0.4
    scores.fill_diagonal_(0.2)
    triplet = triplet_hard_negative_loss(scores, 0.2).item()
    gaps = [unified_loss(scores, 0.2, gamma).item() - triplet for gamma in (100.0, 200.0, 400.0, 800.0)]
    assert gaps[0] == pytest.approx(20 * math.log(4) / 100, rel=1e-6)
    assert [later / earlier for earlier, later in itertools.pairwise(gaps)] == pytest.approx([0.5] * 3, rel=1e-6)


def test_the_gradient_tends_to_the_triplet_losss_with_gamma() -> None:
    scores = random_scores(12, 1)
    _, limit = value_and_gradient(lambda s: triplet_hard_negative_loss(s, 0.2), scores)
    apart = [
        (value_and_gradient(lambda s, g=gamma: unified_loss(s, 0.2, g), scores)[1] - limit).abs().max().item()
        for gamma in (10.0, 100.0, 1000.0, 10_000.0)
    ]
    assert apart == sorted(apart, reverse=True)
    assert apart[0] > 0.3
    assert apart[-1] < 1e-6


@settings(max_examples=20, deadline=None)
@given(SIZES, SEEDS, st.floats(1.0, 1000.0))
def test_margin_zero_is_the_contrastive_loss_over_gamma(size: int, seed: int, gamma: float) -> None:
    assert_same(
        lambda s: unified_loss(s, 0.0, gamma), lambda s: contrastive_loss(s, gamma) / gamma, random_scores(size, seed)
    )


@settings(max_examples=20, deadline=None)
@given(SIZES, SEEDS, st.floats(-0.5, 1.0), st.floats(1.0, 500.0))
def test_unit_weights_constant_margins_and_the_identity_are_the_unified_loss(
    size: int, seed: int, margin: float, gamma: float
) -> None:
    scores = random_scores(size, seed)
    ones, margins = torch.ones(size, size), torch.full((size,), margin, dtype=torch.float64)
    for same in (
        lambda s: weighted_unified_loss(s, ones, margin, gamma),
        lambda s: weighted_unified_loss(s, torch.stack((ones, ones)), margin, gamma),
        lambda s: weighted_unified_loss(s, torch.ones_like, margin, gamma),
        lambda s: adaptive_margin_unified_loss(s, margins, gamma),
        lambda s: relative_polynomial_loss(s, (0.0, 1.0), margin, gamma, "unified"),
        lambda s: relative_polynomial_loss(s, (margin, 1.0), 0.0, gamma, "unified"),
    ):
        assert_same(same, lambda s: unified_loss(s, margin, gamma), scores)


@settings(max_examples=20, deadline=None)
@given(SIZES, SEEDS, st.floats(-0.5, 1.0))
def test_the_identity_as_a_hinge_is_the_triplet_loss(size: int, seed: int, margin: float) -> None:
    assert_same(
        lambda s: relative_polynomial_loss(s, (0.0, 1.0), margin),
        lambda s: triplet_hard_negative_loss(s, margin),
        random_scores(size, seed),
    )


def test_equal_weights_rescale_gamma_and_margin() -> None:
    """w (s_ij - s_ii) + m = w (s_ij - s_ii + m / w): Eq. 24 with weights w is w times Eq. 5 at gamma w and m / w."""
    weights = torch.full((9, 9), 1.7, dtype=torch.float64)
    assert_same(
        lambda s: weighted_unified_loss(s, weights, 0.2, 30.0),
        lambda s: 1.7 * unified_loss(s, 0.2 / 1.7, 30.0 * 1.7),
        random_scores(9, 2),
    )


def test_weights_that_carry_a_gradient_pass_it_on_and_detached_ones_do_not() -> None:
    scores = random_scores(6, 3)
    _, through = value_and_gradient(lambda s: weighted_unified_loss(s, 1 + s**2, 0.2, 20.0), scores)
    _, cube = value_and_gradient(lambda s: unified_loss(s + s**3, 0.2, 20.0), scores)
    _, detached = value_and_gradient(lambda s: weighted_unified_loss(s, (1 + s**2).detach(), 0.2, 20.0), scores)
    torch.testing.assert_close(through, cube)
    assert not torch.allclose(detached, through)


def test_offline_negatives_that_hurt_nobody_and_weight_one_leave_the_triplet_loss() -> None:
    scores = random_scores(9, 4)
    low = torch.full((9,), -10.0, dtype=torch.float64)
    assert_same(
        lambda s: offline_quintuplet_loss(s, OfflineScores(low, low, low), alpha=1e12, beta=1.0),
        lambda s: triplet_hard_negative_loss(s, 0.2),
        scores,
    )


@pytest.mark.parametrize("gamma", [1.0, 20.0, 80.0])
def test_the_two_forms_of_eq_20_agree(gamma: float) -> None:
    """log(1 + sum D) / gamma is the cross entropy of picking a positive whose similarity is lowered by the margin."""
    scores, margin = random_scores(7, 5), 0.3
    entropy = 0.0
    for anchor in loops.anchors(scores.tolist()):
        own = math.exp(gamma * (anchor.own - margin))
        entropy -= math.log(own / (own + sum(math.exp(gamma * n) for n in anchor.negatives.values()))) / gamma
    assert loops.total(loops.unified(scores.tolist(), margin, gamma)) == pytest.approx(entropy, rel=1e-9)
    assert unified_loss(scores, margin, gamma).item() == pytest.approx(entropy, rel=1e-9)


def test_the_two_forms_of_a_negatives_weight_agree_with_the_gradient() -> None:
    """D_j / (1 + sum_k D_k) = 1 / (1/D_j + sum_k D_k/D_j), and a pair is a negative of its text and of its video."""
    scores, margin, gamma = random_scores(7, 6), 0.3, 15.0
    expected = torch.zeros(7, 7, dtype=torch.float64)
    for anchor in loops.anchors(scores.tolist()):
        d = {j: math.exp(gamma * (n - anchor.own + margin)) for j, n in anchor.negatives.items()}
        for j, value in d.items():
            first = value / (1 + sum(d.values()))
            second = 1 / (1 / value + sum(other / value for other in d.values()))
            assert first == pytest.approx(second, rel=1e-12)
            at = (anchor.at, j) if anchor.side == 0 else (j, anchor.at)
            expected[at] += first
            expected[anchor.at, anchor.at] -= first
    _, found = value_and_gradient(lambda s: unified_loss(s, margin, gamma), scores)
    torch.testing.assert_close(found, expected)


def test_of_equally_hard_negatives_each_gets_its_share_of_the_triplet_losss_gradient() -> None:
    scores = torch.tensor([[0.0, 0.5, 0.5], [-1.0, 0.9, -1.0], [-1.0, -1.0, 0.9]], dtype=torch.float64)
    _, found = value_and_gradient(lambda s: triplet_hard_negative_loss(s, 0.2, "none")[0, 0], scores)
    assert found[0].tolist() == [-1, 0.5, 0.5]


@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_scaling_similarities_and_margin_scales_the_loss_and_divides_gamma(scale: float) -> None:
    scores = random_scores(6, 7)
    assert unified_loss(scale * scores, scale * 0.2, 30.0 / scale).item() == pytest.approx(
        scale * unified_loss(scores, 0.2, 30.0).item()
    )


def test_a_shift_of_all_similarities_changes_nothing() -> None:
    scores, shift = random_scores(6, 8), draw(1, 9).item()
    assert unified_loss(scores + shift).item() == pytest.approx(unified_loss(scores).item())
