"""Schedules of the learning rate against torch's own schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
    StepLR,
)

from vtr.config import TrainConfig, build
from vtr.errors import ConfigError
from vtr.training.schedule import rate_factor

TOTAL, PER_EPOCH, WARM = 60, 6, 7


def theirs(make: Callable[[Optimizer], LRScheduler], *, each_epoch: bool = False) -> list[float]:
    """Return torch's rate of each step, its base rate being 1."""
    optimiser = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = make(optimiser), []
    for step in range(TOTAL):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if not each_epoch or (step + 1) % PER_EPOCH == 0:
            scheduler.step()
    return found


def ours(**settings: Any) -> list[float]:
    config = build(TrainConfig, {"optimiser": settings}, "the test").optimiser
    return [rate_factor(config, step, step // PER_EPOCH, TOTAL) for step in range(TOTAL)]


def warmed_up(optimiser: Optimizer, after: LRScheduler) -> LRScheduler:
    warm = LinearLR(optimiser, start_factor=1 / WARM, total_iters=WARM - 1)
    return SequentialLR(optimiser, [warm, after], milestones=[WARM])


CASES: dict[str, tuple[dict[str, Any], Callable[[Optimizer], LRScheduler], bool]] = {
    "exponential": ({"decay": 0.8, "decay_steps": 10}, lambda o: StepLR(o, 10, 0.8), False),
    "exponential by epoch": ({"decay": 0.8, "decay_steps": "epoch"}, lambda o: ExponentialLR(o, 0.8), True),
    "step": (
        {"schedule": "step", "milestones": [5, 20, 41], "decay": 0.1},
        lambda o: MultiStepLR(o, [5, 20, 41], 0.1),
        False,
    ),
    "step by epoch": (
        {"schedule": "step", "milestones": [2, 7], "milestones_in": "epochs", "decay": 0.5},
        lambda o: MultiStepLR(o, [2, 7], 0.5),
        True,
    ),
    "cosine": (
        {"schedule": "cosine", "final_factor": 0.1},
        lambda o: CosineAnnealingLR(o, TOTAL, eta_min=0.1),
        False,
    ),
    "cosine after a warm-up": (
        {"schedule": "cosine", "warmup_steps": WARM},
        lambda o: warmed_up(o, CosineAnnealingLR(o, TOTAL - WARM)),
        False,
    ),
    "constant after a warm-up": (
        {"schedule": "constant", "warmup_steps": WARM},
        lambda o: warmed_up(o, ConstantLR(o, 1.0)),
        False,
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")  # torch's own, within SequentialLR
def test_rates_are_torchs(name: str) -> None:
    settings, make, each_epoch = CASES[name]
    found = ours(**settings)
    assert found == pytest.approx(theirs(make, each_epoch=each_epoch), rel=1e-9, abs=1e-12)
    assert len(set(found)) > 1


def test_after_its_end_a_cosine_stays_where_it_ended() -> None:
    config = build(TrainConfig, {"optimiser": {"schedule": "cosine", "final_factor": 0.2}}, "the test").optimiser
    assert [rate_factor(config, step, 0, 10) for step in (0, 10, 25)] == pytest.approx([1, 0.2, 0.2])
    warm = build(TrainConfig, {"optimiser": {"schedule": "cosine", "warmup_steps": 20}}, "the test").optimiser
    assert rate_factor(warm, 9, 0, 10) == 0.5  # a warm-up longer than the training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "step"}, r"optimiser\.milestones is .* schedule step needs milestones"),
        ({"schedule": "cosine", "milestones": [3]}, r"no other takes them; schedule is cosine"),
        ({"schedule": "step", "milestones": [3, 3]}, "milestones must increase"),
        ({"schedule": "step", "milestones": [0, 3]}, r"optimiser\.milestones\.0 is 0"),
        ({"schedule": "steps", "milestones": [3]}, r"optimiser\.schedule is 'steps'"),
        ({"schedule": "cosine", "final_factor": 1.5}, r"optimiser\.final_factor is 1\.5"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(TrainConfig, {"optimiser": settings}, "the test")
