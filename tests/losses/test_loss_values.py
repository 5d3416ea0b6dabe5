"""Values and gradients of every loss against the plain float64 loops of `loops`."""

from __future__ import annotations

from decimal import Decimal, localcontext

import loops
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import CASES, PER_ANCHOR, Case, draw, random_scores
from torch import Tensor

from vtr.losses import LOSSES, OfflineScores, unified_loss, weighted_unified_loss

MARGINS = st.floats(-0.5, 1.0) | st.just(0.0)
GAMMAS = st.floats(1.0, 1000.0)
SEEDS = st.integers(0, 10_000)


def gradient_of(case: Case, scores: Tensor, margin: float, gamma: float, **more: object) -> Tensor:
    leaf = scores.clone().requires_grad_()
    (found,) = torch.autograd.grad(case.ours(leaf, margin, gamma, **more), leaf)
    return found


def test_the_cases_cover_every_loss() -> None:
    assert {name.split(",")[0] for name in CASES} == set(LOSSES)


@pytest.mark.parametrize("gamma", [1.0, 50.0, 1000.0])
def test_the_loops_own_logarithm_of_sums_equals_sixty_digit_arithmetic(gamma: float) -> None:
    with localcontext() as context:
        context.prec = 60
        for gaps in ([-0.9, -0.3], [0.4, -0.2, 1.9], [0.0], [-1.0, 0.7, 0.7]):
            xs = [gamma * gap for gap in gaps]
            exact = (1 + sum(Decimal(x).exp() for x in xs)).ln()
            assert loops.log_one_plus_sum(xs) == pytest.approx(float(exact), rel=1e-13)
            exact = sum((Decimal(x).exp() for x in xs), Decimal(0)).ln()
            assert loops.log_sum(xs) == pytest.approx(float(exact), rel=1e-13)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, 64), seed=SEEDS, margin=MARGINS, gamma=GAMMAS)
def test_values_equal_the_loops(name: str, size: int, seed: int, margin: float, gamma: float) -> None:
    case, scores = CASES[name], random_scores(size, seed)
    per_anchor = case.loop(scores.tolist(), margin, gamma, ())
    expected = pytest.approx(loops.total(per_anchor), rel=case.digits, abs=1e-11)
    assert case.ours(scores, margin, gamma, reduction="sum").item() == expected
    count = max(len(per_anchor), 1) if name == "max_margin" else size  # its mean is over the negatives
    mean = pytest.approx(loops.total(per_anchor) / count, rel=case.digits, abs=1e-11)
    assert case.ours(scores, margin, gamma, reduction="mean").item() == mean


@pytest.mark.parametrize("name", PER_ANCHOR)
def test_without_reduction_every_anchor_has_its_value(name: str) -> None:
    case, scores = CASES[name], random_scores(9, 1)
    found = case.ours(scores, 0.2, 30.0, reduction="none")
    expected = torch.tensor([loops.number(x) for x in case.loop(scores.tolist(), 0.2, 30.0, ())], dtype=torch.float64)
    torch.testing.assert_close(found, expected.view(2, 9), rtol=case.digits, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=8, deadline=None)
@given(size=st.integers(1, 10), seed=SEEDS, margin=MARGINS, gamma=GAMMAS)
def test_gradients_equal_those_of_the_loops(name: str, size: int, seed: int, margin: float, gamma: float) -> None:
    case, scores = CASES[name], random_scores(size, seed)
    expected = loops.gradient(lambda s: case.loop(s, margin, gamma, ()), scores)
    found = gradient_of(case, scores, margin, gamma, reduction="sum")
    accuracy = max(case.digits, 1e-9)
    torch.testing.assert_close(found, expected, rtol=accuracy, atol=accuracy)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_a_large_batch_equal_those_of_the_loops(name: str) -> None:
    case, scores = CASES[name], random_scores(40, 2)
    expected = loops.gradient(lambda s: case.loop(s, 0.2, 50.0, ()), scores)
    torch.testing.assert_close(
        gradient_of(case, scores, 0.2, 50.0, reduction="sum"), expected, rtol=case.digits, atol=case.digits
    )


def test_the_loops_gradient_equals_central_differences() -> None:
    scores, step = random_scores(5, 3), 1e-6
    found = loops.gradient(lambda s: loops.unified(s, 0.2, 20.0), scores)
    for i in range(5):
        for j in range(5):
            sides = []
            for sign in (1, -1):
                moved = scores.tolist()
                moved[i][j] += sign * step
                sides.append(loops.total(loops.unified(moved, 0.2, 20.0)))
            assert found[i, j].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-6)


# Weights that are made of the scores without a gradient are no function that central differences could follow.
DIFFERENTIABLE = [name for name in CASES if name not in ("weighted_unified, weights of the scores", "meta_weighted")]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradcheck(name: str) -> None:
    case = CASES[name]
    scores = random_scores(6, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: case.ours(s, 0.2, 10.0), (scores,))


def test_gradcheck_of_weights_apart_from_the_scores_that_ask_for_a_gradient() -> None:
    scores, weights = random_scores(6, 3).requires_grad_(), draw((2, 6, 6), 4, 0.0, 2.0).requires_grad_()
    for w in (weights, weights[0]):
        assert torch.autograd.gradcheck(lambda s, w: weighted_unified_loss(s, w, 0.2, 10.0), (scores, w))


@pytest.mark.parametrize("learnt", [False, True])
def test_gradgradcheck_of_the_unified_loss(learnt: bool) -> None:
    scores = random_scores(4, 5).requires_grad_()
    margins = draw(4, 6, 0.0, 0.4).requires_grad_(learnt)
    positives = torch.eye(4, dtype=torch.bool)
    positives[1] = True  # a text without any negative
    positives[2, 0] = True

    def loss(s: Tensor, m: Tensor) -> Tensor:
        return unified_loss(s, m, 5.0, positives=positives)

    assert torch.autograd.gradcheck(loss, (scores, margins))
    assert torch.autograd.gradgradcheck(loss, (scores, margins))


def test_learnt_margins_get_the_gradient_of_the_loops() -> None:
    scores, margins = random_scores(7, 7), draw(7, 8, 0.0, 0.5).requires_grad_()
    (found,) = torch.autograd.grad(unified_loss(scores, margins, 30.0), margins)
    leaf = margins.detach().requires_grad_()
    (expected,) = torch.autograd.grad(sum(loops.adaptive_margin(scores.tolist(), list(leaf.unbind()), 30.0)), leaf)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_of_one_has_no_negatives_no_loss_and_no_gradient(name: str, dtype: torch.dtype) -> None:
    one = torch.tensor([[0.3]], dtype=dtype, requires_grad=True)
    low = torch.tensor([-5.0])  # offline negatives that hurt nobody: those of AOQ do not come from the batch
    loss = LOSSES[name]()(one, OfflineScores(low, low, low)) if name == "offline_quintuplet" else LOSSES[name]()(one)
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == 0
    assert one.grad is not None
    assert one.grad.item() == 0


@pytest.mark.parametrize("name", CASES)
def test_one_pair_among_the_cases_has_no_loss_from_the_batch(name: str) -> None:
    one = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    expected = 0.0 if name != "offline_quintuplet" else loops.total(CASES[name].loop([[0.3]], 0.2, 50.0, ()))
    assert CASES[name].ours(one, 0.2, 50.0).item() == pytest.approx(expected, abs=1e-12)
