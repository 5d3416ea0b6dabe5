"""Training steps of vtr's MMT change its weights as they change the plain MMT's, gradient by gradient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_cases import TEXT_BERT, as_batch, random_captions, random_videos, vtr_model
from plain_mmt import EXPERT_IDS, PlainMMT, PlainVideos, plain_max_margin
from plain_weights import random_weights
from torch import Tensor

from vtr.loss_config import MaxMarginRankingLossConfig
from vtr.losses import build_loss
from vtr.optimiser_config import OptimiserConfig
from vtr.training.optimiser import make_optimiser

DIMS = dict(zip(sorted(EXPERT_IDS), (5, 4, 6, 3, 7, 4, 5), strict=True))
HEADS, RATE, MARGIN, STEPS = 2, 5e-5, 0.05, 3
KEEP = pytest.mark.parametrize("keep_missing", [False, True], ids=["drop missing", "keep missing"])

State = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """What a training step came to, weights and gradients under vtr's names.

    Attributes:
        gradients: zero where there is none.
        weights: after the step, with batch norm's running statistics.
    """

    loss: float
    gradients: State
    weights: State


def start() -> State:
    return random_weights(DIMS, TEXT_BERT, dim=8, layers=2, feed_forward=16)


def batches() -> list[tuple[PlainVideos, tuple[Tensor, Tensor]]]:
    """Return a batch for each step, in float64; one video has no expert at all, one has a single one."""
    draw, found = np.random.default_rng(0), []
    for _ in range(STEPS):
        present = draw.random((6, len(DIMS))) < 0.6
        present[0], present[1] = False, np.arange(len(DIMS)) == 2
        videos = random_videos(draw, DIMS, present, slots=8, most=6).to(torch.float64)
        found.append((videos, random_captions(draw.integers(3, 12, 6).tolist(), draw, TEXT_BERT["vocab_size"])))
    return found


def renamed(released: State, folder: Path, keep_missing: bool) -> State:
    """Return weights, or gradients in place of weights, under vtr's names."""
    model = vtr_model(released, folder, heads=HEADS, keep_missing=keep_missing, dtype=torch.float64)
    return model.state_dict()


def plain_steps(folder: Path, keep_missing: bool) -> list[Step]:
    """Train the plain model for some steps as the release does."""
    model = PlainMMT(start(), TEXT_BERT, heads=HEADS, keep_missing=keep_missing, dtype=torch.float64)
    model.train()
    learnt, steps = model.parameters(), []
    optimiser = torch.optim.Adam(learnt.values(), lr=RATE)
    for videos, captions in batches():
        optimiser.zero_grad()
        loss = plain_max_margin(model.scores(videos, *captions), MARGIN)
        loss.backward()
        gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in learnt.items()}
        optimiser.step()
        weights = renamed(model.state_dict(), folder, keep_missing)
        mapped = renamed(model.state_dict() | gradients, folder, keep_missing)
        steps.append(Step(loss.item(), mapped, weights))
    return steps


def our_steps(folder: Path, keep_missing: bool, margin: float = MARGIN, rate: float = RATE) -> list[Step]:
    """Train vtr's model for as many, with vtr's loss and optimiser."""
    model = vtr_model(start(), folder, heads=HEADS, keep_missing=keep_missing, dtype=torch.float64).train()
    optimiser, steps = make_optimiser(OptimiserConfig(learning_rate=rate), model), []
    criterion = build_loss(MaxMarginRankingLossConfig(name="max_margin", margin=margin))
    for videos, captions in batches():
        optimiser.zero_grad(set_to_none=True)
        loss = criterion(model(as_batch(videos, *captions)))
        loss.backward()
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
        }
        optimiser.step()
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        steps.append(Step(loss.item(), gradients, weights))
    return steps


def check_gradients(found: Step, expected: Step) -> None:
    """Compare each tensor's gradient, by its largest; where that is 0 but for rounding, nothing but rounding may be."""
    for name, gradient in found.gradients.items():
        largest = expected.gradients[name].abs().max().item()
        error = (gradient - expected.gradients[name]).abs().max().item()
        assert error <= 1e-9 * largest + 1e-15, f"{name}: gradients up to {largest:.1e} differ by {error:.1e}"


def check_weights(found: Step, expected: Step) -> None:
    """Compare weights and running statistics, within a ten-thousandth of what a step changes."""
    assert found.weights.keys() == expected.weights.keys()
    for name, value in found.weights.items():
        torch.testing.assert_close(
            value, expected.weights[name], atol=1e-4 * RATE, rtol=0, msg=lambda words, n=name: f"{n}: {words}"
        )


@KEEP
def test_three_steps_change_all_weights_as_the_plain_model_s(tmp_path: Path, keep_missing: bool) -> None:
    found, expected = our_steps(tmp_path, keep_missing), plain_steps(tmp_path, keep_missing)
    for ours, plain in zip(found, expected, strict=True):
        assert ours.loss == pytest.approx(plain.loss, rel=1e-12)
        check_gradients(ours, plain)
        check_weights(ours, plain)
    before = renamed(start(), tmp_path, keep_missing)
    for name, value in found[-1].weights.items():
        assert "pooler" in name or not torch.equal(value, before[name]), f"{name} was not trained"


def test_the_comparison_tells_a_wrong_margin_and_a_wrong_rate(tmp_path: Path) -> None:
    expected = plain_steps(tmp_path, keep_missing=False)
    wrong = our_steps(tmp_path, keep_missing=False, margin=0.2)
    assert wrong[0].loss != pytest.approx(expected[0].loss, rel=1e-3)
    with pytest.raises(AssertionError, match="gradients up to"):
        check_gradients(wrong[0], expected[0])
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        check_weights(wrong[-1], expected[-1])
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        check_weights(our_steps(tmp_path, keep_missing=False, rate=1.01 * RATE)[0], expected[0])
