"""The meta-gradient against central differences of the validation loss after a step, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from vtr.config import MMTConfig
from vtr.losses import MetaWeightedLoss, UnifiedLoss
from vtr.models.mmt import MMT
from vtr.training.meta import meta_gradients
from vtr.types import Batch, ExpertBatch, TextBatch, VideoBatch

RATE = 0.05


def batch(size: int, seed: int) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    experts = {}
    for name, dim in (("a", 6), ("b", 5)):
        values = torch.randn((size, 3, dim), generator=draw, dtype=torch.float64)
        times = torch.arange(3).expand(size, 3).double()
        mask = torch.ones((size, 3), dtype=torch.bool)
        experts[name] = ExpertBatch(values, times, mask, values.amax(dim=1))
    ids = tuple(map(str, range(size)))
    states = torch.randn((size, 7), generator=draw, dtype=torch.float64)
    return Batch(VideoBatch(ids, experts, torch.ones((size, 2), dtype=torch.bool)), TextBatch(ids, states=states))


class Float64MMT(MMT):
    """MMT whose scores stay float64: differences need the digits."""

    def forward(self, batch: Batch) -> Tensor:
        from vtr.similarity import score_matrix

        return score_matrix(self.embed_texts(batch.texts), self.embed_videos(batch.videos))


@pytest.fixture
def parts() -> Iterator[tuple[MMT, MetaWeightedLoss, UnifiedLoss, Batch, Batch]]:
    """A small model with dropout, a loss whose network is not at its start, and two batches."""
    torch.manual_seed(0)
    config = MMTConfig(dim=8, layers=1, heads=2, feed_forward=16, dropout=0.3)
    model = Float64MMT(config, {"a": 6, "b": 5}, 7).double().train()
    loss = MetaWeightedLoss(margin=0.2, gamma=10.0, hidden=3)
    for parameter in loss.network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    loss.network.double()
    yield model, loss, UnifiedLoss(0.2, 10.0), batch(6, 1), batch(5, 2)


def validation_after_a_step(
    model: MMT, loss: MetaWeightedLoss, plain: UnifiedLoss, train: Batch, validation: Batch
) -> float:
    """Return what the meta-gradient is the gradient of: take the step, and look."""
    model.eval()
    names = [name for name, _ in model.named_parameters()]
    weights = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss(model(train)), [weights[name] for name in names], allow_unused=True)
    moved = {
        name: weights[name] - RATE * (0 if gradient is None else gradient)
        for name, gradient in zip(names, gradients, strict=True)
    }
    value: float = plain(functional_call(model, moved, (validation,))).item()
    return value


def test_it_is_the_derivative_of_the_validation_loss_after_a_step(
    parts: tuple[MMT, MetaWeightedLoss, UnifiedLoss, Batch, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, loss, plain, train, validation = parts
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # the network reads float32 otherwise
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = meta_gradients(model, loss, plain, train, validation, RATE)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    largest = 0.0
    for parameter, gradient in zip(loss.network.parameters(), found, strict=True):
        flat = parameter.detach().view(-1)
        for at in range(min(len(flat), 4)):
            values = []
            for shift in (1e-6, -2e-6):
                flat[at] += shift
                values.append(validation_after_a_step(model, loss, plain, train, validation))
            flat[at] += 1e-6
            expected = (values[0] - values[1]) / 2e-6
            largest = max(largest, abs(expected))
            assert gradient.view(-1)[at].item() == pytest.approx(expected, rel=1e-5, abs=1e-10)
    assert largest > 1e-6


def test_updates_along_it_lower_the_validation_loss(
    parts: tuple[MMT, MetaWeightedLoss, UnifiedLoss, Batch, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, loss, plain, train, validation = parts
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    values = [validation_after_a_step(model, loss, plain, train, validation)]
    for _ in range(5):
        gradients = meta_gradients(model, loss, plain, train, validation, RATE)
        scale = np.sqrt(sum(float(g.square().sum()) for g in gradients))
        with torch.no_grad():
            for parameter, gradient in zip(loss.network.parameters(), gradients, strict=True):
                parameter -= 0.2 * gradient / scale
        values.append(validation_after_a_step(model, loss, plain, train, validation))
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
