"""How training uses the losses: masks, what is learnt with the model, and exact resumption of all of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from by_chance import by_chance
from torch import Tensor
from toy import make_workspace

from vtr.config import TrainConfig
from vtr.errors import ConfigError
from vtr.losses import LOSSES, UnifiedLoss
from vtr.training.checkpoint import OPTIMISER
from vtr.training.loop import Trainer
from vtr.training.train import train
from vtr.workspace import Workspace

MakeConfig = Callable[..., TrainConfig]
DATA = {"batch_size": 16, "max_features": 3}
EVERY_WAY: dict[str, dict[str, Any]] = {
    "learnt scale": {"loss": {"name": "contrastive", "gamma": 14.3, "learnable": True}},
    "meta weights": {"loss": {"name": "meta_weighted", "every": 2}},
    "two peers": {"loss": {"name": "adaptive_margin_unified"}, "noisy_correspondence": {"warmup_epochs": 1}},
    "all captions": {"data": DATA | {"sampling": "each_caption", "mask_known_positives": True}},
}


@pytest.mark.parametrize("way", EVERY_WAY)
def test_interrupted_and_resumed_equals_uninterrupted(
    way: str, toy: Workspace, tmp_path: Path, toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(epochs=4, **EVERY_WAY[way])
    train(toy, config, tmp_path / "whole", device="cpu")
    original = Trainer._end_of_epoch

    def interrupted(self: Trainer) -> str:
        if self.at.epoch == 2:
            raise KeyboardInterrupt
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_end_of_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(toy, config, tmp_path / "broken", device="cpu")
    train(toy, config, tmp_path / "broken", device="cpu")
    for name in ("best/model.safetensors", "last/model.safetensors", f"last/{OPTIMISER}"):
        contents = [(tmp_path / run / "checkpoints" / name).read_bytes() for run in ("whole", "broken")]
        assert contents[0] == contents[1], name


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"offline_quintuplet"}))  # that one is in test_mining
def test_a_model_learns_with_every_loss(name: str, tmp_path: Path, toy_config: MakeConfig) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=120)
    config = toy_config(epochs=12, loss={"name": name}, data=DATA | {"passes": 2})
    summary = train(workspace, config, tmp_path / "run", device="cpu")
    chance = by_chance(np.repeat(np.arange(20), 3), 20).rsum
    assert summary.progress.best_rsum is not None
    assert summary.progress.best_rsum > 1.2 * chance


def last_tensors(run: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(run / "checkpoints" / "last" / OPTIMISER)


def test_a_learnt_scale_moves_and_is_saved(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    train(toy, toy_config(epochs=3, **EVERY_WAY["learnt scale"]), tmp_path / "run", device="cpu")
    learnt = last_tensors(tmp_path / "run")["loss.module.log_gamma"].item()
    assert learnt != pytest.approx(math.log(14.3), abs=1e-4)


def test_the_weight_network_learns_and_a_split_without_validation_is_refused(
    tmp_path: Path, toy_config: MakeConfig
) -> None:
    workspace = make_workspace(tmp_path / "ws")
    train(workspace, toy_config(epochs=2, **EVERY_WAY["meta weights"]), tmp_path / "run", device="cpu")
    tensors = last_tensors(tmp_path / "run")
    assert tensors["loss.module.network.layers.2.bias"].abs().item() > 0  # it starts at 0
    assert "also taught" in json.loads((tmp_path / "run" / "manifest.json").read_text())["selection"]
    path = workspace.annotations / "splits" / "toy.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"train": content["train"] + content["validation"], "validation": []}))
    with pytest.raises(ConfigError, match="split toy has no validation part"):
        train(workspace, toy_config(**EVERY_WAY["meta weights"]), tmp_path / "other", device="cpu")


@pytest.mark.parametrize("masked", [True, False])
def test_known_positives_are_kept_out_where_the_config_says_so(
    masked: bool, toy: Workspace, tmp_path: Path, toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor | None] = []
    original = UnifiedLoss.forward

    def spy(self: UnifiedLoss, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        seen.append(positives)
        return original(self, scores, positives)

    monkeypatch.setattr(UnifiedLoss, "forward", spy)
    data = DATA | {"sampling": "each_caption", "mask_known_positives": masked}
    train(toy, toy_config(epochs=1, data=data), tmp_path / "run", device="cpu")
    assert len(seen) == math.ceil(40 * 3 / 16)  # a pass visits the three captions of each of the 40 training videos
    if not masked:
        assert all(positives is None for positives in seen)
        return
    masks = [positives.numpy() for positives in seen if positives is not None]
    assert all(mask.diagonal().all() for mask in masks) and len(masks) == len(seen)
    assert any(np.logical_xor(mask, np.eye(len(mask), dtype=bool)).any() for mask in masks)
