"""The unified loss straight from embeddings: exact in value and gradient, and never with all of the scores at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import draw
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from vtr.losses import UnifiedLoss, embeddings, unified_loss, unified_loss_from_embeddings
from vtr.similarity import score_matrix
from vtr.types import TextEmbeddings, VideoEmbeddings

SIZE = 12
CHUNKS = [None, 1, 3, 5, SIZE, SIZE + 7]


def leaf(*shape: int, seed: int) -> Tensor:
    return normalize(draw(shape, seed), dim=-1).requires_grad_()


def two_tensors(size: int = SIZE) -> tuple[Tensor, Tensor]:
    return leaf(size, 4, seed=1), leaf(size, 4, seed=2)


def mixture(size: int = SIZE) -> tuple[TextEmbeddings, VideoEmbeddings, list[Tensor]]:
    """Embeddings with experts missing, one video without any; and the leaves that want gradients."""
    ids = tuple(str(number) for number in range(size))
    text, video = leaf(size, 3, 4, seed=3), leaf(size, 3, 4, seed=4)
    weights = draw((size, 3), 5).softmax(dim=1).requires_grad_()
    present = draw((size, 3), 6) > -0.2
    present[min(2, size - 1)] = False
    return TextEmbeddings(ids, text, weights), VideoEmbeddings(ids, video, present), [text, video, weights]


def some_positives(size: int = SIZE) -> Tensor:
    return draw((size, size), 7, 0.0, 1.0) < 0.2


def assert_same(found: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)
    pairs = zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_from_tensors_value_and_gradients_are_those_of_all_scores(
    chunk_size: int | None, masked: bool, reduction: Any
) -> None:
    text, video = two_tensors()
    positives = some_positives() if masked else None
    module = UnifiedLoss(0.3, 20.0, reduction)
    found = module.from_embeddings(text, video, chunk_size, positives=positives)
    expected = unified_loss(text @ video.T, 0.3, 20.0, reduction, positives=positives)
    assert_same(found, expected, [text, video])


@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("masked", [False, True])
def test_from_experts_value_and_gradients_are_those_of_all_scores(chunk_size: int | None, masked: bool) -> None:
    texts, videos, leaves = mixture()
    assert not videos.present[2].any()
    assert 0.2 < videos.present.double().mean() < 0.8
    positives = some_positives() if masked else None
    found = UnifiedLoss(0.3, 20.0).from_embeddings(texts, videos, chunk_size, positives=positives)
    expected = unified_loss(score_matrix(texts, videos), 0.3, 20.0, positives=positives)
    assert_same(found, expected, leaves)


def test_a_video_without_any_expert_scores_zero_and_gets_no_gradient() -> None:
    texts, videos, leaves = mixture()
    loss = unified_loss_from_embeddings(texts, videos, chunk_size=5)
    _, of_videos, of_weights = torch.autograd.grad(loss, leaves)
    assert (of_videos[2] == 0).all()
    assert (of_videos[~videos.present] == 0).all()
    assert (of_videos[videos.present].norm(dim=1) > 0).any()
    assert (of_weights.abs().amax(dim=1) > 0).any()


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 20),
    chunk_size=st.integers(1, 25) | st.none(),
    margin=st.floats(-0.5, 1.0),
    gamma=st.floats(1.0, 1000.0),
)
def test_any_size_chunk_margin_and_scale(size: int, chunk_size: int | None, margin: float, gamma: float) -> None:
    text, video = two_tensors(size)
    found = unified_loss_from_embeddings(text, video, margin, gamma, chunk_size=chunk_size)
    expected = unified_loss(text @ video.T, margin, gamma)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-11)
    pairs = zip(torch.autograd.grad(found, (text, video)), torch.autograd.grad(expected, (text, video)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_gradcheck() -> None:
    text, video = leaf(5, 3, seed=8), leaf(5, 3, seed=9)
    assert torch.autograd.gradcheck(
        lambda t, v: unified_loss_from_embeddings(t, v, gamma=8.0, chunk_size=2), (text, video)
    )
    texts, videos, leaves = mixture(5)

    def of_experts(t: Tensor, v: Tensor, w: Tensor) -> Tensor:
        some = TextEmbeddings(texts.ids, t, w), VideoEmbeddings(videos.ids, v, videos.present)
        return unified_loss_from_embeddings(*some, gamma=8.0, chunk_size=2)

    assert torch.autograd.gradcheck(of_experts, leaves)


def test_gradients_go_to_what_asks_for_them_and_are_scaled_by_what_follows() -> None:
    text, video = two_tensors()
    (both, _) = torch.autograd.grad(unified_loss_from_embeddings(text, video), (text, video))
    (alone,) = torch.autograd.grad(3 * unified_loss_from_embeddings(text, video.detach(), chunk_size=5), text)
    torch.testing.assert_close(alone, 3 * both)
    assert not unified_loss_from_embeddings(text.detach(), video.detach()).requires_grad
    with torch.no_grad():
        assert not unified_loss_from_embeddings(text, video).requires_grad


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    text, video = two_tensors()
    loss = unified_loss_from_embeddings(text, video)
    with pytest.raises(RuntimeError, match=r"cannot be differentiated again .* use unified_loss"):
        torch.autograd.grad(loss, text, create_graph=True)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of the blocks of scores as they are made. Making one while another lives fails."""
    shapes: list[tuple[int, ...]] = []
    alive: list[StorageWeakRef] = []
    make = embeddings._scores

    def watched(*arguments: Any) -> Tensor:
        assert all(block.expired() for block in alive), "a block of scores is made while another lives"
        scores = make(*arguments)
        shapes.append(tuple(scores.shape))
        alive.append(StorageWeakRef(scores.untyped_storage()))
        return scores

    monkeypatch.setattr(embeddings, "_scores", watched)
    yield shapes
    assert all(block.expired() for block in alive), "a block of scores outlives the loss"


@pytest.mark.parametrize("chunk_size", [1, 5, SIZE, None])
def test_one_block_of_scores_lives_at_a_time(blocks: list[tuple[int, ...]], chunk_size: int | None) -> None:
    step = chunk_size or SIZE
    once = [(min(step, SIZE - start), SIZE) for start in range(0, SIZE, step)]
    text, video = two_tensors()
    unified_loss_from_embeddings(text, video, chunk_size=chunk_size).backward()
    assert blocks == (once if step == SIZE else once * 2)  # a single block is kept for the gradient
    blocks.clear()
    texts, videos, _ = mixture()
    unified_loss_from_embeddings(texts, videos, chunk_size=chunk_size).backward()
    assert blocks == once * 2
    blocks.clear()
    unified_loss_from_embeddings(text.detach(), video.detach(), chunk_size=chunk_size)
    assert blocks == once  # without gradients there is no second pass


def test_the_default_chunk_follows_the_size_of_a_row(
    blocks: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "DEFAULT_BLOCK_ELEMENTS", 4 * SIZE + 1)
    text, video = two_tensors()
    unified_loss_from_embeddings(text, video)
    assert blocks == [(4, SIZE)] * 6
    blocks.clear()
    monkeypatch.setattr(embeddings, "DEFAULT_BLOCK_ELEMENTS", 1)  # fewer than a row's
    unified_loss_from_embeddings(text, video)
    assert blocks == [(1, SIZE)] * 24


class Largest(TorchDispatchMode):
    """Remembers how many elements the largest tensor has that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for x in found if isinstance(found, tuple | list) else [found]:
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.numel())
        return found


def test_nothing_larger_than_a_block_is_ever_made() -> None:
    size, chunk_size = 60, 15
    text, video = two_tensors(size)
    texts, videos, _ = mixture(size)
    for pair in ((text, video), (texts, videos)):
        with Largest() as largest:
            unified_loss_from_embeddings(*pair, chunk_size=chunk_size).backward()
        assert chunk_size * size <= largest.elements <= max(chunk_size * size, texts.vectors.numel()) < size * size
    with Largest() as largest:
        unified_loss(text @ video.T).backward()
    assert largest.elements == size * size  # the watch would have seen them


def test_bad_arguments_are_refused() -> None:
    text, video = two_tensors(4)
    texts, videos, _ = mixture(4)
    fewer = VideoEmbeddings(videos.ids, videos.vectors[:, :2], videos.present[:, :2])
    calls: list[tuple[str, Any]] = [
        ("chunk_size is 0, a number of rows >= 1", lambda: unified_loss_from_embeddings(text, video, chunk_size=0)),
        ("gamma is -1, a positive", lambda: unified_loss_from_embeddings(text, video, gamma=-1)),
        (
            "reduction is 'none', 'sum' or 'mean'",
            lambda: unified_loss_from_embeddings(text, video, reduction="none"),  # type: ignore[arg-type]
        ),
        ("reduction is 'none'", lambda: UnifiedLoss(reduction="none").from_embeddings(text, video)),
        (r"\(4, 4\) and videos \(3, 4\)", lambda: unified_loss_from_embeddings(text, video[:3])),
        (r"\(4,\) and videos \(4,\)", lambda: unified_loss_from_embeddings(text[:, 0], video[:, 0])),
        (r"\(4, 3, 4\), video vectors \(4, 2, 4\)", lambda: unified_loss_from_embeddings(texts, fewer)),
        ("TextEmbeddings, videos Tensor", lambda: unified_loss_from_embeddings(texts, video)),
        ("there are no texts and videos", lambda: unified_loss_from_embeddings(text[:0], video[:0])),
        (
            r"bool \(4, 3\), bool \(4, 4\) expected",
            lambda: unified_loss_from_embeddings(text, video, positives=torch.zeros((4, 3), dtype=torch.bool)),
        ),
    ]
    for message, call in calls:
        with pytest.raises(ValueError, match=message):
            call()
