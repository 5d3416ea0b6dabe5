"""The score against plain loops over its definition."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vtr import similarity
from vtr.similarity import expert_shares, flat_scores, flat_texts, flat_videos, score_matrix
from vtr.types import TextEmbeddings, VideoEmbeddings


def embeddings(missing: bool) -> tuple[TextEmbeddings, VideoEmbeddings]:
    generator = torch.Generator().manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn((5, 3, 4), generator=generator, dtype=torch.float64), dim=-1)
    videos = torch.nn.functional.normalize(torch.randn((7, 3, 4), generator=generator, dtype=torch.float64), dim=-1)
    weights = torch.rand((5, 3), generator=generator, dtype=torch.float64).softmax(-1)
    present = torch.ones((7, 3), dtype=torch.bool)
    if missing:
        present = torch.rand((7, 3), generator=generator) > 0.4
        present[2] = False  # a video without any expert
    return (
        TextEmbeddings(tuple("abcde"), texts, weights),
        VideoEmbeddings(tuple("0123456"), videos, present),
    )


@pytest.mark.parametrize("missing", [False, True])
def test_scores_equal_the_definition(missing: bool) -> None:
    texts, videos = embeddings(missing)
    scores = score_matrix(texts, videos)
    for t in range(5):
        for v in range(7):
            held = [e for e in range(3) if videos.present[v, e]]
            weight = sum(texts.weights[t, e].item() for e in held)
            dots = sum(texts.weights[t, e].item() * (texts.vectors[t, e] @ videos.vectors[v, e]).item() for e in held)
            assert scores[t, v].item() == pytest.approx(dots / weight if held else 0.0, abs=1e-12)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("dim", [4, 3])
def test_shares_are_what_each_expert_adds_to_the_score(
    missing: bool, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 4 numbers an expert, those from `dim` on are the last share, of all experts together."""
    monkeypatch.setattr(similarity, "PAIRS_BLOCK", 8)
    texts, videos = embeddings(missing)
    text_rows, video_rows = (grid.flatten() for grid in torch.meshgrid(torch.arange(5), torch.arange(7), indexing="ij"))
    shares = expert_shares(texts, videos, text_rows, video_rows, dim)
    assert shares.dtype == torch.float64 and shares.shape == (35, 4)
    for pair, (t, v) in enumerate(zip(text_rows.tolist(), video_rows.tolist(), strict=True)):
        held = [e for e in range(3) if videos.present[v, e]]
        weight = sum(texts.weights[t, e].item() for e in held)
        expected = [0.0] * 4
        for e in held:
            for number in range(4):
                product = texts.vectors[t, e, number].item() * videos.vectors[v, e, number].item()
                expected[e if number < dim else 3] += texts.weights[t, e].item() * product / weight
        assert shares[pair].tolist() == pytest.approx(expected, abs=1e-12)
    scores = score_matrix(texts, videos)[text_rows, video_rows]
    torch.testing.assert_close(shares.sum(1), scores, atol=1e-12, rtol=0)


def test_with_all_experts_the_score_is_one_inner_product() -> None:
    texts, videos = embeddings(missing=False)
    torch.testing.assert_close(score_matrix(texts, videos), flat_texts(texts) @ flat_videos(videos).T)


def test_other_experts_are_refused_with_both_shapes() -> None:
    texts, videos = embeddings(missing=False)
    other = VideoEmbeddings(videos.ids, videos.vectors[:, :2], videos.present[:, :2])
    with pytest.raises(ValueError, match=r"\(5, 3, 4\).*\(7, 2, 4\)"):
        score_matrix(texts, other)


def test_a_video_without_experts_sends_no_nan_backwards() -> None:
    texts, videos = embeddings(missing=True)
    for tensor in (texts.vectors, texts.weights, videos.vectors):
        tensor.requires_grad_()
    score_matrix(texts, videos).square().sum().backward()
    for tensor in (texts.vectors, texts.weights, videos.vectors):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
    assert videos.vectors.grad is not None
    assert (videos.vectors.grad[2] == 0).all()


class Largest(TorchDispatchMode):
    """Records the most elements that any operation's result has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        for found in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(found, Tensor):
                self.elements = max(self.elements, found.numel())
        return result


class Held(TorchDispatchMode):
    """Follows how many bytes the results of all operations hold at once, beyond what was there before."""

    def __init__(self, there: list[Tensor]) -> None:
        super().__init__()
        self.users = {held.untyped_storage().data_ptr(): [0, 2] for held in there}  # never given back
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        for found in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(found, Tensor):
                self._follow(found)
        return result

    def _follow(self, found: Tensor) -> None:
        at = found.untyped_storage().data_ptr()
        if at not in self.users:
            self.users[at] = [found.untyped_storage().nbytes(), 0]
            self.now += self.users[at][0]
            self.most = max(self.most, self.now)
        self.users[at][1] += 1
        weakref.finalize(found, self._give_back, at)

    def _give_back(self, at: int) -> None:
        self.users[at][1] -= 1
        if not self.users[at][1]:
            self.now -= self.users.pop(at)[0]


def many(texts: int, videos: int, experts: int, dim: int) -> tuple[TextEmbeddings, VideoEmbeddings]:
    draw = torch.Generator().manual_seed(0)
    vectors = [torch.randn(count, experts, dim, generator=draw) for count in (texts, videos)]
    weights = torch.randn(texts, experts, generator=draw).softmax(1)
    present = (torch.rand(videos, experts, generator=draw) < 0.6).float()
    ids = [tuple(map(str, range(count))) for count in (texts, videos)]
    return TextEmbeddings(ids[0], vectors[0], weights), VideoEmbeddings(ids[1], vectors[1], present)


def test_no_operation_makes_more_than_the_scores_or_the_videos_embeddings() -> None:
    texts, videos = many(5000, 300, 7, 4)
    with Largest() as found:
        scores = score_matrix(texts, videos)
    assert found.elements == scores.numel() == 5000 * 300  # [T, V, E] would be 7 times that
    blocks = score_matrix(TextEmbeddings(texts.ids[:99], texts.vectors[:99], texts.weights[:99]), videos)
    torch.testing.assert_close(scores[:99], blocks)


def held_while_scoring(score: Callable[[TextEmbeddings, VideoEmbeddings], Tensor]) -> float:
    """Return the most that was held at once, the embeddings aside, as a multiple of the scores."""
    texts, videos = many(40_960, 50, 7, 2)
    with torch.no_grad(), Held([texts.vectors, texts.weights, videos.vectors, videos.present]) as held:
        scores = score(texts, videos)
    assert held.now == scores.numel() * scores.element_size(), "only the scores are left"
    return held.most / held.now


def test_scoring_holds_little_more_than_the_scores_at_any_time() -> None:
    assert held_while_scoring(score_matrix) < 1.5

    def in_one_piece(texts: TextEmbeddings, videos: VideoEmbeddings) -> Tensor:
        return flat_scores(flat_texts(texts), flat_videos(videos), texts.weights, videos.present)

    assert held_while_scoring(in_one_piece) > 2, "the blocks are what saves it"


def test_scores_in_blocks_are_those_that_have_gradients() -> None:
    texts, videos = many(5000, 30, 3, 4)
    learnt = TextEmbeddings(texts.ids, texts.vectors.requires_grad_(), texts.weights)
    with_gradients = score_matrix(learnt, videos)
    assert with_gradients.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(score_matrix(learnt, videos), with_gradients)
