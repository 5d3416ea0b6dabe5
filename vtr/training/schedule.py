"""The learning rate as a function of the step: warm-up, then a decay."""

from __future__ import annotations

import math
from bisect import bisect_right

from vtr.optimiser_config import OptimiserConfig


def rate_factor(config: OptimiserConfig, step: int, epoch: int, total_steps: int) -> float:
    """Return what a step's base rate is multiplied with: a linear warm-up times the schedule's decay.

    Args:
        config: which schedule.
        step: steps done before this one.
        epoch: epochs done before this one.
        total_steps: steps of the whole training, for schedule cosine; later steps keep its final factor.
    """
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    return warm * _decay(config, step, epoch, total_steps)


def _decay(config: OptimiserConfig, step: int, epoch: int, total_steps: int) -> float:
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "cosine":
        done = max(step - config.warmup_steps, 0) / max(total_steps - config.warmup_steps, 1)
        wave = (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return config.final_factor + (1 - config.final_factor) * wave
    if config.schedule == "step":
        times = bisect_right(config.milestones, epoch if config.milestones_in == "epochs" else step)
    else:
        times = epoch if config.decay_steps == "epoch" else step // config.decay_steps
    return float(config.decay**times)
