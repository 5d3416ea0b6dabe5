"""Two processes that share every batch do what one does with the whole batch."""

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

import pytest
import torch
from safetensors.torch import load_file
from toy import ROOT

from vtr.config import TrainConfig, dump
from vtr.training.distributed import World
from vtr.training.train import train
from vtr.workspace import Workspace

MakeConfig = Callable[..., TrainConfig]

CE = {
    "model": {"name": "ce", "dim": 16, "text_vlad": {"clusters": 3, "ghosts": 1}, "vlad": {"motion": {"clusters": 2}}},
    "text": {"mode": "frozen_tokens"},
}
WAYS: dict[str, dict[str, Any]] = {
    "mmt": {},
    "learnt scale, clipped": {
        "loss": {"name": "contrastive", "gamma": 14.3, "learnable": True},
        "optimiser": {"gradient_clip": 0.5},
    },
    "accumulated": {"accumulate": 2, "data": {"batch_size": 9, "mask_known_positives": True}},
    "ce": CE,
    "moee, an expert few have": {
        "model": {"name": "moee", "dim": 8, "members": 2, "feature_dropout": 0.0, "dropout": 0.0},
        "data": {"batch_size": 5},
    },
    "moee, fitted and averaged": {
        "model": {
            "name": "moee",
            "dim": 8,
            "members": 2,
            "feature_dropout": 0.0,
            "dropout": 0.0,
            "caption_regression": {"components": 6},
            "hub_correction": {},
        },
        "ema": 0.9,
    },
}


def command(workspace: Workspace, config: Path, out: Path) -> list[str]:
    """Return the command that trains a run with two processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vtr.cli"]
    return [*start, "train", str(workspace.root), "--config", str(config), "--out", str(out), "--device", "cpu"]


def exact(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings under which no process draws for itself, and a gradient of 0 moves nothing.

    (Adam scales up what rounding leaves of the gradient of a bias with a batch norm behind it.)
    """
    small = {"name": "mmt", "dim": 32, "layers": 1, "heads": 2, "feed_forward": 32, "dropout": 0.0}
    optimiser = {"name": "sgd", "learning_rate": 0.05} | settings.get("optimiser", {})
    return {"model": small} | settings | {"optimiser": optimiser}


QUICK = ("mmt", "ce")
"""Ways that are not slow: a model without batch norm, and one whose batch norm is over both processes."""


@pytest.mark.parametrize("way", [pytest.param(way, marks=() if way in QUICK else pytest.mark.slow) for way in WAYS])
def test_two_processes_equal_one(way: str, toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    config = toy_config(epochs=3, **exact(WAYS[way]))
    train(toy, config, tmp_path / "one", device="cpu")
    (tmp_path / "config.yaml").write_text(dump(config))
    done = subprocess.run(
        command(toy, tmp_path / "config.yaml", tmp_path / "two"),
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("next: vtr evaluate") == 1  # one process speaks
    one, two = (load_file(tmp_path / name / "checkpoints" / "last" / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    losses = []
    for run in ("one", "two"):
        lines = [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if line["kind"] == "epoch"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_two_processes_killed_go_on_to_the_same_bits(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    config = toy_config(epochs=6, checkpoint_every=1)  # with dropout: the random state of each process counts
    (tmp_path / "config.yaml").write_text(dump(config))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, kill_at in (("whole", None), ("broken", 4)):
        begun = command(toy, tmp_path / "config.yaml", tmp_path / name)
        if kill_at is not None:
            process = subprocess.Popen(
                begun,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            wanted = tmp_path / name / "checkpoints" / f"step-{kill_at:09d}" / "state.json"
            while process.poll() is None and not wanted.exists():
                time.sleep(0.002)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        done = subprocess.run(begun, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    for file in ("last/model.safetensors", "last/optimiser.safetensors", "best/model.safetensors"):
        contents = [(tmp_path / name / "checkpoints" / file).read_bytes() for name in ("whole", "broken")]
        assert contents[0] == contents[1], file


def test_a_run_of_two_processes_is_not_gone_on_with_by_one(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig
) -> None:
    from vtr.errors import ConfigError
    from vtr.files import read_json, write_json
    from vtr.training.code import made_with

    train(toy, toy_config(epochs=1), tmp_path / "run", device="cpu")
    state = tmp_path / "run" / "checkpoints" / "last" / "state.json"
    write_json(state, read_json(state) | {"made_with": made_with(processes=2)})
    with pytest.raises(ConfigError, match="processes: 2 -> 1"):
        train(toy, toy_config(epochs=2), tmp_path / "run", device="cpu")


def test_a_last_batch_too_small_to_share_is_refused(toy_config: MakeConfig) -> None:
    from vtr.errors import ConfigError
    from vtr.training.distributed import check_rest

    world = World(0, 3, group=object())  # type: ignore[arg-type]
    check_rest(40, toy_config(data={"batch_size": 20}).data, world)
    check_rest(41, toy_config(data={"batch_size": 20}).data, world)  # one pair is no batch
    with pytest.raises(ConfigError, match=r"leaves 2 of a pass's 42 pairs .* 3 processes"):
        check_rest(42, toy_config(data={"batch_size": 20}).data, world)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shares_cover_a_batch_once(size: int) -> None:
    for rows in (4, 7, 32):
        covered: list[int] = []
        for rank in range(size):
            part = World(rank, size, group=object()).part(rows)  # type: ignore[arg-type]
            assert part is not None
            covered += range(rows)[part]
        assert covered == list(range(rows))
    assert World().part(8) is None
