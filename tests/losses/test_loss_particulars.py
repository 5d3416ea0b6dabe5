"""What only one loss has: a network's weights, a learnt scale, soft margins, skipped anchors, offline pairs."""

from __future__ import annotations

import math

import loops
import pytest
import torch
from loss_cases import CASES, draw, network_and_loops, offline_scores, random_scores

from vtr.losses import (
    LOSSES,
    AdaptiveMarginUnifiedLoss,
    ContrastiveLoss,
    OfflineScores,
    WeightedUnifiedLoss,
    adaptive_margin_unified_loss,
    offline_quintuplet_loss,
    self_polynomial_loss,
    soft_margins,
)


def test_meta_weights_equal_the_loops_and_give_the_scores_no_gradient() -> None:
    module, network = network_and_loops()
    scores = random_scores(6, 9).requires_grad_()
    known = [(0, 3), (2, 1)]
    positives = torch.zeros((6, 6), dtype=torch.bool)
    positives[[0, 2], [3, 1]] = True
    weights = module.network(scores, positives)
    expected = torch.tensor(loops.meta_weights(scores.tolist(), network, known))
    read = torch.stack((~positives, ~positives.T))  # the weight of what is no negative goes nowhere
    torch.testing.assert_close(weights[read], expected[read], rtol=1e-5, atol=1e-5)
    assert weights.min() > 0
    assert weights.max() < 2
    assert torch.autograd.grad(weights.sum(), scores, allow_unused=True) == (None,)


def test_a_meta_weighting_network_gets_the_gradient_of_the_loops() -> None:
    module, _ = network_and_loops()
    scores = random_scores(4, 9)
    loss = module(scores)
    found = torch.autograd.grad(loss, list(module.parameters()))
    leaves = [parameter.detach().double().requires_grad_() for parameter in module.parameters()]
    first, bias, last, end = leaves
    network = loops.Network([(first[h, 0], first[h, 1], bias[h]) for h in range(5)], list(last[0].unbind()), end[0])
    s = scores.tolist()
    by_loops = sum(loops.weighted(s, loops.meta_weights(s, network), 0.2, 50.0))
    assert loss.item() == pytest.approx(loops.number(by_loops), rel=1e-5)
    for mine, theirs in zip(found, torch.autograd.grad(by_loops, leaves), strict=True):
        assert theirs.abs().max() > 0.01
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-3, atol=1e-4)


def test_all_meta_weights_are_one_at_the_start_which_is_the_unified_loss() -> None:
    scores = random_scores(5, 11)
    fresh = LOSSES["meta_weighted"](hidden=6)
    assert torch.equal(fresh.network(scores), torch.ones(2, 5, 5))
    assert fresh(scores).item() == pytest.approx(loops.total(loops.unified(scores.tolist(), 0.2, 50.0)), rel=1e-9)


def test_a_learnt_scale_gets_the_gradient_of_the_loops_and_stays_at_or_below_100() -> None:
    scores = random_scores(6, 12)
    module = ContrastiveLoss(gamma=20.0, learnable=True)
    (found,) = torch.autograd.grad(module(scores), list(module.parameters()))
    log_gamma = torch.tensor(math.log(20.0), dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(sum(loops.contrastive(scores.tolist(), log_gamma.exp())), log_gamma)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    too_large = ContrastiveLoss(gamma=250.0, learnable=True)
    loss = too_large(scores)
    assert loss.item() == pytest.approx(loops.total(loops.contrastive(scores.tolist(), 100.0)), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, list(too_large.parameters()))
    assert gradient.item() != 0  # one that a clamped use of the parameter would not have: it could never come back


def test_a_fixed_scale_is_no_parameter() -> None:
    assert not list(ContrastiveLoss(gamma=250.0).parameters())
    scores = random_scores(6, 12)
    expected = loops.total(loops.contrastive(scores.tolist(), 250.0))
    assert ContrastiveLoss(gamma=250.0)(scores).item() == pytest.approx(expected, rel=1e-9)


def test_soft_margins_follow_the_rule_from_none_to_the_whole_margin() -> None:
    labels = [0.0, 0.3, 0.8, 1.0]
    found = soft_margins(torch.tensor(labels, dtype=torch.float64), 0.3).tolist()
    assert found == pytest.approx([0.3 * (10**y - 1) / 9 for y in labels])
    assert (found[0], found[-1]) == pytest.approx((0.0, 0.3))


def test_the_adaptive_module_takes_labels_or_margins_and_without_either_all_pairs_match() -> None:
    scores, labels = random_scores(5, 13), draw(5, 14, 0.0, 1.0)
    module = AdaptiveMarginUnifiedLoss(0.3, 20.0)
    margins = [0.3 * (10**y - 1) / 9 for y in labels.tolist()]
    by_loops = loops.total(loops.adaptive_margin(scores.tolist(), margins, 20.0))
    assert module(scores, labels=labels).item() == pytest.approx(by_loops, rel=1e-9)
    assert module(scores, margins=torch.tensor(margins)).item() == pytest.approx(by_loops, rel=1e-6)
    assert module(scores).item() == pytest.approx(loops.total(loops.unified(scores.tolist(), 0.3, 20.0)), rel=1e-9)


@pytest.mark.parametrize("scores_dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("margins_dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_margins_may_have_another_precision_than_scores(scores_dtype: torch.dtype, margins_dtype: torch.dtype) -> None:
    scores, margins = random_scores(5, 13).to(scores_dtype), draw(5, 14, 0.0, 1.0).to(margins_dtype)
    losses = [adaptive_margin_unified_loss(scores, margins, 20.0)]
    losses.append(adaptive_margin_unified_loss(scores, margins.requires_grad_(), 20.0))
    expected = loops.total(loops.adaptive_margin(scores.tolist(), margins.tolist(), 20.0))
    for loss in losses:
        assert loss.dtype == (torch.float64 if scores_dtype == torch.float64 else torch.float32)
        assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_weighting_may_be_named_given_or_made_of_the_scores() -> None:
    scores = random_scores(5, 15)
    unit = loops.total(loops.unified(scores.tolist(), 0.2, 50.0))
    circle = loops.total(CASES["weighted_unified, weights of the scores"].loop(scores.tolist(), 0.2, 50.0, ()))
    assert WeightedUnifiedLoss()(scores).item() == pytest.approx(unit, rel=1e-9)
    assert WeightedUnifiedLoss(weights="circle")(scores).item() == pytest.approx(circle, rel=1e-9)
    assert WeightedUnifiedLoss(weights="circle")(scores, weights=torch.ones(5, 5)).item() == pytest.approx(unit)
    assert WeightedUnifiedLoss(weights=torch.ones_like)(scores).item() == pytest.approx(unit)
    assert WeightedUnifiedLoss(weights=torch.ones(2, 5, 5))(scores).item() == pytest.approx(unit)


def test_aligned_positives_are_skipped_by_the_self_polynomial_loss() -> None:
    scores = random_scores(6, 10)
    scores.fill_diagonal_(0.95)
    scores[:, 0] = 0.9  # a negative within the margin, for every text
    scores[2, 2], scores[4, 4] = 1 - 0.5e-5, 1 - 2e-5
    found = self_polynomial_loss(scores, reduction="none")
    assert found[:, 2].tolist() == [0, 0]
    assert found[0, 4] > 0
    assert found.sum().item() == pytest.approx(loops.total(loops.self_polynomial(scores.tolist(), 0.2)), abs=1e-12)


def test_the_offline_weight_carries_a_gradient() -> None:
    """The online term is w [m + s_on - s+] with w = beta - (s_off - s_on) / alpha, so s_on also moves w."""
    scores = torch.tensor([[0.5, 0.6], [-1.0, 0.9]], dtype=torch.float64, requires_grad=True)
    off = torch.full((2,), 0.45, dtype=torch.float64)  # below the positive: no offline hinge
    loss = offline_quintuplet_loss(scores, OfflineScores(off, off, off), reduction="none")[0, 0]
    (found,) = torch.autograd.grad(loss, scores)
    weight, online = 1.5 - (0.45 - 0.6) / 0.3, 0.2 + 0.6 - 0.5
    assert loss.item() == pytest.approx(weight * online)
    assert found.tolist() == [pytest.approx([-weight, weight + online / 0.3]), [0, 0]]


def test_offline_negatives_much_harder_than_those_of_the_batch_turn_the_weight_negative() -> None:
    scores = torch.tensor([[0.5, 0.4], [0.4, 0.5]], dtype=torch.float64)
    off = torch.full((2,), 0.95, dtype=torch.float64)  # by more than alpha beta = 0.45
    low = torch.full((2,), -1.0, dtype=torch.float64)
    loss = offline_quintuplet_loss(scores, OfflineScores(off, off, low), reduction="none")
    assert loss[0, 0].item() == pytest.approx((1.5 - 0.55 / 0.3) * 0.1 + 0.45)
    assert (1.5 - 0.55 / 0.3) < 0


def test_offline_parameters_and_two_kinds_of_pairs_equal_the_loops() -> None:
    scores, (offline, by_loops) = random_scores(8, 16), offline_scores(8)
    found = offline_quintuplet_loss(scores, offline, 0.3, 0.1, 0.7, 1.2)
    expected = loops.total(loops.offline_quintuplet(scores.tolist(), by_loops, 0.3, 0.1, 0.7, 1.2))
    assert found.item() == pytest.approx(expected, rel=1e-9)
    other = draw(8, 17)
    two = OfflineScores(offline.text, offline.video, torch.stack((offline.pair, other)))
    own = scores.diagonal().tolist()
    change = sum(
        loops.hinge(0.1 + new - s) - loops.hinge(0.1 + old - s)
        for new, old, s in zip(other.tolist(), offline.pair.tolist(), own, strict=True)
    )
    assert offline_quintuplet_loss(scores, two, 0.3, 0.1, 0.7, 1.2).item() == pytest.approx(expected + change)
