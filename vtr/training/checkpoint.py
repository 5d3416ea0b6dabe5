"""Checkpoints: all that is needed to go on exactly where training stopped. safetensors and JSON, nothing executable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vtr.config import TrainConfig
from vtr.files import atomic_directory, read_json, sha256_file, write_json
from vtr.models.mmt import MMT
from vtr.models.saved import WEIGHTS, load_tensors, save_model, save_tensors

OPTIMISER, STATE = "optimiser.safetensors", "state.json"


def save_checkpoint(
    folder: Path, model: MMT, config: TrainConfig, optimiser: Optimizer, progress: Mapping[str, Any]
) -> None:
    """Write model, optimiser, random state and progress into `folder`, all or nothing.

    Args:
        progress: epoch, step, best metric and the like (JSON-able).
    """
    tensors: dict[str, Tensor] = {"rng": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["rng_cuda"] = torch.cuda.get_rng_state()
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"state.{index}.{name}"] = value.contiguous()
            else:
                numbers.setdefault(str(index), {})[name] = value
    with atomic_directory(folder) as temporary:
        save_model(temporary, model, config)
        save_tensors(temporary / OPTIMISER, tensors)
        write_json(temporary / STATE, {"progress": dict(progress), "optimiser_numbers": numbers})


def load_checkpoint(folder: Path, model: MMT, optimiser: Optimizer, device: torch.device) -> dict[str, Any]:
    """Put a checkpoint into a model and an optimiser, restore the random state, and return the progress."""
    model.load_state_dict(load_tensors(folder / WEIGHTS, device))
    tensors = load_tensors(folder / OPTIMISER)
    content = read_json(folder / STATE)
    torch.set_rng_state(tensors.pop("rng"))
    cuda_state = tensors.pop("rng_cuda", None)
    if cuda_state is not None and device.type == "cuda":
        torch.cuda.set_rng_state(cuda_state)
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        _, index, name = key.split(".", 2)
        state.setdefault(int(index), {})[name] = value
    for index, values in content["optimiser_numbers"].items():
        state.setdefault(int(index), {}).update(values)
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    progress: dict[str, Any] = content["progress"]
    return progress


def weights_hash(folder: Path) -> str:
    """Return a short hash of a checkpoint's weights."""
    return sha256_file(folder / WEIGHTS)[:16]
