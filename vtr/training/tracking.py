"""Where a run's figures go beside its own log: TensorBoard, and Weights & Biases or MLflow if asked for."""

from __future__ import annotations

import importlib
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from vtr.config import TrainConfig
from vtr.errors import UnavailableError
from vtr.files import read_json, write_json

IDS = "tracking.json"
"""In the run's folder: what other trackers call the run, so that it goes on there when training does."""

STARTERS = {"wandb": "init", "mlflow": "start_run"}
"""Package -> the function that starts a run. A folder that wandb left in the working directory has none."""

REMEDIES = {
    "wandb": "Set WANDB_MODE=offline to go on without its server",
    "mlflow": "Check MLFLOW_TRACKING_URI",
}


class Tracker(Protocol):
    """Takes figures of one run."""

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Take the figures of a step, name -> value; steps do not decrease."""

    def flush(self) -> None:
        """Let what was written be seen."""

    def close(self, *, failed: bool) -> None:
        """End the run, or its part that was interrupted or went wrong."""


class TensorBoard:
    """Event files in a folder; a resumed run takes the place of what came after `step`.

    What was written at that very step stays: the validation before the checkpoint is among it.
    """

    def __init__(self, folder: Path, step: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # tensorboard's own, at import
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """See `Tracker`."""
        self._writer.flush()

    def close(self, *, failed: bool) -> None:  # noqa: ARG002
        """See `Tracker`."""
        self._writer.close()


class WandB:
    """Weights & Biases: project, entity and mode (online, offline) are those of its environment variables."""

    def __init__(self, root: Path, config: TrainConfig) -> None:
        wandb = _package("wandb")
        ids = _ids(root)
        if "wandb" not in ids:
            ids["wandb"] = uuid.uuid4().hex[:8]
            write_json(root / IDS, ids)
        self._run = wandb.init(
            id=ids["wandb"],
            name=root.resolve().name,
            dir=str(root.resolve()),
            config=config.model_dump(mode="json"),
            resume="allow",
            allow_val_change=True,
        )

    def write(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`; steps that were taken before a run was killed are there and stay as they are."""
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """See `Tracker`; its own process does this."""

    def close(self, *, failed: bool) -> None:
        """See `Tracker`."""
        self._run.finish(exit_code=1 if failed else 0)


class MLflow:
    """MLflow: server and experiment are those of its environment variables; without them, files in its own place."""

    def __init__(self, root: Path, config: TrainConfig) -> None:
        self._mlflow = _package("mlflow")
        ids = _ids(root)
        if "mlflow" in ids:
            self._mlflow.start_run(run_id=ids["mlflow"])
            return
        run = self._mlflow.start_run(run_name=root.resolve().name)
        write_json(root / IDS, ids | {"mlflow": run.info.run_id})
        self._mlflow.log_params(dict(_flat(config.model_dump(mode="json"))))

    def write(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._mlflow.log_metrics(dict(values), step=step)

    def flush(self) -> None:
        """See `Tracker`; what is written is seen at once."""

    def close(self, *, failed: bool) -> None:
        """See `Tracker`."""
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


def check_tracking(config: TrainConfig) -> None:
    """Check that what is to track a run is installed.

    Raises:
        UnavailableError: a package is not here.
    """
    for name in config.tracking:
        if name in STARTERS:
            _package(name)


def open_trackers(config: TrainConfig, root: Path, step: int) -> dict[str, Tracker]:
    """Start the trackers that a run asks for, or go on with them.

    Args:
        config: the run's configuration.
        root: the run's folder.
        step: the step training goes on from.

    Returns:
        name -> tracker.

    Raises:
        UnavailableError: one is not installed, or could not start.
    """
    opened: dict[str, Tracker] = {}
    for name in config.tracking:
        try:
            if name == "tensorboard":
                opened[name] = TensorBoard(root / name, step)
            else:
                opened[name] = (WandB if name == "wandb" else MLflow)(root, config)
        except Exception as error:
            for tracker in opened.values():
                tracker.close(failed=True)
            if name == "tensorboard" or isinstance(error, UnavailableError):
                raise
            raise UnavailableError(
                f"tracking: {name} could not start a run ({' '.join(str(error).split())}). {REMEDIES[name]}, or leave "
                f"{name} out of tracking. To begin a new run there, delete {root / IDS}."
            ) from error
    return opened


def _package(name: str) -> Any:
    try:
        package = importlib.import_module(name)
    except ImportError:
        package = None
    if not hasattr(package, STARTERS[name]):
        raise UnavailableError(
            f"tracking asks for {name}, which is not installed. Install it with: pip install {name}; or leave it out."
        )
    return package


def _ids(root: Path) -> dict[str, str]:
    ids: dict[str, str] = read_json(root / IDS) if (root / IDS).exists() else {}
    return ids


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested settings under their full names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
