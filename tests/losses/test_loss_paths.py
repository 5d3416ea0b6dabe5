"""The unified loss has one definition and several ways to it: they agree, and with the loops."""

from __future__ import annotations

from collections.abc import Callable

import loops
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import draw, random_scores
from torch import Tensor

from vtr.losses import UnifiedLoss, two_way, unified_loss

ValueAndGradient = tuple[Tensor, Tensor]
Way = Callable[..., ValueAndGradient]


def by_hand(compute: Callable[..., tuple[Tensor, Tensor | None]]) -> Way:
    def way(scores: Tensor, margin: float | Tensor, gamma: float, positives: Tensor | None = None) -> ValueAndGradient:
        value, gradient = compute(scores, gamma, margin, positives, True)
        assert gradient is not None
        without, nothing = compute(scores, gamma, margin, positives, False)
        assert nothing is None
        assert without.item() == value.item()
        return value, gradient

    return way


def plain(scores: Tensor, margin: float | Tensor, gamma: float, positives: Tensor | None = None) -> ValueAndGradient:
    leaf = scores.detach().clone().requires_grad_()
    value = unified_loss(leaf, margin, gamma, "none", positives=positives).sum()
    return value, torch.autograd.grad(value, leaf)[0]


def called(scores: Tensor, margin: float | Tensor, gamma: float, positives: Tensor | None = None) -> ValueAndGradient:
    leaf = scores.detach().clone().requires_grad_()
    value = unified_loss(leaf, margin, gamma, positives=positives)
    return value, torch.autograd.grad(value, leaf)[0]


def twice(scores: Tensor, margin: float | Tensor, gamma: float, positives: Tensor | None = None) -> ValueAndGradient:
    """With a graph of the gradient, which is then made by plain operations."""
    leaf = scores.detach().clone().requires_grad_()
    value = unified_loss(leaf, margin, gamma, positives=positives)
    return value, torch.autograd.grad(value, leaf, create_graph=True)[0].detach()


WAYS: dict[str, Way] = {
    "at once": by_hand(two_way.at_once),
    "piece by piece": by_hand(two_way.piece_by_piece),
    "plain": plain,
    "called": called,
    "differentiable twice": twice,
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of some ten are worked on in several pieces of unequal size, as those of a thousand are."""
    monkeypatch.setattr(two_way, "CACHED_ELEMENTS", 40)
    monkeypatch.setattr(two_way, "CACHED_ROWS", 3)


def test_pieces_are_uneven_here_and_cover_all_rows() -> None:
    found = [(piece.start, piece.stop) for piece in two_way.pieces(torch.zeros(11, 11))]
    assert found == [(0, 3), (3, 6), (6, 9), (9, 11)]
    assert not two_way.is_small(torch.zeros(11, 11))
    assert two_way.is_small(torch.zeros(3, 3))


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(1, 14),
    seed=st.integers(0, 10_000),
    margin=st.floats(-0.5, 1.0) | st.just(0.0),
    gamma=st.floats(1.0, 1000.0),
)
def test_every_way_equals_the_loops(way: str, size: int, seed: int, margin: float, gamma: float) -> None:
    scores = random_scores(size, seed)
    value, gradient = WAYS[way](scores, margin, gamma)
    assert value.item() == pytest.approx(
        loops.total(loops.unified(scores.tolist(), margin, gamma)), rel=1e-9, abs=1e-12
    )
    expected = loops.gradient(lambda s: loops.unified(s, margin, gamma), scores)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_every_way_knows_duplicates_and_margins_of_anchors(way: str, share: float) -> None:
    scores, margins = random_scores(13, 1), draw(13, 2, -0.2, 0.6)
    positives = draw((13, 13), 3, 0.0, 1.0) < share
    positives[4] = True  # a text, and a video, without negatives
    positives[:, 7] = True
    known = [(i, j) for i in range(13) for j in range(13) if positives[i, j]]
    value, gradient = WAYS[way](scores, margins, 25.0, positives)
    listed = margins.tolist()
    assert value.item() == pytest.approx(loops.total(loops.adaptive_margin(scores.tolist(), listed, 25.0, known)))
    expected = loops.gradient(lambda s: loops.adaptive_margin(s, listed, 25.0, known), scores)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-11)
    off_diagonal = positives & ~torch.eye(13, dtype=torch.bool)
    assert (gradient[off_diagonal] == 0).all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("gamma", [1.0, 50.0, 1000.0])
def test_float32_is_as_accurate_as_its_logits(way: str, gamma: float) -> None:
    scores = random_scores(40, 4).float()
    value, gradient = WAYS[way](scores, 0.2, gamma)
    assert value.dtype == gradient.dtype == torch.float32
    assert value.item() == pytest.approx(loops.total(loops.unified(scores.tolist(), 0.2, gamma)), rel=2e-6)
    expected = loops.gradient(lambda s: loops.unified(s, 0.2, gamma), scores)
    # a logit of size gamma is off by gamma 2^-24 at most, some times; an exponential by that part of itself
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=max(2e-6, 8 * gamma * 2**-24))


@pytest.mark.parametrize("way", ["piece by piece", "plain", "differentiable twice"])
def test_small_losses_keep_their_digits_in_float32(way: str) -> None:
    """Of 1 + exp(-35), float32 keeps the 1 only."""
    scores = torch.full((6, 6), -0.3) + draw((6, 6), 5, -0.05, 0.05).float()
    scores.fill_diagonal_(0.6)
    value, gradient = WAYS[way](scores, 0.2, 50.0)
    exact = loops.total(loops.unified(scores.tolist(), 0.2, 50.0))
    assert exact < 1e-13
    assert value.item() == pytest.approx(exact, rel=1e-4)
    expected = loops.gradient(lambda s: loops.unified(s, 0.2, 50.0), scores)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=0)


def test_small_losses_at_once_are_off_by_no_more_than_the_logits_digits() -> None:
    scores = torch.full((6, 6), -0.3).fill_diagonal_(0.6)
    value, gradient = WAYS["at once"](scores, 0.2, 50.0)
    assert abs(value.item()) < 12 * 50 * 2**-23 / 50
    assert gradient.abs().max() < 1e-5


@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded"])
@pytest.mark.parametrize("size", [3, 11])
def test_scores_may_lie_in_memory_as_they_like_and_stay_as_they_are(layout: str, size: int) -> None:
    base = random_scores(2 * size, 6)
    scores = {
        "transposed": base[:size, :size].T,
        "strided": base[::2, ::2],
        "expanded": base[:1, :size].expand(size, size),
    }[layout]
    before = scores.clone()
    value, gradient = called(scores, 0.2, 10.0)
    assert value.item() == pytest.approx(loops.total(loops.unified(scores.tolist(), 0.2, 10.0)))
    torch.testing.assert_close(gradient, loops.gradient(lambda s: loops.unified(s, 0.2, 10.0), scores))
    leaf = base.clone().requires_grad_()
    view = leaf[::2, ::2]
    unified_loss(view, 0.2, 10.0).backward()
    assert torch.equal(scores, before)
    assert torch.equal(leaf.detach(), base)


@pytest.mark.parametrize("size", [3, 11])
def test_the_gradient_follows_what_comes_after_the_loss_and_two_backward_passes_agree(size: int) -> None:
    leaf = random_scores(size, 7).requires_grad_()
    loss = unified_loss(leaf, 0.2, 10.0)
    (once,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    (again,) = torch.autograd.grad(3 * loss, leaf)
    torch.testing.assert_close(again, 3 * once)
    with torch.no_grad():
        assert unified_loss(leaf, 0.2, 10.0).item() == loss.item()


@pytest.mark.parametrize("size", [511, 600])
def test_batches_of_some_hundreds_agree_without_help(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    scores = random_scores(size, 8)
    assert two_way.is_small(scores) is (size <= 512)
    value, gradient = called(scores, 0.2, 50.0)
    expected, of_plain = plain(scores, 0.2, 50.0)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(gradient, of_plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("of", ["scores", "embeddings"])
def test_without_gradients_wanted_none_is_computed(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation's losses cost one pass, though the model's parameters ask for gradients."""

    def never(*_: object) -> None:
        raise AssertionError("the gradient was computed")

    monkeypatch.setattr(two_way, "CACHED_ELEMENTS", 1)
    monkeypatch.setattr(two_way, "CACHED_ROWS", 1)
    monkeypatch.setattr(two_way, "write_gradient", never)
    x = random_scores(5, 1).requires_grad_()
    with torch.no_grad():
        found = unified_loss(x @ x.T) if of == "scores" else UnifiedLoss().from_embeddings(x, x)
    assert not found.requires_grad
    with pytest.raises(AssertionError, match="was computed"):
        unified_loss(x @ x.T)
