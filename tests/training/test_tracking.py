"""What tracks a run: the same figures everywhere, resumed with the run, and none of it able to stop a training."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_ins import Mlflow, Wandb, WandbRun

from vtr.config import TrainConfig
from vtr.errors import ConfigError, UnavailableError, VtrError
from vtr.files import read_json
from vtr.training.log import TrainingLog
from vtr.training.loop import Trainer
from vtr.training.tracking import open_trackers
from vtr.training.train import train
from vtr.workspace import Workspace

MakeConfig = Callable[..., TrainConfig]
ALL = ["tensorboard", "wandb", "mlflow"]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    """A wandb that records."""
    package = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", package)
    return package


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Mlflow:
    """An mlflow that records."""
    package = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", package)
    return package


def logged(run: Path) -> dict[int, dict[str, float]]:
    """Return step -> the figures in the run's own log."""
    rows: dict[int, dict[str, float]] = defaultdict(dict)
    for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()):
        kind, step = line.pop("kind"), line.pop("step")
        line.pop("epoch")
        rows[step] |= {f"{kind}/{name}": value for name, value in line.items()}
    return dict(rows)


def in_tensorboard(run: Path) -> dict[int, dict[str, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    rows: dict[int, dict[str, float]] = defaultdict(dict)
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            rows[event.step][tag] = event.value
    return dict(rows)


def test_all_get_the_figures_of_the_log_and_go_on_with_the_run(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig, wandb: Wandb, mlflow: Mlflow
) -> None:
    run = tmp_path / "my run"
    for epochs in (2, 3):
        train(toy, toy_config(epochs=epochs, tracking=ALL), run, device="cpu")
    expected = logged(run)
    assert {name.split("/")[0] for row in expected.values() for name in row} == {"train", "epoch", "validation"}
    ((wandb_id, in_wandb),) = wandb.runs.items()
    ((mlflow_id, in_mlflow),) = mlflow.runs.items()
    assert in_wandb["rows"] == in_mlflow["rows"] == expected
    found = in_tensorboard(run)
    assert found.keys() == expected.keys()
    for step, row in expected.items():
        assert found[step] == pytest.approx(row, rel=1e-6)
    assert in_wandb["name"] == in_mlflow["name"] == "my run"
    assert (in_wandb["starts"], in_wandb["exit_code"]) == (2, 0)
    assert (in_mlflow["starts"], in_mlflow["status"]) == (2, "FINISHED")
    assert in_wandb["config"] == toy_config(epochs=3, tracking=ALL).model_dump(mode="json")
    assert in_mlflow["params"]["optimiser.learning_rate"] == "0.003"
    assert in_mlflow["params"]["loss.name"] == "unified"
    assert read_json(run / "tracking.json") == {"wandb": wandb_id, "mlflow": mlflow_id}


def test_a_run_may_be_tracked_elsewhere_when_it_goes_on(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig, wandb: Wandb
) -> None:
    train(toy, toy_config(epochs=1, tracking=[]), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "tensorboard").exists()
    train(toy, toy_config(epochs=2, tracking=["wandb"]), tmp_path / "run", device="cpu")
    (held,) = wandb.runs.values()
    first = min(held["rows"])
    assert first > 0 and held["rows"] == {step: row for step, row in logged(tmp_path / "run").items() if step >= first}


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_what_is_not_installed_is_said_before_anything_is_made(
    name: str, toy: Workspace, tmp_path: Path, toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnavailableError, match=f"pip install {name}"):
        train(toy, toy_config(tracking=["tensorboard", name]), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    monkeypatch.delitem(sys.modules, name)
    (tmp_path / name).mkdir()  # as wandb leaves one where it is run: Python takes it for a package
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UnavailableError, match=f"pip install {name}"):
        open_trackers(toy_config(tracking=[name]), tmp_path, 0)
    monkeypatch.delitem(sys.modules, name)


def test_a_tracker_that_cannot_start_ends_the_others_and_says_what_helps(
    tmp_path: Path, toy_config: MakeConfig, wandb: Wandb, mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tracking.json").write_text('{"mlflow": "of another server"}')
    with pytest.raises(UnavailableError, match=r"mlflow could not start a run \(Run 'of another server' not found\)"):
        open_trackers(toy_config(tracking=ALL), tmp_path, 0)
    assert [held["exit_code"] for held in wandb.runs.values()] == [1]
    assert not mlflow.runs

    def unreachable(**_: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(wandb, "init", unreachable)
    with pytest.raises(UnavailableError, match=r"wandb could not start a run \(no route to host\)\. Set WANDB_MODE="):
        open_trackers(toy_config(tracking=["wandb"]), tmp_path, 0)


def test_a_tracker_that_fails_later_is_left_out_and_training_goes_on(
    toy: Workspace,
    tmp_path: Path,
    toy_config: MakeConfig,
    wandb: Wandb,
    mlflow: Mlflow,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = 0

    def log(self: WandbRun, data: dict[str, Any], step: int) -> None:  # noqa: ARG001
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionError("gone")

    monkeypatch.setattr(WandbRun, "log", log)
    train(toy, toy_config(epochs=2, tracking=ALL), tmp_path / "run", device="cpu")
    assert calls == 2 and len(wandb.runs) == 1
    assert capsys.readouterr().err.count("tracking: wandb failed (gone)") == 1
    (held,) = mlflow.runs.values()
    assert held["rows"] == logged(tmp_path / "run") and len(held["rows"]) > 2


def test_a_training_that_goes_wrong_is_marked_so(
    toy: Workspace,
    tmp_path: Path,
    toy_config: MakeConfig,
    wandb: Wandb,
    mlflow: Mlflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: Trainer) -> str:  # noqa: ARG001
        raise VtrError("the disk is full")

    with monkeypatch.context() as patched, pytest.raises(VtrError, match="the disk is full"):
        patched.setattr(Trainer, "_end_of_epoch", broken)
        train(toy, toy_config(epochs=2, tracking=ALL), tmp_path / "run", device="cpu")
    (in_wandb,), (in_mlflow,) = wandb.runs.values(), mlflow.runs.values()
    assert (in_wandb["exit_code"], in_mlflow["status"]) == (1, "FAILED")
    train(toy, toy_config(epochs=2, tracking=ALL), tmp_path / "run", device="cpu")
    assert (in_wandb["exit_code"], in_mlflow["status"]) == (0, "FINISHED")
    assert len(wandb.runs) == len(mlflow.runs) == 1


def test_a_log_is_cut_where_training_goes_on(tmp_path: Path, toy_config: MakeConfig) -> None:
    path = tmp_path / "log.jsonl"
    with TrainingLog(path, open_trackers(toy_config(), tmp_path, 0), size=0) as log:
        log.write("train", 0, loss=1.0)
        size = log.flush()
        log.write("train", 10, loss=2.0)
        log.write("train", 20, loss=2.5)
    with TrainingLog(path, open_trackers(toy_config(), tmp_path, 10), size=size) as log:
        log.write("train", 10, epoch=1, loss=3.0, note="words")
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [1.0, 3.0]
    assert in_tensorboard(tmp_path) == {0: {"train/loss": 1.0}, 10: {"train/loss": 3.0}}


def test_a_cosine_cannot_be_prolonged(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    optimiser = {"schedule": "cosine", "learning_rate": 3e-3}
    train(toy, toy_config(epochs=1, optimiser=optimiser), tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match="epochs: 1 -> 2"):
        train(toy, toy_config(epochs=2, optimiser=optimiser), tmp_path / "run", device="cpu")
