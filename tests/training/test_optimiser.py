"""Optimisers against torch's own, groups of parameters by what they are, and a text encoder that waits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from vtr.config import TrainConfig
from vtr.models import build_model
from vtr.models.base import RetrievalModel
from vtr.models.saved import load_model
from vtr.training.optimiser import drop_frozen, make_optimiser, set_rate, undecayed
from vtr.training.train import train
from vtr.workspace import Workspace

MakeConfig = Callable[..., TrainConfig]
RATE, DECAY, STEPS = 0.01, 0.1, 5


def made(toy_config: MakeConfig, tiny_bert: Path, **optimiser: Any) -> tuple[TrainConfig, RetrievalModel]:
    """Return a config and a small model whose text encoder is fine-tuned."""
    text = {"model": str(tiny_bert), "mode": "fine_tuned"}
    config = toy_config(text=text, optimiser={"learning_rate": RATE, **optimiser})
    torch.manual_seed(0)
    return config, build_model(config, {"appearance": 12, "motion": 8}, 32)


def stepped(model: RetrievalModel, optimiser: Optimizer, before: Callable[[int], None]) -> list[torch.Tensor]:
    """Return the parameters after some steps along gradients that depend on the step alone."""
    for step in range(STEPS):
        draw = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        before(step)
        optimiser.step()
    return [parameter.detach() for parameter in model.parameters()]


PLAIN: dict[str, Callable[[RetrievalModel], Optimizer]] = {
    "adam": lambda model: Adam(model.parameters(), lr=RATE, weight_decay=DECAY),
    "adamw": lambda model: AdamW(model.parameters(), lr=RATE, weight_decay=DECAY),
    "sgd": lambda model: SGD(model.parameters(), lr=RATE, weight_decay=DECAY, momentum=0.8),
}


@pytest.mark.parametrize("name", PLAIN)
def test_steps_are_torchs(name: str, toy_config: MakeConfig, tiny_bert: Path) -> None:
    config, model = made(toy_config, tiny_bert, name=name, weight_decay=DECAY, momentum=0.8, warmup_steps=3)
    other = copy.deepcopy(model)
    optimiser, plain = make_optimiser(config.optimiser, model), PLAIN[name](other)

    def rate(step: int) -> None:
        plain.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 3)

    found = stepped(model, optimiser, lambda step: void(set_rate(optimiser, config.optimiser, step, 0, STEPS)))
    for mine, expected in zip(found, stepped(other, plain, rate), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def void(_: object) -> None:
    """Drop a value."""


def test_biases_norms_and_embeddings_are_told_from_weights(toy_config: MakeConfig, tiny_bert: Path) -> None:
    _, model = made(toy_config, tiny_bert)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    without = {names[id(parameter)] for parameter in undecayed(model)}
    for name, _ in model.named_parameters():
        parts = name.split(".")
        expected = parts[-1].endswith("bias") or any("norm" in p.lower() or "embedding" in p for p in parts[-2:])
        assert (name in without) == expected, name
    assert 0 < len(without) < len(names)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "ranger"])
def test_only_matrices_decay_when_asked(name: str, toy_config: MakeConfig, tiny_bert: Path) -> None:
    settings = {"name": name, "weight_decay": DECAY, "text_learning_rate": RATE / 10}
    with_all, model = made(toy_config, tiny_bert, **settings)
    more = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, 2))]
    groups = make_optimiser(with_all.optimiser, model, more).param_groups
    assert [(group["base"], group["weight_decay"]) for group in groups] == [(RATE, DECAY), (RATE / 10, DECAY)]
    assert more[0] is groups[0]["params"][-2]
    some, model = made(toy_config, tiny_bert, decay_biases=False, **settings)
    groups = make_optimiser(some.optimiser, model, more).param_groups
    assert [(group["base"], group["weight_decay"]) for group in groups] == [
        (RATE, DECAY), (RATE, 0), (RATE / 10, DECAY), (RATE / 10, 0)
    ]  # fmt: skip
    assert more[1] is groups[0]["params"][-1] and more[0] is groups[1]["params"][-1]
    every = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(every) == sorted(id(parameter) for parameter in [*model.parameters(), *more])


def test_a_frozen_encoder_keeps_its_weights_and_has_no_moments_until_its_turn(
    toy_config: MakeConfig, tiny_bert: Path
) -> None:
    config, model = made(toy_config, tiny_bert, freeze_text_steps=3, weight_decay=DECAY, name="adamw")
    assert model.text_encoder is not None
    encoder = list(model.text_encoder.parameters())
    start = [parameter.detach().clone() for parameter in encoder]
    optimiser = make_optimiser(config.optimiser, model)
    seen = []

    def before(step: int) -> None:
        set_rate(optimiser, config.optimiser, step, 0, STEPS)
        drop_frozen(optimiser, step)
        seen.append([group["lr"] for group in optimiser.param_groups])
        assert all((parameter.grad is None) == (step < 3) for parameter in encoder)
        if step <= 3:
            assert all(torch.equal(now, then) for now, then in zip(encoder, start, strict=True))
            assert not any(parameter in optimiser.state for parameter in encoder)

    stepped(model, optimiser, before)
    assert seen == [[RATE, 0]] * 3 + [[RATE, RATE]] * 2
    assert not any(torch.equal(now, then) for now, then in zip(encoder, start, strict=True))


@pytest.mark.parametrize("steps", [0, 1000])
def test_training_leaves_a_frozen_encoder_alone(
    steps: int, toy: Workspace, tmp_path: Path, toy_config: MakeConfig, tiny_bert: Path
) -> None:
    config, start = made(toy_config, tiny_bert, freeze_text_steps=steps)
    train(toy, config.model_copy(update={"epochs": 1}), tmp_path / "run", device="cpu")
    model, _ = load_model(tmp_path / "run" / "checkpoints" / "best")
    held = load_file(tiny_bert / "model.safetensors")
    changed = {
        name: not torch.equal(value, held[name])
        for name, value in model.text_encoder.state_dict().items()  # type: ignore[union-attr]
        if name in held
    }
    assert changed["embeddings.word_embeddings.weight"] == (steps == 0)
    assert any(changed.values()) == (steps == 0)
    rest = start.state_dict().keys() - {f"text_encoder.{name}" for name in held}
    assert any(not torch.equal(model.state_dict()[name], start.state_dict()[name]) for name in rest)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_stopping_and_going_on_changes_nothing(
    name: str, toy: Workspace, tmp_path: Path, toy_config: MakeConfig
) -> None:
    optimiser = {"name": name, "learning_rate": 0.01, "weight_decay": 1e-3, "decay_biases": False}
    for folder, stops in (("whole", (4,)), ("halting", (1, 4))):
        for epochs in stops:
            train(toy, toy_config(epochs=epochs, optimiser=optimiser), tmp_path / folder, device="cpu")
    for file in ("model.safetensors", "optimiser.safetensors"):
        whole, halting = (
            (tmp_path / folder / "checkpoints" / "last" / file).read_bytes() for folder in ("whole", "halting")
        )
        assert whole == halting
