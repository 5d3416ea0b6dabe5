"""Training: it learns, it resumes exactly, it selects by validation alone, and it refuses what would mislead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_chance import by_chance
from toy import ROOT, make_workspace

from vtr.config import TrainConfig, dump
from vtr.errors import ConfigError, UnavailableError, VtrError, WorkspaceError
from vtr.files import read_json
from vtr.training.objective import Objective
from vtr.training.schedule import rate_factor
from vtr.training.train import train
from vtr.workspace import Workspace

MakeConfig = Callable[..., TrainConfig]


def lines(run: Path) -> list[dict[str, object]]:
    """Return the log without its speeds, which no two runs share."""
    return [
        {key: value for key, value in json.loads(line).items() if key != "pairs_per_second"}
        for line in (run / "log.jsonl").read_text().splitlines()
    ]


def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path, toy_config: MakeConfig) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=120)
    summary = train(workspace, toy_config(epochs=25), tmp_path / "run", device="cpu")
    validations = [line for line in lines(tmp_path / "run") if line["kind"] == "validation"]
    rsums = [float(str(line["rsum"])) for line in validations]
    assert len(rsums) == 25
    assert summary.progress.best_rsum == max(rsums)
    assert summary.progress.best_epoch == 1 + rsums.index(max(rsums))
    assert max(rsums) > 1.5 * by_chance(np.repeat(np.arange(20), 3), 20).rsum
    manifest = read_json(tmp_path / "run" / "manifest.json")
    assert manifest["coverage"] == ["toy train: 80 of 80", "toy validation: 20 of 20"]
    assert "validation part" in manifest["selection"]


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, toy_config: MakeConfig) -> None:
    workspace = make_workspace(tmp_path / "ws")
    config = toy_config(epochs=6)
    (tmp_path / "config.yaml").write_text(dump(config))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(workspace, config, whole, device="cpu")
    command = [sys.executable, "-c", "from vtr.cli import main; main()", "train", str(workspace.root)]
    command += ["--config", str(tmp_path / "config.yaml"), "--out", str(broken), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    state = broken / "checkpoints" / "last" / "state.json"
    for epochs in (1, 3):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (state.exists() and _epoch(state) >= epochs):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    for name in ("best", "last"):
        weights = [run / "checkpoints" / name / "model.safetensors" for run in (whole, broken)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    assert lines(whole) == lines(broken)


def _epoch(state: Path) -> int:
    try:
        return int(json.loads(state.read_text())["progress"]["epoch"])
    except (OSError, ValueError):  # just being replaced
        return 0


def test_a_finished_run_does_nothing_and_more_epochs_go_on(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig
) -> None:
    train(toy, toy_config(epochs=2), tmp_path / "run", device="cpu")
    before = (tmp_path / "run" / "log.jsonl").read_bytes()
    again = train(toy, toy_config(epochs=2), tmp_path / "run", device="cpu")
    assert not again.fresh
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == before
    longer = train(toy, toy_config(epochs=4), tmp_path / "run", device="cpu")
    assert longer.fresh
    train(toy, toy_config(epochs=4), tmp_path / "straight", device="cpu")
    assert lines(tmp_path / "run") == lines(tmp_path / "straight")


def test_another_config_or_other_features_are_refused(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    train(toy, toy_config(epochs=1), tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match="seed: 0 -> 1"):
        train(toy, toy_config(epochs=1, seed=1), tmp_path / "run", device="cpu")
    manifest = toy.features / "motion" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"output": "', '"output": "f'))
    with pytest.raises(WorkspaceError, match="was begun on extract"):
        train(toy, toy_config(epochs=1), tmp_path / "run", device="cpu")


def test_a_part_is_not_silently_cut_down(tmp_path: Path, toy_config: MakeConfig) -> None:
    workspace = make_workspace(tmp_path / "ws", without_features=25)
    with pytest.raises(WorkspaceError, match=r"of 10 videos of toy validation have no features: nothing is left"):
        train(workspace, toy_config(), tmp_path / "run", device="cpu", available_only=True)
    workspace = make_workspace(tmp_path / "ws2", without_features=14)
    with pytest.raises(WorkspaceError, match=r"4 of 10 videos of toy validation .* --available-only"):
        train(workspace, toy_config(), tmp_path / "run", device="cpu")
    summary = train(workspace, toy_config(epochs=1), tmp_path / "run", device="cpu", available_only=True)
    assert "toy validation: 6 of 10" in str(summary)


def test_a_loss_that_is_not_finite_stops_and_names_the_step(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    original = Objective.prepare

    def poisoned(self: Objective, model: torch.nn.Module, *arguments: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            with torch.no_grad():
                model.mixture.linear.weight.fill_(torch.nan)
        original(self, model, *arguments)

    monkeypatch.setattr(Objective, "prepare", poisoned)
    with pytest.raises(VtrError, match="loss is nan at step 4"):
        train(toy, toy_config(epochs=5), tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "checkpoints" / "last" / "state.json").exists()


def test_a_fine_tuned_text_encoder_changes_and_is_saved(
    toy: Workspace, tmp_path: Path, tiny_bert: Path, toy_config: MakeConfig
) -> None:
    from safetensors.torch import load_file

    from vtr.models.saved import load_model

    config = toy_config(epochs=1, text={"model": str(tiny_bert), "mode": "fine_tuned"})
    train(toy, config, tmp_path / "run", device="cpu")
    model, loaded = load_model(tmp_path / "run" / "checkpoints" / "best")
    assert loaded == config
    before = load_file(tiny_bert / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert model.text_encoder is not None
    assert not torch.equal(before, model.text_encoder.state_dict()["embeddings.word_embeddings.weight"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_is_refused_where_there_is_none(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    with pytest.raises(UnavailableError, match="torch finds no GPU"):
        train(toy, toy_config(), tmp_path / "run", device="cuda")


def test_the_rate_warms_up_and_decays(toy_config: MakeConfig) -> None:
    optimiser = toy_config(optimiser={"warmup_steps": 4, "decay": 0.5, "decay_steps": 10}).optimiser
    assert [rate_factor(optimiser, step, 9, 30) for step in (0, 1, 3, 9, 10, 25)] == [0.25, 0.5, 1, 1, 0.5, 0.25]
    by_epoch = toy_config(optimiser={"decay": 0.5, "decay_steps": "epoch"}).optimiser
    assert [rate_factor(by_epoch, step, epoch, 100) for step, epoch in ((0, 0), (7, 0), (8, 1), (99, 3))] == [
        1,
        1,
        0.5,
        0.125,
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "train").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_training_config_loads_and_opens_with_its_command(path: Path) -> None:
    from vtr.config import load

    assert load(TrainConfig, path).epochs > 0
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"--config {path.stem} " in line for line in comment)
