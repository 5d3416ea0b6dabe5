"""The loop's settings: each does what it says, and none is lost when a run is killed and resumed."""

from __future__ import annotations

import json
import os
import random
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
from toy import ROOT, make_workspace

from vtr.config import TrainConfig, dump
from vtr.errors import ConfigError, UnavailableError, VtrError
from vtr.files import read_json, write_json
from vtr.training.loop import Trainer
from vtr.training.objective import Objective
from vtr.training.state import Progress
from vtr.training.train import train
from vtr.workspace import Workspace

MakeConfig = Callable[..., TrainConfig]
DATA = {"batch_size": 8, "max_features": 2}
COMMAND = [sys.executable, "-c", "from vtr.cli import main; main()", "train"]


def log(run: Path, kind: str) -> list[dict[str, Any]]:
    """Return the log's lines of a kind; all are JSON, which has no NaN."""
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """Return a checkpoint's weights."""
    return load_file(run / "checkpoints" / name / "model.safetensors")


REGRESSED = {"name": "moee", "dim": 8, "members": 2, "caption_regression": {"components": 6}, "hub_correction": {}}
EVERYTHING = {
    "data": DATA,
    "accumulate": 2,
    "ema": 0.9,
    "validate_every": 3,
    "patience": 5,
    "checkpoint_every": 2,
    "optimiser": {
        "name": "adamw",
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "warmup_steps": 4,
        "weight_decay": 0.01,
    },
}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(EVERYTHING, id="everything"),
        pytest.param(
            {"data": DATA, "checkpoint_every": 1, "precision": "float16"}, id="float16", marks=pytest.mark.slow
        ),
        pytest.param(
            {"data": DATA, "checkpoint_every": 2, "model": REGRESSED}, id="regression", marks=pytest.mark.slow
        ),
    ],
)
def test_killed_five_times_at_any_step_ends_in_the_same_bits(
    settings: dict[str, Any], tmp_path: Path, toy_config: MakeConfig
) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=60)
    config = toy_config(epochs=12, **settings)
    (tmp_path / "config.yaml").write_text(dump(config))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(workspace, config, whole, device="cpu")
    steps = read_json(whole / "checkpoints" / "last" / "state.json")["progress"]["step"]
    command = [*COMMAND, str(workspace.root), "--config", str(tmp_path / "config.yaml"), "--out", str(broken)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    draw = random.Random(0)
    for wanted in sorted(draw.sample(range(1, steps), 5)):
        process = subprocess.Popen([*command, "--device", "cpu"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        while process.poll() is None and _step(broken) < wanted:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.02)  # anywhere in the steps after it
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(
        [*command, "--device", "cpu"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for file in ("last/model.safetensors", "last/optimiser.safetensors", "best/model.safetensors"):
        contents = [(run / "checkpoints" / file).read_bytes() for run in (whole, broken)]
        assert contents[0] == contents[1], file
    for kind in ("epoch", "validation"):
        assert log(whole, kind) == log(broken, kind)
    states = [read_json(run / "checkpoints" / "last" / "state.json")["progress"] for run in (whole, broken)]
    assert states[0] | {"log_bytes": 0} == states[1] | {"log_bytes": 0}  # which holds speeds
    assert not train(workspace, config, broken, device="cpu").fresh


def _step(run: Path) -> int:
    """Return the step of a run's newest checkpoint."""
    return max((int(path.name[5:]) for path in (run / "checkpoints").glob("step-*")), default=0)


def test_accumulated_batches_give_their_mean_gradient(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    """With plain descent and a rate so small that nothing moves meanwhile, two batches a step are two steps' mean."""
    settings = {
        "data": {"batch_size": 20, "max_features": 2},
        "model": {"dim": 16, "layers": 1, "heads": 2, "feed_forward": 32, "dropout": 0.0},
        "optimiser": {"name": "sgd", "learning_rate": 1e-3, "momentum": 0.0, "schedule": "constant"},
        "epochs": 1,
    }
    train(toy, toy_config(**settings), tmp_path / "single", device="cpu")
    train(toy, toy_config(**settings, accumulate=2), tmp_path / "double", device="cpu")
    assert [line["step"] for line in log(tmp_path / "double", "epoch")] == [1]
    assert [line["step"] for line in log(tmp_path / "single", "epoch")] == [2]
    begun = Trainer.train

    def untrained(self: Trainer, **settings: Any) -> Any:
        self.config = self.config.model_copy(update={"epochs": 0})
        return begun(self, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train", untrained)
        train(toy, toy_config(**settings), tmp_path / "start", device="cpu")
    start, single, double = (weights(tmp_path / name) for name in ("start", "single", "double"))
    name = "text_units.project.weight"
    moved, half = single[name] - start[name], double[name] - start[name]
    assert moved.abs().max() > 1e-6
    torch.testing.assert_close(half, moved / 2, rtol=0.05, atol=0.01 * float(moved.abs().max()))


def test_early_stopping_waits_for_as_many_validations_as_asked(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rsums = iter([10.0, 30.0, 20.0, 25.0, 30.0, 50.0, 60.0])
    original = Trainer._validate

    class Fake:
        def __init__(self, found: Any, rsum: float) -> None:
            self.text_to_video, self.video_to_text, self.rsum = found.text_to_video, found.video_to_text, rsum

    monkeypatch.setattr(Trainer, "_validate", lambda self, model: Fake(original(self, model), next(rsums)))
    summary = train(toy, toy_config(epochs=7, patience=3), tmp_path / "run", device="cpu")
    assert summary.progress.epoch == 5  # 20, 25 and 30 are not better than 30
    assert summary.progress.best_epoch == 2
    assert "best epoch 2 of 5" in str(summary)
    again = train(toy, toy_config(epochs=7, patience=3), tmp_path / "run", device="cpu")
    assert not again.fresh


def test_the_last_model_is_kept_where_that_is_asked_for(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    train(toy, toy_config(epochs=5, select="last"), tmp_path / "run", device="cpu")
    assert weights(tmp_path / "run", "best").keys() == weights(tmp_path / "run").keys()
    for name, value in weights(tmp_path / "run").items():
        assert torch.equal(value, weights(tmp_path / "run", "best")[name])
    assert "last step" in read_json(tmp_path / "run" / "manifest.json")["selection"]


def test_the_average_is_what_is_validated_and_kept(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    train(toy, toy_config(epochs=4, ema=0.5, select="last"), tmp_path / "run", device="cpu")
    tensors = load_file(tmp_path / "run" / "checkpoints" / "last" / "optimiser.safetensors")
    best = weights(tmp_path / "run", "best")
    for name, value in best.items():
        assert torch.equal(value, tensors[f"average.module.module.{name}"]), name
    assert not torch.equal(best["text_units.project.weight"], weights(tmp_path / "run")["text_units.project.weight"])


def test_only_the_newest_checkpoints_are_kept(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    train(toy, toy_config(epochs=4, keep_checkpoints=3), tmp_path / "run", device="cpu")
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [
        "best",
        "last",
        "step-000000006",
        "step-000000009",
        "step-000000012",
    ]
    assert (folder / "last").readlink() == Path("step-000000012")


def test_a_checkpoint_of_other_code_is_refused_and_the_difference_shown(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig
) -> None:
    train(toy, toy_config(epochs=1), tmp_path / "run", device="cpu")
    state = tmp_path / "run" / "checkpoints" / "last" / "state.json"
    content = read_json(state)
    content["made_with"]["vtr"] = "0.0.1"
    content["made_with"]["code"]["losses/unified.py"] = "another"
    write_json(state, content)
    with pytest.raises(ConfigError, match=r"vtr: 0\.0\.1 -> .*vtr/losses/unified\.py.*--allow-changed-code"):
        train(toy, toy_config(epochs=2), tmp_path / "run", device="cpu")
    assert train(toy, toy_config(epochs=2), tmp_path / "run", device="cpu", allow_changed_code=True).fresh
    content["made_with"]["checkpoint format"] = 1
    write_json(tmp_path / "run" / "checkpoints" / "last" / "state.json", content)
    with pytest.raises(ConfigError, match="checkpoint format: 1 -> 2"):
        train(toy, toy_config(epochs=3), tmp_path / "run", device="cpu", allow_changed_code=True)


def test_a_loss_that_is_not_finite_leaves_the_batch_written_down(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    original = Objective.value

    def poisoned(self: Objective, model: Any, batch: Any, pairs: Any, labels: Any = None) -> torch.Tensor:
        seen.append(pairs)
        return original(self, model, batch, pairs, labels) * (torch.inf if len(seen) == 5 else 1)

    monkeypatch.setattr(Objective, "value", poisoned)
    with pytest.raises(VtrError, match=r"loss is inf at step 4 .*diverged\.json"):
        train(toy, toy_config(epochs=4), tmp_path / "run", device="cpu")
    written = read_json(tmp_path / "run" / "diverged.json")
    assert written["step"] == 4
    assert [pair["video"] for pair in written["pairs"]] == [f"v{video:03d}" for video, _ in seen[-1]]
    assert all(pair["caption"].startswith(pair["video"]) for pair in written["pairs"])
    kept = weights(tmp_path / "run")  # of the epoch before
    assert all(value.isfinite().all() for value in kept.values())


def test_a_gradient_that_is_not_finite_stops_too(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer._backward
    steps = 0

    def poisoned(self: Trainer, *arguments: Any) -> float:
        nonlocal steps
        steps += 1
        loss = original(self, *arguments)
        if steps == 5:
            next(self.model.parameters()).grad.fill_(torch.nan)  # type: ignore[union-attr]
        return loss

    monkeypatch.setattr(Trainer, "_backward", poisoned)
    with pytest.raises(VtrError, match=r"gradient norm is nan at step 4"):
        train(toy, toy_config(epochs=4, checkpoint_every=1), tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "diverged.json").exists()
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_patience_without_a_validation_part_is_refused(tmp_path: Path, toy_config: MakeConfig) -> None:
    workspace = make_workspace(tmp_path / "ws")
    path = workspace.annotations / "splits" / "toy.json"
    content = read_json(path)
    write_json(path, content | {"train": content["train"] + content["validation"], "validation": []})
    with pytest.raises(ConfigError, match="patience is 2, and split toy has no validation part"):
        train(workspace, toy_config(epochs=2, patience=2), tmp_path / "run", device="cpu")


def test_both_peers_learn_on_after_a_validation_within_an_epoch(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"loss": {"name": "adaptive_margin_unified"}, "noisy_correspondence": {"warmup_epochs": 1}}
    training: list[bool] = []
    original = Objective.value

    def noted(self: Objective, model: Any, *arguments: Any) -> torch.Tensor:
        training.append(model.training)
        return original(self, model, *arguments)

    monkeypatch.setattr(Objective, "value", noted)
    train(toy, toy_config(epochs=2, validate_every=1, **settings), tmp_path / "run", device="cpu")
    assert training
    assert all(training)


def test_running_out_of_memory_names_what_needs_less(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Objective, model: Any, batch: Any, pairs: Any) -> None:
        del self, model, batch, pairs
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(Objective, "value", full)
    with pytest.raises(UnavailableError, match=r"Tried to allocate 20.00 GiB.*--set data.batch_size=8"):
        train(toy, toy_config(), tmp_path / "run", device="cpu")


def test_a_run_in_use_is_left_alone(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    from vtr.errors import WorkspaceError
    from vtr.files import lock

    train(toy, toy_config(epochs=1), tmp_path / "run", device="cpu")
    with lock(tmp_path / "run" / ".lock", "another"), pytest.raises(WorkspaceError, match="already at it"):
        train(toy, toy_config(epochs=2), tmp_path / "run", device="cpu")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_what_float32_does(precision: str, tmp_path: Path, toy_config: MakeConfig) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=120)
    rsums = {}
    for name in ("float32", precision):
        train(workspace, toy_config(epochs=8, precision=name), tmp_path / name, device="cpu")
        rsums[name] = log(tmp_path / name, "validation")[-1]["rsum"]
        assert all(line["gradient_norm_text"] < 10 for line in log(tmp_path / name, "epoch"))  # not scaled
    assert rsums[precision] > 0.8 * rsums["float32"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, when it loads its compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # and when it looks at what it compiles
def test_compiled_transformers_train_as_others_do(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    settings = {"epochs": 2, "model": {"dim": 16, "layers": 2, "heads": 2, "feed_forward": 32, "dropout": 0.0}}
    train(toy, toy_config(**settings), tmp_path / "plain", device="cpu")
    train(toy, toy_config(**settings, compile=True), tmp_path / "compiled", device="cpu")
    losses = [[line["loss"] for line in log(tmp_path / name, "epoch")] for name in ("plain", "compiled")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert weights(tmp_path / "plain").keys() == weights(tmp_path / "compiled").keys()


def test_how_far_a_run_of_an_earlier_version_is_can_be_read() -> None:
    """Earlier versions kept the step of the best validation, too."""
    assert Progress.read({"epoch": 3, "best_rsum": 120.5, "best_step": 7}) == Progress(epoch=3, best_rsum=120.5)
