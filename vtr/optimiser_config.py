"""What a config says of the optimiser, its learning rates and how they change."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from vtr.config_base import Config

Schedule = Literal["exponential", "step", "cosine", "constant"]


class OptimiserConfig(Config):
    """The optimiser and the schedule of its learning rate."""

    name: Literal["adam", "adamw", "sgd", "ranger"] = "adam"
    """adam; adamw: Adam with weight decay apart from the gradient; sgd, with `momentum`; ranger: rectified Adam with
    lookahead and decoupled weight decay, which CE was trained with."""
    learning_rate: float = Field(default=5e-5, gt=0)
    text_learning_rate: float | None = Field(default=None, gt=0)
    """For a fine-tuned text encoder; None means the same as `learning_rate`."""
    freeze_text_steps: int = Field(default=0, ge=0)
    """A fine-tuned text encoder stays as it is for the first so many steps."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of sgd; the others have their own."""
    weight_decay: float = Field(default=0.0, ge=0)
    decay_biases: bool = True
    """False applies `weight_decay` to matrices of weights only, not to biases, norms and embeddings."""
    warmup_steps: int = Field(default=0, ge=0)
    """The rate grows linearly to its full value over the first so many steps."""
    schedule: Schedule = "exponential"
    """exponential: times `decay` every `decay_steps`. step: times `decay` at each of `milestones`. cosine: half a wave
    from the end of the warm-up to the end of training, down to `final_factor`. constant: no change."""
    decay: float = Field(default=0.95, gt=0, le=1)
    decay_steps: Annotated[int, Field(ge=1)] | Literal["epoch"] = 1000
    """The rate is multiplied by `decay` every so many steps, or after each "epoch"."""
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(), strict=False, validate_default=True)
    """For schedule step: after how many steps or epochs the rate is multiplied by `decay`, increasing."""
    milestones_in: Literal["steps", "epochs"] = "steps"
    final_factor: float = Field(default=0.0, ge=0, le=1)
    """For schedule cosine: the share of the rate that is left when training ends."""
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient; None does not clip."""

    @field_validator("milestones")
    @classmethod
    def _of_a_step_schedule(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        schedule = info.data.get("schedule", "step")  # absent where it is wrong itself
        if (schedule == "step") != bool(value):
            raise ValueError(f"schedule step needs milestones and no other takes them; schedule is {schedule}")
        if any(later <= earlier for earlier, later in pairwise(value)):
            raise ValueError("milestones must increase, such as [1000, 2000]")
        return value
