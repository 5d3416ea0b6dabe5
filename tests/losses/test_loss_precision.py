"""Half precision goes in, float32 is computed, nothing overflows; the naive formula beside it does."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from loss_cases import CASES, draw, random_scores
from torch import Tensor
from torch.nn.functional import normalize

from vtr.losses import UnifiedLoss, unified_loss, unified_loss_from_embeddings
from vtr.types import TextEmbeddings, VideoEmbeddings

HALVES = [torch.float16, torch.bfloat16]
GAMMAS = [1.0, 50.0, 1000.0]


def embeddings(dtype: torch.dtype, size: int = 8) -> tuple[Tensor, Tensor]:
    text, video = (normalize(draw((size, 6), seed), dim=1).to(dtype).requires_grad_() for seed in (1, 2))
    return text, video


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_half_precision_embeddings_give_finite_losses_and_gradients(
    name: str, dtype: torch.dtype, gamma: float
) -> None:
    text, video = embeddings(dtype)
    scores = text @ video.T
    assert scores.dtype == dtype
    loss = CASES[name].ours(scores, 0.2, gamma)
    assert loss.dtype == torch.float32
    loss.backward()
    assert torch.isfinite(loss)
    for leaf in (text, video):
        assert leaf.grad is not None
        assert leaf.grad.dtype == dtype
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad.abs().max() > 0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", HALVES)
def test_only_the_input_is_rounded_and_not_what_is_done_with_it(name: str, dtype: torch.dtype) -> None:
    scores = random_scores(8, 4).to(dtype)
    exact = CASES[name].ours(scores.double(), 0.2, 50.0)
    assert CASES[name].ours(scores, 0.2, 50.0).item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_from_half_precision_embeddings_the_scores_are_float32(dtype: torch.dtype, gamma: float) -> None:
    text, video = embeddings(dtype)
    loss = unified_loss_from_embeddings(text, video, 0.2, gamma, chunk_size=3)
    assert loss.dtype == torch.float32
    loss.backward()
    exact_text, exact_video = (x.detach().double().requires_grad_() for x in (text, video))
    exact = unified_loss(exact_text @ exact_video.T, 0.2, gamma)
    exact.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    for found, expected in ((text.grad, exact_text.grad), (video.grad, exact_video.grad)):
        assert found is not None
        assert expected is not None
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


def mixture(dtype: torch.dtype) -> tuple[TextEmbeddings, VideoEmbeddings]:
    ids = tuple("abcdefgh")
    text, video = (normalize(draw((8, 3, 6), seed), dim=-1).to(dtype).requires_grad_() for seed in (3, 4))
    weights = draw((8, 3), 5).softmax(dim=1).to(dtype).requires_grad_()
    present = draw((8, 3), 6) > -0.5
    return TextEmbeddings(ids, text, weights), VideoEmbeddings(ids, video, present)


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_under_autocast_the_loss_from_embeddings_is_what_it_is_without(chunk_size: int | None) -> None:
    module = UnifiedLoss(gamma=100.0)
    text, video = embeddings(torch.float32)
    texts, videos = mixture(torch.float32)
    leaves = [(text, video), (texts.vectors, videos.vectors, texts.weights)]
    for pair, wanted in zip(((text, video), (texts, videos)), leaves, strict=True):
        expected = module.from_embeddings(*pair, chunk_size)
        with torch.autocast("cpu", torch.bfloat16):
            assert (text @ video.T).dtype == torch.bfloat16  # autocast is on
            found = module.from_embeddings(*pair, chunk_size)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)
        for one, other in zip(torch.autograd.grad(found, wanted), torch.autograd.grad(expected, wanted), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", CASES)
def test_under_autocast_the_losses_of_float32_scores_are_what_they_are_without(name: str) -> None:
    scores = random_scores(8, 5).float()
    expected = CASES[name].ours(scores, 0.2, 50.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = CASES[name].ours(scores, 0.2, 50.0)
    assert found.dtype == torch.float32
    # a network's weights are made in bfloat16 there, as those of any linear layer
    assert found.item() == pytest.approx(expected.item(), rel=0.05 if name == "meta_weighted" else 1e-6)


def naive(scores: Tensor, margin: float, gamma: float) -> Tensor:
    """Eq. 5 as it is printed: exponentials, their sum, and its logarithm, in the precision of the scores."""
    apart = ~torch.eye(len(scores), dtype=torch.bool)
    losses = []
    for s in (scores, scores.T):
        d = torch.exp(gamma * (s - s.diagonal().unsqueeze(1) + margin)) * apart
        losses.append(torch.log(1 + d.sum(dim=1)))
    return torch.stack(losses).sum() / gamma


def finite(loss: Callable[..., Tensor], scores: Tensor, gamma: float) -> bool:
    leaf = scores.clone().requires_grad_()
    value = loss(leaf, 0.2, gamma)
    (gradient,) = torch.autograd.grad(value, leaf)
    return bool(torch.isfinite(value) and torch.isfinite(gradient).all())


@pytest.mark.parametrize(
    ("dtype", "holds_at", "overflows_at"), [(torch.float32, 80.0, 100.0), (torch.float16, 10.0, 20.0)]
)
def test_the_naive_formula_overflows_where_ours_does_not(
    dtype: torch.dtype, holds_at: float, overflows_at: float
) -> None:
    """exp(gamma * 1) is beyond float32 from gamma 89 on, and beyond float16 from 12 on."""
    scores = torch.full((2, 2), 0.8, dtype=dtype).fill_diagonal_(0.0)  # both s_ij - s_ii + m are 1
    largest = math.log(torch.finfo(dtype).max)
    assert holds_at < largest < overflows_at
    assert finite(naive, scores, holds_at)
    assert not finite(naive, scores, overflows_at)
    for gamma in (holds_at, overflows_at, 1000.0):
        assert finite(unified_loss, scores, gamma)
        value = unified_loss(scores, 0.2, gamma).item()
        gap = scores[0, 1].item() + 0.2
        assert value == pytest.approx(4 * (gap + math.log1p(math.exp(-gamma * gap)) / gamma), rel=1e-6)


def test_where_the_naive_formula_holds_both_agree() -> None:
    scores = random_scores(8, 6)
    assert unified_loss(scores, 0.2, 50.0).item() == pytest.approx(naive(scores, 0.2, 50.0).item(), rel=1e-12)


@pytest.mark.parametrize("gamma", [1e4, 1e6])
def test_scales_beyond_any_use_stay_finite(gamma: float) -> None:
    scores = random_scores(6, 7).float()
    for reduction in ("sum", "none"):
        leaf = scores.clone().requires_grad_()
        value = unified_loss(leaf, 0.2, gamma, reduction)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()
