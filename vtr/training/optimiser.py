"""The optimiser: which parameters it has in which groups, and their learning rates at a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from vtr.models.base import RetrievalModel
from vtr.optimiser_config import OptimiserConfig
from vtr.training.ranger import Ranger
from vtr.training.schedule import rate_factor


def make_optimiser(config: OptimiserConfig, model: RetrievalModel, more: Sequence[nn.Parameter] = ()) -> Optimizer:
    """Return the optimiser of the model and `more`.

    A fine-tuned text encoder has groups of its own, with its own rate; so have the parameters without weight decay,
    where the configuration asks for that. Of each group, `base` is the rate that the schedule multiplies and
    `frozen_steps` how many steps it waits: see `set_rate`.
    """
    encoder = {id(p) for p in model.text_encoder.parameters()} if model.text_encoder is not None else set()
    plain = set() if config.decay_biases else {id(parameter) for parameter in undecayed(model)}
    plain |= set() if config.decay_biases else {id(parameter) for parameter in more if parameter.ndim < 2}
    groups: list[dict[str, Any]] = []
    everything = [*model.parameters(), *more]
    for in_text in (False, True):
        rate = config.text_learning_rate if in_text else None
        facts = {"base": rate or config.learning_rate, "frozen_steps": config.freeze_text_steps if in_text else 0}
        for without in (False, True):
            chosen = [p for p in everything if (id(p) in encoder) == in_text and (id(p) in plain) == without]
            if chosen:
                decay = 0.0 if without else config.weight_decay
                groups.append({"params": chosen, "weight_decay": decay, **facts})
    rate = config.learning_rate
    if config.name == "ranger":
        return Ranger(groups, lr=rate, weight_decay=config.weight_decay)
    if config.name == "sgd":
        return SGD(groups, lr=rate, momentum=config.momentum, fused=True)
    return (AdamW if config.name == "adamw" else Adam)(groups, lr=rate, fused=True)


def undecayed(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield a model's biases, its embeddings, and what else is a vector or a number, such as the weights of norms."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2 or name.endswith("bias") or isinstance(module, nn.Embedding):
                yield parameter


def set_rate(optimiser: Optimizer, config: OptimiserConfig, step: int, epoch: int, total_steps: int) -> float:
    """Set the learning rates of a step and return that of the model proper.

    A group that is still frozen has rate 0: see `drop_frozen`.
    """
    factor = rate_factor(config, step, epoch, total_steps)
    for group in optimiser.param_groups:
        group["lr"] = 0.0 if step < group["frozen_steps"] else group["base"] * factor
    return float(optimiser.param_groups[0]["lr"])


def drop_frozen(optimiser: Optimizer, step: int) -> None:
    """Drop the gradients of groups that are frozen at a step, so that no norm counts them and no moments take them.

    Call it after the backward pass, before clipping.
    """
    for group in optimiser.param_groups:
        if step < group["frozen_steps"]:
            for parameter in group["params"]:
                parameter.grad = None
