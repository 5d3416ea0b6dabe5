"""Losses and scores on a GPU against the CPU in float64, from float32 and from half precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from loss_cases import CASES, draw, random_scores
from torch import Tensor
from torch.nn.functional import normalize

from vtr.losses import UnifiedLoss, gather_rows, unified_loss, unified_loss_from_embeddings
from vtr.similarity import score_matrix
from vtr.types import TextEmbeddings, VideoEmbeddings

SIZE = 33
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
GAMMAS = [1.0, 50.0, 1000.0]


def value_and_gradients(loss: Tensor, leaves: list[Tensor]) -> tuple[float, list[Tensor]]:
    """Return what a loss is and its gradients, on the CPU in float64."""
    return loss.item(), [gradient.cpu().double() for gradient in torch.autograd.grad(loss, leaves)]


def close(found: list[Tensor], expected: list[Tensor], share: float) -> None:
    """Check gradients to a share of the largest."""
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=share, atol=share * other.abs().max().item())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_a_loss_and_its_gradient_are_those_of_float64(
    name: str, dtype: torch.dtype, gamma: float, device: torch.device
) -> None:
    rounded = random_scores(SIZE, 11).to(dtype)
    exact, leaf = rounded.double().requires_grad_(), rounded.to(device).requires_grad_()
    expected, wanted = value_and_gradients(CASES[name].ours(exact, 0.2, gamma), [exact])
    loss = CASES[name].ours(leaf, 0.2, gamma)
    assert loss.device.type == device.type and loss.dtype == torch.float32
    found, gradients = value_and_gradients(loss, [leaf])
    assert found == pytest.approx(expected, rel=1e-4)
    close(gradients, wanted, max(1e-3, 2 * torch.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("chunk_size", [None, 5])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_from_embeddings_it_is_that_of_all_scores_in_float64(
    dtype: torch.dtype, chunk_size: int | None, gamma: float, device: torch.device
) -> None:
    rounded = [normalize(draw((SIZE, 16), seed), dim=1).to(dtype) for seed in (1, 2)]
    exact = [x.double().requires_grad_() for x in rounded]
    leaves = [x.to(device).requires_grad_() for x in rounded]
    expected, wanted = value_and_gradients(unified_loss(exact[0] @ exact[1].T, 0.2, gamma), exact)
    loss = unified_loss_from_embeddings(*leaves, 0.2, gamma, chunk_size=chunk_size)
    assert loss.device.type == device.type and loss.dtype == torch.float32
    found, gradients = value_and_gradients(loss, leaves)
    assert found == pytest.approx(expected, rel=1e-4)
    close(gradients, wanted, max(2e-3, 4 * torch.finfo(dtype).eps))


def mixture(dtype: torch.dtype, device: torch.device) -> tuple[TextEmbeddings, VideoEmbeddings]:
    """Return texts and videos of three experts, some of which videos lack; one video lacks all."""
    ids = tuple(map(str, range(SIZE)))
    text, video = (normalize(draw((SIZE, 3, 8), seed), dim=-1) for seed in (3, 4))
    weights, present = draw((SIZE, 3), 5).softmax(dim=1), draw((SIZE, 3), 6) > -0.5
    present[1] = False
    text, video, weights = (x.to(device, dtype).requires_grad_() for x in (text, video, weights))
    return TextEmbeddings(ids, text, weights), VideoEmbeddings(ids, video, present.to(device))


def of_experts(texts: TextEmbeddings, videos: VideoEmbeddings) -> list[Tensor]:
    return [texts.vectors, videos.vectors, texts.weights]


def test_scores_with_missing_experts_are_those_of_float64(device: torch.device) -> None:
    exact, there = mixture(torch.float64, torch.device("cpu")), mixture(torch.float32, device)
    scores, expected = score_matrix(*there), score_matrix(*exact)
    assert scores.device.type == device.type
    torch.testing.assert_close(scores.cpu().double(), expected, rtol=1e-5, atol=1e-6)
    _, wanted = value_and_gradients((expected**2).sum(), of_experts(*exact))
    _, gradients = value_and_gradients((scores**2).sum(), of_experts(*there))
    close(gradients, wanted, 1e-4)


def test_under_autocast_the_loss_of_experts_is_that_of_float64(device: torch.device) -> None:
    exact, there = mixture(torch.float64, torch.device("cpu")), mixture(torch.float32, device)
    expected, wanted = value_and_gradients(unified_loss(score_matrix(*exact), 0.2, 50.0), of_experts(*exact))
    for chunk_size in (None, 5):
        with torch.autocast(device.type, torch.bfloat16):
            loss = UnifiedLoss(0.2, 50.0).from_embeddings(*there, chunk_size)
        found, gradients = value_and_gradients(loss, of_experts(*there))
        assert found == pytest.approx(expected, rel=1e-4)
        close(gradients, wanted, 2e-3)


@pytest.fixture
def one_process(device: torch.device, tmp_path: Path) -> Iterator[dist.ProcessGroup]:
    """A group of this process alone: NCCL's on a GPU, else Gloo's."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not dist.is_backend_available(backend):
        pytest.skip(f"torch {torch.__version__} was built without {backend}")
    dist.init_process_group(backend, init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        group = dist.group.WORLD
        assert group is not None
        yield group
    finally:
        dist.destroy_process_group()


def test_in_a_group_of_one_process_it_is_the_loss_without(one_process: dist.ProcessGroup, device: torch.device) -> None:
    texts, videos = mixture(torch.float32, device)
    leaves = of_experts(texts, videos)
    module = UnifiedLoss(0.2, 50.0)
    expected, wanted = value_and_gradients(module.from_embeddings(texts, videos, 5), leaves)
    found, gradients = value_and_gradients(module.from_embeddings(texts, videos, 5, group=one_process), leaves)
    assert found == pytest.approx(expected, rel=1e-6)
    close(gradients, wanted, 1e-5)
    assert torch.equal(gather_rows(texts.vectors, one_process), texts.vectors)
