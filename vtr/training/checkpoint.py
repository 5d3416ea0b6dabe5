"""Checkpoints: all that is needed to go on exactly where training stopped. safetensors and JSON, nothing executable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vtr.config import TrainConfig
from vtr.files import atomic_directory, read_json, sha256_file, write_json
from vtr.models.base import RetrievalModel
from vtr.models.saved import WEIGHTS, load_tensors, save_model, save_tensors

OPTIMISER, STATE = "optimiser.safetensors", "state.json"


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
) -> None:
    """Write model, optimiser, random state, progress and what else is trained into `folder`, all or nothing.

    Args:
        progress: epoch, step, best metric and the like (JSON-able).
        others: name (without a dot) -> what is trained beside the model.
    """
    tensors: dict[str, Tensor] = {"rng": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["rng_cuda"] = torch.cuda.get_rng_state()
    tensors |= _optimiser_tensors("state", optimiser)
    for name, learner in others.items():
        tensors |= {f"{name}.module.{key}": value for key, value in learner.module.state_dict().items()}
        if learner.optimiser is not None:
            tensors |= _optimiser_tensors(f"{name}.state", learner.optimiser)
    with atomic_directory(folder) as temporary:
        save_model(temporary, model, config)
        save_tensors(temporary / OPTIMISER, tensors)
        write_json(temporary / STATE, {"progress": dict(progress)})


def load_checkpoint(
    folder: Path, model: RetrievalModel, optimiser: Optimizer, others: Mapping[str, Learner], device: torch.device
) -> dict[str, Any]:
    """Put a checkpoint into what `save_checkpoint` was given, restore the random state, and return the progress."""
    model.load_state_dict(load_tensors(folder / WEIGHTS, device))
    tensors = load_tensors(folder / OPTIMISER)
    torch.set_rng_state(tensors.pop("rng"))
    cuda_state = tensors.pop("rng_cuda", None)
    if cuda_state is not None and device.type == "cuda":
        torch.cuda.set_rng_state(cuda_state)
    _fill_optimiser("state", optimiser, tensors)
    for name, learner in others.items():
        learner.module.load_state_dict(_below(f"{name}.module.", tensors))
        if learner.optimiser is not None:
            _fill_optimiser(f"{name}.state", learner.optimiser, tensors)
    progress: dict[str, Any] = read_json(folder / STATE)["progress"]
    return progress


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
