"""Checkpoints: all that is needed to go on exactly where training stopped. safetensors and JSON, nothing executable."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vtr.config import TrainConfig
from vtr.files import atomic_directory, atomic_link, read_json, sha256_file, write_json
from vtr.models.base import RetrievalModel
from vtr.models.saved import WEIGHTS, load_tensors, save_model, save_tensors

OPTIMISER, STATE = "optimiser.safetensors", "state.json"
BEST, LAST, STEP = "best", "last", "step-"
"""In a run's folder of checkpoints: the best model, a link to the newest checkpoint, and checkpoints by their step."""


@dataclass(frozen=True)
class Learner:
    """What is trained beside the model, or with it: a loss's parameters, a peer.

    Attributes:
        module: its weights.
        optimiser: its own optimiser, or None where another has its parameters.
    """

    module: nn.Module
    optimiser: Optimizer | None


def save_checkpoint(
    folder: Path,
    model: RetrievalModel,
    config: TrainConfig,
    optimiser: Optimizer,
    progress: Mapping[str, Any],
    others: Mapping[str, Learner],
    *,
    random: Sequence[Tensor] | None = None,
    made_with: Mapping[str, Any] | None = None,
) -> None:
    """Write model, optimiser, random state, progress and what else is trained into `folder`, all or nothing.

    Args:
        progress: epoch, step, best metric and the like (JSON-able).
        others: name (without a dot) -> what is trained beside the model.
        random: the `random_state` of each process; None for that of this one.
        made_with: what a checkpoint is good for, see `vtr.training.code`.
    """
    states = [random_state()] if random is None else random
    tensors: dict[str, Tensor] = {f"random.{rank}": state for rank, state in enumerate(states)}
    tensors |= _optimiser_tensors("state", optimiser)
    for name, learner in others.items():
        tensors |= {f"{name}.module.{key}": value for key, value in learner.module.state_dict().items()}
        if learner.optimiser is not None:
            tensors |= _optimiser_tensors(f"{name}.state", learner.optimiser)
    with atomic_directory(folder) as temporary:
        save_model(temporary, model, config)
        save_tensors(temporary / OPTIMISER, tensors)
        write_state(temporary, progress, made_with or {})


def write_state(folder: Path, progress: Mapping[str, Any], made_with: Mapping[str, Any]) -> None:
    """Write into a checkpoint how far training is; see `save_checkpoint`."""
    write_json(folder / STATE, {"progress": dict(progress), "made_with": dict(made_with)})


def load_checkpoint(
    folder: Path,
    model: RetrievalModel,
    optimiser: Optimizer,
    others: Mapping[str, Learner],
    device: torch.device,
    *,
    rank: int = 0,
) -> dict[str, Any]:
    """Put a checkpoint into what `save_checkpoint` was given, restore a process's random state, return the progress."""
    model.load_state_dict(load_tensors(folder / WEIGHTS, device))
    tensors = load_tensors(folder / OPTIMISER)
    _restore_random_state(tensors[f"random.{rank}"], device)
    _fill_optimiser("state", optimiser, tensors)
    for name, learner in others.items():
        learner.module.load_state_dict(_below(f"{name}.module.", tensors))
        if learner.optimiser is not None:
            _fill_optimiser(f"{name}.state", learner.optimiser, tensors)
    progress: dict[str, Any] = read_json(folder / STATE)["progress"]
    return progress


def random_state() -> Tensor:
    """Return this process's random state, uint8: the CPU's, and behind it the GPU's where there is one."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return torch.cat(states)


def _restore_random_state(state: Tensor, device: torch.device) -> None:
    of_cpu = len(torch.get_rng_state())
    torch.set_rng_state(state[:of_cpu])
    if device.type == "cuda" and len(state) > of_cpu:
        torch.cuda.set_rng_state(state[of_cpu:])


def newest(checkpoints: Path) -> Path | None:
    """Return the checkpoint that training goes on from, None where there is none yet."""
    found = sorted(path for path in checkpoints.glob(f"{STEP}*") if (path / STATE).exists())
    of_earlier_versions = checkpoints / LAST
    if not found and (of_earlier_versions / STATE).exists():
        return of_earlier_versions
    return found[-1] if found else None


def step_folder(checkpoints: Path, step: int) -> Path:
    """Return where the checkpoint after a step goes."""
    return checkpoints / f"{STEP}{step:09d}"


def keep_newest(checkpoints: Path, count: int) -> None:
    """Point `last` at the newest checkpoint, and delete all but `count` of them."""
    found = sorted(checkpoints.glob(f"{STEP}*"))
    atomic_link(checkpoints / LAST, found[-1].name)
    for old in found[:-count]:
        shutil.rmtree(old)


def _optimiser_tensors(prefix: str, optimiser: Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as `prefix.parameter.name`; torch's Adam keeps nothing but tensors."""
    return {
        f"{prefix}.{index}.{name}": value.contiguous()
        for index, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }


def _fill_optimiser(prefix: str, optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(f"{prefix}.", tensors).items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def weights_hash(folder: Path) -> str:
    """Return a short hash of a checkpoint's weights."""
    return sha256_file(folder / WEIGHTS)[:16]
