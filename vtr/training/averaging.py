"""An average of the weights over the steps, which often retrieves better than the last weights do."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage(nn.Module):
    """The exponential moving average of a model's parameters; buffers are the model's own, copied.

    The first updates count for more, so that the average is not held back by the weights it began with: update n (from
    0) keeps min(decay, (1 + n) / (10 + n)) of the average. `state_dict` holds the average and how many updates it has
    had, not the model.

    Args:
        model: what is averaged. Make it as it is to be: on its device, with its parameters.
        decay: the share of the average that an update keeps, in [0, 1).

    Attributes:
        module: the averaged model, in evaluation mode and without gradients.

    Raises:
        ValueError: `decay` is not in [0, 1).
    """

    updates: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}, a number from 0 to below 1 was expected")
        self.decay = decay
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))  # on the CPU: reading it waits for no GPU
        self._of = (model,)  # in a tuple, so that it is no part of this module

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present weights into the average; call it after each step of the optimiser."""
        (model,) = self._of
        count = int(self.updates)
        kept = min(self.decay, (1 + count) / (10 + count))
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), 1 - kept)
        for mine, theirs in zip(_changing(self.module), _changing(model), strict=True):
            mine.copy_(theirs)
        self.updates += 1


def _changing(model: nn.Module) -> list[Tensor]:
    """Return the buffers of all but the modules whose buffers are `constant` in training, which are large."""
    modules = [module for module in model.modules() if not getattr(module, "constant", False)]
    return [buffer for module in modules for buffer in module.buffers(recurse=False)]
