"""Where training stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from vtr.config import TrainConfig


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        epoch: epochs finished.
        step: steps finished.
        batch: batches of the present epoch that are behind it.
        best_rsum, best_epoch: of the best validation so far; None without a validation part. Within an epoch
            it is a fraction, such as 2.5.
        last_rsum, validated_step: of the latest validation.
        waited: validations since the best one.
        stopped: whether validation had got no better for long enough at the end of an epoch.
        log_bytes: size of the log when this was saved.
        epoch_means: what the monitor has seen of the present epoch.
        scale: the gradient scaler's state, for float16.
    """

    epoch: int = 0
    step: int = 0
    batch: int = 0
    best_rsum: float | None = None
    best_epoch: float | None = None
    last_rsum: float | None = None
    validated_step: int | None = None
    waited: int = 0
    stopped: bool = False
    log_bytes: int = 0
    epoch_means: dict[str, float] = field(default_factory=dict)
    scale: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Progress:
        """Return what was written down, without what earlier versions kept besides."""
        return cls(**{entry.name: values[entry.name] for entry in fields(cls) if entry.name in values})

    def finished(self, config: TrainConfig) -> bool:
        """Return whether all epochs are done, or training was stopped before."""
        return self.epoch >= config.epochs or self.stopped

    def kept(self, config: TrainConfig) -> tuple[float | None, float | None]:
        """Return the epoch and the validation RSUM of the model that the run keeps; None without a validation part."""
        if config.select == "last" and self.last_rsum is not None:
            return self.epoch, self.last_rsum
        return self.best_epoch, self.best_rsum
