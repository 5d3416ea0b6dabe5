"""The optimiser and its learning rate, as a function of the step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Adam, Optimizer

from vtr.config import OptimiserConfig
from vtr.errors import UnavailableError
from vtr.models.base import RetrievalModel
from vtr.training.ranger import Ranger


def make_optimiser(config: OptimiserConfig, model: RetrievalModel, more: Sequence[nn.Parameter] = ()) -> Optimizer:
    """Return the optimiser of the model and `more`; a fine-tuned text encoder may have a learning rate of its own."""
    encoder = list(model.text_encoder.parameters()) if model.text_encoder is not None else []
    in_encoder = {id(parameter) for parameter in encoder}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in in_encoder] + list(more)
    groups = [{"params": rest, "base": config.learning_rate}]
    if encoder:
        groups.append({"params": encoder, "base": config.text_learning_rate or config.learning_rate})
    if config.name == "ranger":
        return Ranger(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    return Adam(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def rate_factor(config: OptimiserConfig, step: int, epoch: int) -> float:
    """Return what a step's base rate is multiplied with: linear warm-up, and `decay` every `decay_steps`."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    times = epoch if config.decay_steps == "epoch" else step // config.decay_steps
    return float(warm * config.decay**times)


def set_rate(optimiser: Optimizer, config: OptimiserConfig, step: int, epoch: int) -> float:
    """Set the learning rate of a step and return that of the model proper."""
    factor = rate_factor(config, step, epoch)
    for group in optimiser.param_groups:
        group["lr"] = group["base"] * factor
    return float(optimiser.param_groups[0]["lr"])


def choose_device(name: str) -> torch.device:
    """Return the device: "auto" takes a GPU when there is one.

    Raises:
        UnavailableError: "cuda" was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UnavailableError(
            "--device cuda: torch finds no GPU. Run `vtr doctor` to see which torch is installed, or use --device cpu."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
