"""Ranger: rectified Adam with lookahead, which CE was trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import RAdam

LOOKAHEAD_STEPS, LOOKAHEAD_SHARE = 6, 0.5
"""Every so many steps, the weights go back to a slow copy that has moved by this share towards them."""


class Ranger(RAdam):
    """RAdam (Liu et al. 2020, arXiv 1908.03265) within Lookahead (Zhang et al. 2019, arXiv 1907.08610).

    With the settings of github.com/lessw2020/Ranger-Deep-Learning-Optimizer 9.3.19: betas 0.95 and 0.999, eps 1e-5, and
    weight decay apart from the gradient.

    Args:
        params: parameters or groups of them.
        lr: the learning rate.
        weight_decay: the share of the weights, times the learning rate, that each step takes away.
    """

    def __init__(
        self, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float, weight_decay: float
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=(0.95, 0.999),
            eps=1e-5,
            weight_decay=weight_decay,
            decoupled_weight_decay=True,
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do one step; the state of each parameter holds its slow copy as `slow`."""
        moving = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        slow = {p: p.clone() for p in moving if "slow" not in self.state[p]}
        loss: float | None = super().step(closure)
        for parameter in moving:
            state = self.state[parameter]
            if parameter in slow:
                state["slow"] = slow[parameter]
            if int(state["step"]) % LOOKAHEAD_STEPS == 0:
                state["slow"].lerp_(parameter, LOOKAHEAD_SHARE)
                parameter.copy_(state["slow"])
        return loss
