"""torch.compile takes every loss as one graph, and value and gradient stay what they are without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from loss_cases import draw, network_and_loops, offline_scores, random_scores
from torch import Tensor, nn
from torch.nn.functional import normalize

from vtr.losses import LOSSES, RelativePolynomialLoss, UnifiedLoss, WeightedUnifiedLoss

# torch's own tracing of an autograd.Function calls what it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

MODULES: dict[str, Callable[[], nn.Module]] = {
    **LOSSES,
    "contrastive, learnable": lambda: LOSSES["contrastive"](learnable=True),
    "meta_weighted, some updates later": lambda: network_and_loops()[0],
    "relative_polynomial, unified": lambda: RelativePolynomialLoss((0.0, 1.0, 0.5), form="unified"),
    "unified, none": lambda: UnifiedLoss(reduction="none"),
    "weighted_unified, circle": lambda: WeightedUnifiedLoss(weights="circle"),
}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Compiled code of one test does not count against the next one's limit."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compile with the whole graph demanded: a break is an error."""
    return torch.compile(function, fullgraph=True, backend="aot_eager")


def assert_same(one: Callable[..., Tensor], other: Callable[..., Tensor], leaves: list[Tensor]) -> None:
    """Values, gradients on the leaves and, of modules, on the parameters are equal."""
    wanted = [*leaves, *(other.parameters() if isinstance(other, nn.Module) else [])]
    values = [loss(*leaves) for loss in (one, other)]
    torch.testing.assert_close(values[0], values[1], rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad(value.sum(), wanted) for value in values]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", MODULES)
def test_a_loss_of_scores_is_one_graph_with_the_same_value_and_gradient(name: str) -> None:
    module = MODULES[name]()
    scores = random_scores(6, 1).requires_grad_()
    if name == "offline_quintuplet":
        offline, _ = offline_scores(6)

        def of_scores(s: Tensor) -> Tensor:
            return module(s, offline)

        assert_same(compiled(of_scores), of_scores, [scores])
    else:
        assert_same(compiled(module), module, [scores])


@pytest.mark.parametrize("name", ["unified", "triplet_hn", "contrastive", "self_polynomial", "meta_weighted"])
def test_known_positives_are_compiled_too(name: str) -> None:
    module = MODULES[name]()
    scores, positives = random_scores(6, 2).requires_grad_(), draw((6, 6), 3) > 0.4

    def masked(s: Tensor) -> Tensor:
        return module(s, positives)

    assert_same(compiled(masked), masked, [scores])


def test_batches_of_other_sizes_do_too() -> None:
    """The last batch of an epoch is smaller."""
    module = UnifiedLoss()
    faster = compiled(module)
    for size in (6, 9, 1):
        assert_same(faster, module, [random_scores(size, 4).requires_grad_()])


@pytest.mark.parametrize("chunk_size", [None, 4])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_from_embeddings_is_one_graph_with_the_same_value_and_gradient(
    chunk_size: int | None, reduction: str
) -> None:
    module = UnifiedLoss(reduction=reduction)  # type: ignore[arg-type]
    positives = draw((6, 6), 5) > 0.4

    def of_embeddings(text: Tensor, video: Tensor) -> Tensor:
        return module.from_embeddings(text, video, chunk_size, positives=positives)

    leaves = [normalize(draw((6, 5), seed), dim=1).requires_grad_() for seed in (6, 7)]
    assert_same(compiled(of_embeddings), of_embeddings, leaves)


def test_a_models_step_is_one_graph_with_the_loss() -> None:
    module, layer = UnifiedLoss(), nn.Linear(5, 4, dtype=torch.float64)

    def step(text: Tensor, video: Tensor) -> Tensor:
        return module(normalize(layer(text), dim=1) @ normalize(layer(video), dim=1).T)

    assert_same(compiled(step), step, [draw((6, 5), seed).requires_grad_() for seed in (8, 9)])
