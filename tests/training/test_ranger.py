"""Ranger against its published rules in plain floats, and resumed as if it had not stopped."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from vtr.config import TrainConfig
from vtr.models import build_model
from vtr.training.checkpoint import load_checkpoint, save_checkpoint
from vtr.training.ranger import Ranger
from vtr.training.train import train
from vtr.workspace import Workspace

STEPS = 20
DECAY = 0.1


def rate(step: int) -> float:
    return 0.05 * 0.9**step


def plain(weight: float, gradients: list[float]) -> list[float]:
    """Return a weight after each step: rectified Adam (Liu et al. 2020), decoupled decay, lookahead of 6 steps."""
    beta1, beta2, eps = 0.95, 0.999, 1e-5
    mean = square = 0.0
    slow, found = weight, []
    longest = 2 / (1 - beta2) - 1
    for step, gradient in enumerate(gradients, 1):
        lr = rate(step - 1)
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient * gradient
        length = longest - 2 * step * beta2**step / (1 - beta2**step)
        weight -= DECAY * lr * weight
        unbiased = mean / (1 - beta1**step)
        if length > 5:
            rectified = math.sqrt(
                (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            ) * math.sqrt(1 - beta2**step)
            weight -= lr * rectified * unbiased / (math.sqrt(square) + eps)
        else:
            weight -= lr * unbiased
        if step % 6 == 0:
            slow += 0.5 * (weight - slow)
            weight = slow
        found.append(weight)
    return found


def test_twenty_steps_follow_the_published_rules() -> None:
    torch.manual_seed(0)
    parameter, other = nn.Parameter(torch.randn(4, dtype=torch.float64)), nn.Parameter(torch.ones(2))
    gradients = torch.randn(STEPS, 4, dtype=torch.float64)
    expected = [plain(w, g) for w, g in zip(parameter.tolist(), gradients.T.tolist(), strict=True)]
    optimiser = Ranger([parameter, other], lr=1.0, weight_decay=DECAY)
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = rate(step)
        parameter.grad = gradients[step].clone()
        optimiser.step()
        assert parameter.tolist() == pytest.approx([of_one[step] for of_one in expected], rel=1e-12)
    assert other.tolist() == [1.0, 1.0]  # without a gradient, not even the decay


def test_a_parameter_that_joins_later_follows_the_rules_by_its_own_steps() -> None:
    """Its slow copy is what it was before its first gradient; a step without a gradient leaves it where it is."""
    torch.manual_seed(0)
    early, late = nn.Parameter(torch.randn(1, dtype=torch.float64)), nn.Parameter(torch.randn(1, dtype=torch.float64))
    gradients = torch.randn(STEPS, 1, dtype=torch.float64)
    has_gradient = [step >= 4 and step % 3 > 0 for step in range(STEPS)]
    expected = plain(late.item(), [g for g, has in zip(gradients[:, 0].tolist(), has_gradient, strict=True) if has])
    found = []
    optimiser = Ranger([{"params": [early]}, {"params": [late]}], lr=rate(0), weight_decay=DECAY)
    for gradient, has in zip(gradients, has_gradient, strict=True):
        early.grad, late.grad = gradient.clone(), gradient.clone() if has else None
        optimiser.param_groups[1]["lr"] = rate(len(found))
        before = late.item()
        optimiser.step()
        if has:
            found.append(late.item())
        else:
            assert late.item() == before
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_state_survives_a_checkpoint_between_two_lookaheads(
    tmp_path: Path, toy_config: Callable[..., TrainConfig]
) -> None:
    """Also that of an optimiser one of whose parameters has had no gradient yet."""
    gradients = torch.randn(STEPS, 3, generator=torch.Generator().manual_seed(0))
    model = build_model(toy_config(), {"face": 3}, 32)

    def run(stops: tuple[int, ...]) -> list[list[float]]:
        held = [nn.Parameter(torch.full((3,), float(number))) for number in (1, 2)]
        optimiser = Ranger(held, lr=0.05, weight_decay=DECAY)
        for step in range(STEPS):
            if step in stops:
                folder = tmp_path / f"at {step} of {len(stops)}"
                save_checkpoint(folder, model, toy_config(), optimiser, {"step": step}, {})
                held = [nn.Parameter(parameter.detach().clone()) for parameter in held]
                optimiser = Ranger(held, lr=0.05, weight_decay=DECAY)
                assert load_checkpoint(folder, model, optimiser, {}, torch.device("cpu")) == {"step": step}
            held[0].grad = gradients[step].clone()
            held[1].grad = gradients[step].clone() if step > 5 else None
            optimiser.step()
        return [parameter.tolist() for parameter in held]

    whole = run(())
    for stops in ((3,), (5, 6, 7), (8, 15)):
        assert run(stops) == whole


def test_stopping_and_going_on_changes_nothing(
    toy: Workspace, tmp_path: Path, toy_config: Callable[..., TrainConfig]
) -> None:
    settings = {"optimiser": {"name": "ranger", "learning_rate": 0.01, "weight_decay": 1e-3, "decay_steps": "epoch"}}
    for name, stops in (("whole", (5,)), ("halting", (1, 2, 5))):
        for epochs in stops:
            train(toy, toy_config(epochs=epochs, **settings), tmp_path / name, device="cpu")
    for file in ("model.safetensors", "optimiser.safetensors"):
        whole, halting = (
            (tmp_path / name / "checkpoints" / "last" / file).read_bytes() for name in ("whole", "halting")
        )
        assert whole == halting
