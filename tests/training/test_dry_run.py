"""`vtr train --dry-run` says what training would be, and writes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vtr.config import TrainConfig
from vtr.errors import ConfigError, InputError, UnavailableError
from vtr.models import build_model
from vtr.training import dry_run as module
from vtr.training.dry_run import dry_run
from vtr.training.train import train
from vtr.workspace import Workspace

MakeConfig = Callable[..., TrainConfig]
MODELS = {
    "mmt": {},
    "mmt fine-tuned": {"text": "fine_tuned"},
    "ce": {"model": {"name": "ce", "dim": 16}, "text": "frozen_tokens"},
    "moee": {"model": {"name": "ce", "dim": 16, "gating": "none"}, "text": "frozen_tokens"},
}


@pytest.mark.parametrize("name", MODELS)
def test_sizes_parameters_and_steps_are_those_of_training(
    name: str, toy: Workspace, toy_config: MakeConfig, tiny_bert: Path
) -> None:
    changes = dict(MODELS[name])
    text = {"model": str(tiny_bert), "mode": changes.pop("text", "frozen")}
    config = toy_config(**changes, text=text, data={"batch_size": 16, "steps_per_epoch": 7, "max_features": 3})
    before = {path: path.stat().st_mtime_ns for path in toy.root.rglob("*")}
    said = dry_run(toy, config)
    assert {path: path.stat().st_mtime_ns for path in toy.root.rglob("*")} == before
    assert "toy train: 40 of 40 videos, 120 captions" in said
    assert "toy validation: 10 of 10 videos, 30 queries" in said
    assert "motion: 30 of 40 training videos, dim 8" in said
    count = sum(p.numel() for p in build_model(config, {"appearance": 12, "motion": 8}, 32).parameters())
    assert f"{name.split()[0].upper().replace('MOEE', 'MoEE')}: {count / 1e6:.2f} M parameters" in said
    assert "steps: 7 an epoch, 3 epochs, 21 in all" in said
    assert re.search(
        r"memory of the device, MiB: weights \d+, gradients \d+, optimiser \d+, activations of a batch", said
    )


def test_activations_are_counted_as_plain_arithmetic_counts_them() -> None:
    """A linear layer keeps its input; a ReLU keeps its output, which the next layer keeps too: counted once."""

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(100, 50), torch.nn.ReLU(), torch.nn.Linear(50, 1))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.layers(batch)
            return found

    kept = module._activations(Two(), TrainConfig(), torch.zeros(64, 100))  # type: ignore[arg-type]
    assert kept == 4 * 64 * (100 + 50)


def test_a_text_model_that_cannot_be_loaded_is_said_where_its_sizes_are_known(
    toy: Workspace, toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise UnavailableError("the text model cannot be loaded")

    monkeypatch.setattr(module, "TextInput", unreachable)
    monkeypatch.setitem(module.KNOWN_MODELS, "known", {"model_type": "bert", "vocab_size": 99, "hidden_size": 24,
        "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8})  # fmt: skip
    for mode in ("frozen", "fine_tuned"):
        said = dry_run(toy, toy_config(text={"model": "known", "mode": mode}))
        assert "training would stop at this: the text model cannot be loaded" in said
    with pytest.raises(UnavailableError):
        dry_run(toy, toy_config(text={"model": "unknown", "mode": "frozen"}))


def test_what_training_refuses_is_refused(toy: Workspace, toy_config: MakeConfig, tmp_path: Path) -> None:
    path = toy.annotations / "splits" / "toy.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"train": content["train"][1:2]}))
    for refuse in (
        lambda: dry_run(toy, toy_config()),
        lambda: train(toy, toy_config(), tmp_path / "run", device="cpu"),
    ):
        with pytest.raises(InputError, match="has captions of one video only, v001: there is nothing to tell it from"):
            refuse()
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"text\.mode is frozen and model\.name is ce, which takes frozen_tokens"):
        dry_run(toy, toy_config(model={"name": "ce"}))
    with pytest.raises(ConfigError, match="no expert 'motions'"):
        dry_run(toy, toy_config(experts=["motions"]))
