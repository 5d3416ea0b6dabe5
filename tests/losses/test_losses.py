"""The losses against plain float64 loops written from the equations."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vtr.loss_config import (
    ContrastiveLossConfig,
    LossConfig,
    MaxMarginRankingLossConfig,
    TripletHardNegativeLossConfig,
    UnifiedLossConfig,
)
from vtr.losses import (
    build_loss,
    contrastive_loss,
    max_margin_ranking_loss,
    triplet_hard_negative_loss,
    unified_loss,
)


def random_scores(size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((size, size), generator=generator, dtype=torch.float64) * 2 - 1


def pairs(scores: Tensor) -> list[tuple[float, list[float]]]:
    """Return every anchor's positive and negatives: texts over videos, then videos over texts."""
    size, s = len(scores), scores.tolist()
    texts = [(s[i][i], [s[i][j] for j in range(size) if j != i]) for i in range(size)]
    videos = [(s[i][i], [s[j][i] for j in range(size) if j != i]) for i in range(size)]
    return texts + videos


def unified_by_loops(scores: Tensor, margin: float, gamma: float) -> float:
    return sum(
        math.log1p(sum(math.exp(gamma * (n - p + margin)) for n in negatives)) / gamma for p, negatives in pairs(scores)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 24), st.integers(0, 10_000), st.floats(-0.5, 1.0), st.floats(0.5, 100))
def test_unified_equals_loops(size: int, seed: int, margin: float, gamma: float) -> None:
    scores = random_scores(size, seed)
    expected = unified_by_loops(scores, margin, gamma)
    assert unified_loss(scores, margin, gamma).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert unified_loss(scores, margin, gamma, "mean").item() == pytest.approx(expected / size, rel=1e-9, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 16), st.integers(0, 10_000))
def test_the_others_equal_loops(size: int, seed: int) -> None:
    scores = random_scores(size, seed)
    triplet = sum(max(0.0, max(negatives) - p + 0.2) for p, negatives in pairs(scores))
    assert triplet_hard_negative_loss(scores, 0.2).item() == pytest.approx(triplet, abs=1e-12)
    hinges = [max(0.0, n - p + 0.05) for p, negatives in pairs(scores) for n in negatives]
    assert max_margin_ranking_loss(scores, 0.05).item() == pytest.approx(sum(hinges) / len(hinges), abs=1e-12)
    entropy = sum(
        -math.log(math.exp(9 * p) / (math.exp(9 * p) + sum(math.exp(9 * n) for n in negatives)))
        for p, negatives in pairs(scores)
    )
    assert contrastive_loss(scores, 9.0).item() == pytest.approx(entropy, rel=1e-10)


def test_margin_zero_is_the_contrastive_loss_over_gamma() -> None:
    scores = random_scores(12, 1)
    assert unified_loss(scores, 0.0, 20.0).item() == pytest.approx(
        contrastive_loss(scores, 20.0).item() / 20, rel=1e-10
    )


def test_large_gamma_approaches_the_hardest_negative_triplet_loss_at_rate_one_over_gamma() -> None:
    scores = random_scores(16, 2)
    limit = triplet_hard_negative_loss(scores, 0.2).item()
    gaps = [unified_loss(scores, 0.2, gamma).item() - limit for gamma in (100.0, 200.0, 400.0, 800.0)]
    assert all(gap >= 0 for gap in gaps)
    assert all(later < earlier * 0.6 for earlier, later in itertools.pairwise(gaps))


@pytest.mark.parametrize("loss", [unified_loss, triplet_hard_negative_loss, max_margin_ranking_loss, contrastive_loss])
def test_gradients_and_a_batch_of_one(loss: object) -> None:
    assert callable(loss)
    assert torch.autograd.gradcheck(loss, (random_scores(6, 3).requires_grad_(),))
    one = torch.tensor([[0.3]], requires_grad=True)
    value = loss(one)
    value.backward()
    assert value.item() == 0
    assert one.grad is not None
    assert one.grad.item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("gamma", [50.0, 1000.0])
def test_half_precision_scores_give_finite_losses_and_gradients(dtype: torch.dtype, gamma: float) -> None:
    scores = random_scores(8, 4).to(dtype).requires_grad_()
    loss = unified_loss(scores, 0.2, gamma)
    loss.backward()
    assert scores.grad is not None
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()
    exact = unified_loss(scores.detach().double(), 0.2, gamma)  # only the input is rounded, not what is done with it
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize("shape", [(2, 3), (3,), (0, 0), (2, 2, 2)])
def test_scores_that_are_not_square_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="diagonal expected"):
        unified_loss(torch.zeros(shape))


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="gamma is 0"):
        unified_loss(torch.zeros(2, 2), gamma=0)
    with pytest.raises(ValueError, match="reduction is 'max'"):
        unified_loss(torch.zeros(2, 2), reduction="max")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (UnifiedLossConfig(margin=0.1, gamma=7.0, reduction="sum"), lambda s: unified_loss(s, 0.1, 7.0)),
        (
            TripletHardNegativeLossConfig(name="triplet_hn", margin=0.3),
            lambda s: triplet_hard_negative_loss(s, 0.3) / 5,
        ),
        (MaxMarginRankingLossConfig(name="max_margin", margin=0.3), lambda s: max_margin_ranking_loss(s, 0.3)),
        (ContrastiveLossConfig(name="contrastive", gamma=3.0), lambda s: contrastive_loss(s, 3.0) / 5),
    ],
)
def test_a_config_builds_its_loss(config: LossConfig, expected: object) -> None:
    assert callable(expected)
    scores = random_scores(5, 5)
    assert torch.equal(build_loss(config)(scores), expected(scores))
