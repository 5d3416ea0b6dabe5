"""The gradient analysis of arXiv 2209.13869, Sec. 3.3, on the unit sphere, for one anchor in one direction.

An embedding is f, its direction x = f / |f|, and a similarity the inner product of directions. The gradient with
respect to f is then tangential to the sphere: the part along f is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import draw
from torch import Tensor
from torch.nn.functional import normalize

from vtr.losses import contrastive_loss, triplet_hard_negative_loss, unified_loss

GAMMA = 10.0
MARGIN = 0.2


def at_angles(*degrees: float, lengths: float = 1.0) -> Tensor:
    """Return embeddings [N, 3] at angles from the anchor (1, 0, 0), each turned about it to another side."""
    rows = []
    for number, degree in enumerate(degrees):
        a, turn = math.radians(degree), 2.0 * number
        rows.append([math.cos(a), math.sin(a) * math.cos(turn), math.sin(a) * math.sin(turn)])
    return lengths * torch.tensor(rows, dtype=torch.float64)


ANCHOR = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)


def gradients(
    loss: Callable[[Tensor], Tensor], others: Tensor, anchor: Tensor = ANCHOR
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first text's loss, and its gradients on the anchor [D] and on the videos [B, D], positive first.

    Args:
        loss: of scores [B, B], [2, B].
        others: the videos' embeddings f [B, D].
        anchor: the first text's embedding.
    """
    f_anchor, f_others = anchor.clone().requires_grad_(), others.clone().requires_grad_()
    texts = torch.cat((f_anchor.unsqueeze(0), draw((len(others) - 1, others.shape[1]), 1)))
    scores = normalize(texts, dim=-1) @ normalize(f_others, dim=-1).T
    value = loss(scores)[0, 0]
    of_anchor, of_others = torch.autograd.grad(value, (f_anchor, f_others))
    return value.detach(), of_anchor, of_others


def unified(margin: float = MARGIN, gamma: float = GAMMA) -> Callable[[Tensor], Tensor]:
    return lambda scores: unified_loss(scores, margin, gamma, "none")


def triplet(scores: Tensor) -> Tensor:
    return triplet_hard_negative_loss(scores, MARGIN, "none")


def vlc(gamma: float = GAMMA) -> Callable[[Tensor], Tensor]:
    return lambda scores: contrastive_loss(scores, gamma, "none") / gamma


@pytest.mark.parametrize("loss", [unified(), triplet, vlc()])
def test_gradients_are_tangential_to_the_sphere_and_fall_with_the_embeddings_length(
    loss: Callable[[Tensor], Tensor],
) -> None:
    _, of_anchor, of_others = gradients(loss, at_angles(50, 40, 70))
    assert of_anchor[0].abs() < 1e-12
    assert (of_others * at_angles(50, 40, 70)).sum(dim=1).abs().max() < 1e-12
    _, _, of_longer = gradients(loss, at_angles(50, 40, 70, lengths=4.0))
    torch.testing.assert_close(4 * of_longer, of_others)


def test_where_the_hinge_is_inactive_the_triplet_losss_gradient_vanishes_and_the_unifieds_does_not() -> None:
    others = at_angles(20, 70, 75, 110)  # the positive wins by cos 20 - cos 70 = 0.6, more than the margin
    value, of_anchor, of_others = gradients(triplet, others)
    assert value == 0
    assert of_anchor.abs().max() == of_others.abs().max() == 0
    value, of_anchor, of_others = gradients(unified(), others)
    assert value > 0
    assert of_anchor.norm() > 0.01
    assert of_others[:3].norm(dim=1).min() > 0.005


@pytest.mark.parametrize("degrees", [40.0, 10.0, 1.0, 0.01])
def test_on_a_negative_near_the_anchor_the_triplet_losss_gradient_is_the_sine_of_their_angle(degrees: float) -> None:
    _, _, of_others = gradients(triplet, at_angles(60, degrees, 45))
    s = math.cos(math.radians(degrees))
    assert of_others[1].norm().item() == pytest.approx(math.sqrt(1 - s**2), rel=1e-5)
    assert of_others[2].abs().max() == 0  # all of it is spent on the one that hardly moves


def test_as_a_negative_reaches_the_anchor_the_unified_loss_still_moves_the_other_negatives() -> None:
    found = {
        degrees: gradients(unified(), at_angles(60, degrees, 25, 35))[2].norm(dim=1) for degrees in (10.0, 1.0, 0.01)
    }
    of_nearest = [norms[1].item() for norms in found.values()]
    assert of_nearest == sorted(of_nearest, reverse=True)
    assert of_nearest[-1] < 2e-4
    for norms in found.values():
        assert norms[2:].min() > 0.02


def test_where_the_hardest_negative_is_the_positive_the_anchor_gets_no_gradient_from_the_triplet_loss() -> None:
    others = at_angles(30, 30, 40, 50)
    others[1] = others[0]
    _, of_anchor, of_others = gradients(triplet, others)
    assert of_anchor.norm() < 1e-12
    assert of_others[:2].norm(dim=1).min() > 0.4  # they are pushed, the anchor is not
    _, of_anchor, _ = gradients(unified(), others)
    assert of_anchor.norm() > 0.1


def sum_over_negatives(scores: Tensor, gamma: float) -> float:
    """S = sum_j exp(gamma (s_j - s_0)), of a positive s_0 and negatives s_1, ..."""
    s = scores.tolist()
    return sum(math.exp(gamma * (x - s[0])) for x in s[1:])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10_000), st.floats(0.0, 0.4), st.floats(1.0, 20.0))
def test_every_gradient_is_at_least_the_contrastive_losss_by_a_known_factor(
    size: int, seed: int, margin: float, gamma: float
) -> None:
    """On the positive, on each negative and on the anchor: e^{gamma m} (1 + S) / (1 + e^{gamma m} S) >= 1."""
    others, anchor = draw((size, 5), seed), draw(5, seed + 1)
    total = sum_over_negatives(normalize(others, dim=1) @ normalize(anchor, dim=0), gamma)
    lift = math.exp(gamma * margin)
    factor = lift * (1 + total) / (1 + lift * total)
    assert factor >= 1
    _, of_anchor, of_others = gradients(unified(margin, gamma), others, anchor)
    _, vlc_anchor, vlc_others = gradients(vlc(gamma), others, anchor)
    rounding = 1e-15 * lift  # the contrastive loss's gradient is 1 less a probability, which the factor then multiplies
    torch.testing.assert_close(of_anchor, factor * vlc_anchor, rtol=1e-9, atol=rounding)
    torch.testing.assert_close(of_others, factor * vlc_others, rtol=1e-9, atol=rounding)
    assert (of_others.norm(dim=1) >= vlc_others.norm(dim=1) * (1 - 1e-9) - rounding).all()
    assert of_anchor.norm() >= vlc_anchor.norm() * (1 - 1e-9) - rounding


def test_a_margin_makes_gradients_much_larger_where_the_batch_is_easy_and_no_larger_where_it_is_hard() -> None:
    for others, least, most in ((at_angles(10, 80, 90), 7.3, math.exp(2)), (at_angles(90, 10, 20), 1.0, 1.001)):
        _, of_anchor, _ = gradients(unified(), others)
        _, vlc_anchor, _ = gradients(vlc(), others)
        assert least <= (of_anchor.norm() / vlc_anchor.norm()).item() <= most


def weights_of_negatives(others: Tensor) -> list[float]:
    """Return autograd's gradient on the similarities of the first text with its negatives."""
    scores = draw((len(others), len(others)), 3)
    scores[0] = normalize(others, dim=1) @ ANCHOR
    leaf = scores.requires_grad_()
    (found,) = torch.autograd.grad(unified()(leaf)[0, 0], leaf)
    return found[0, 1:].tolist()


def test_the_weight_of_a_negative_has_all_negatives_in_its_denominator_other_than_eq_15_prints() -> None:
    degrees = (50, 45, 60, 70)
    own, *negatives = (math.cos(math.radians(degree)) for degree in degrees)
    d = [math.exp(GAMMA * (n - own + MARGIN)) for n in negatives]
    found = weights_of_negatives(at_angles(*degrees))
    assert found == pytest.approx([x / (1 + sum(d)) for x in d])
    printed = [x / (1 + x) for x in d]
    assert all(p > 1.05 * f for p, f in zip(printed, found, strict=True))
    assert sum(found) < 1 < sum(printed)  # the weights of an anchor are shares of its pull on the positive


def test_with_one_negative_eq_15_is_right_as_printed() -> None:
    d = math.exp(GAMMA * (math.cos(math.radians(45)) - math.cos(math.radians(50)) + MARGIN))
    assert weights_of_negatives(at_angles(50, 45)) == pytest.approx([d / (1 + d)])
