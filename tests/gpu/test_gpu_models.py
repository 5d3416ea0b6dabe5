"""Models on a GPU: scores and gradients against the CPU, and training steps in bfloat16."""

from __future__ import annotations

from needs import needs

needs(__name__, "pydantic", "einops", "yaml")

import pytest
import torch
from small_models import DIMS, TEXT_DIM, small_mmt, some_texts, some_videos, some_words
from torch import Tensor

from vtr.losses import unified_loss
from vtr.model_config import CEConfig, MoEEConfig, VladConfig
from vtr.models import assemble
from vtr.models.base import RetrievalModel
from vtr.types import Batch

CONFIGS = {
    "ce": CEConfig(
        name="ce", dim=8, vlad={"audio": VladConfig(clusters=2)}, text_vlad=VladConfig(clusters=3, ghosts=1)
    ),
    "moee": MoEEConfig(name="moee", dim=8, members=2, feature_dropout=0.0, dropout=0.0),
}
MODELS = ("mmt", *CONFIGS)


def small(name: str) -> tuple[RetrievalModel, Batch]:
    """Return a model without dropout, the same each time, and a batch of what it takes."""
    if name == "mmt":
        return small_mmt(dropout=0.0), Batch(some_videos(), some_texts())
    torch.manual_seed(0)
    model = assemble(CONFIGS[name], DIMS, TEXT_DIM)
    return model.eval(), Batch(some_videos(), some_words() if name == "ce" else some_texts())


def scores_and_gradients(model: RetrievalModel, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a batch's scores and the gradients of their loss, on the CPU in float64."""
    model.zero_grad()
    scores = model(batch)
    unified_loss(scores, 0.2, 20.0).backward()
    found = {name: p.grad.cpu().double() for name, p in model.named_parameters() if p.grad is not None}
    return scores.detach().cpu().double(), found


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", MODELS)
def test_scores_and_gradients_are_those_of_float64(name: str, training: bool, device: torch.device) -> None:
    model, batch = small(name)
    expected, wanted = scores_and_gradients(model.train(training).double(), as_float64(batch))
    model, batch = small(name)
    found, gradients = scores_and_gradients(model.train(training).to(device), batch.to(device))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == wanted.keys() != set()
    for parameter, value in wanted.items():
        largest = max(value.abs().max().item(), 1e-2)
        torch.testing.assert_close(gradients[parameter], value, rtol=1e-3, atol=1e-3 * largest, msg=parameter)


def as_float64(batch: Batch) -> Batch:
    """Return a batch whose numbers are in float64; ids, masks and times stay."""
    from dataclasses import replace

    experts = {
        name: replace(expert, values=expert.values.double(), aggregate=expert.aggregate.double())
        for name, expert in batch.videos.experts.items()
    }
    texts = batch.texts
    states = {key: x.double() for key in ("states", "token_states") if (x := getattr(texts, key)) is not None}
    return Batch(replace(batch.videos, experts=experts), replace(texts, **states))


@pytest.mark.parametrize("name", MODELS)
def test_steps_in_bfloat16_learn_what_steps_in_float32_do(name: str, device: torch.device) -> None:
    losses = {}
    for precision in (torch.float32, torch.bfloat16):
        model, batch = small(name)
        model, batch = model.train().to(device), batch.to(device)
        optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
        losses[precision] = []
        for _ in range(12):
            optimiser.zero_grad()
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                scores = model(batch)
            assert scores.dtype == torch.float32
            loss = unified_loss(scores, 0.2, 20.0)
            loss.backward()
            optimiser.step()
            losses[precision].append(loss.item())
        assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    full, half = losses.values()
    assert full[-1] < 0.9 * full[0]
    assert half[-1] < 0.9 * half[0]
    assert half[0] == pytest.approx(full[0], rel=0.05)
