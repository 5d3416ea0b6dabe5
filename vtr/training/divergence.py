"""Stopping at a loss that is not finite, with what led to it written down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from vtr.data.sampling import Pair
from vtr.errors import VtrError
from vtr.files import write_json
from vtr.training.data import TrainingData

DIVERGED = "diverged.json"
"""In the run's folder: the batch whose loss was not finite."""


class Watchdog:
    """Looks at every loss. On a GPU, each is looked at one step later, so that the GPU is never waited for.

    Args:
        root: the run's folder.
        data: what the pairs' rows mean.
        late: look at each loss when the next one is known.
    """

    def __init__(self, root: Path, data: TrainingData, *, late: bool) -> None:
        self._root, self._data, self._late = root, data, late
        self._waiting: tuple[Tensor, Sequence[Pair], int] | None = None
        self._latest = math.nan

    def add(self, loss: Tensor, pairs: Sequence[Pair], step: int) -> float:
        """Look at a loss, and return the latest one that is known.

        Raises:
            VtrError: it is not finite. The batch is in `diverged.json`.
        """
        self.flush()
        self._waiting = loss.detach(), pairs, step
        if not self._late:
            self.flush()
        return self._latest

    def flush(self) -> None:
        """Look at the loss that has not been looked at.

        Raises:
            VtrError: it is not finite.
        """
        if self._waiting is None:
            return
        loss, pairs, step = self._waiting
        self._waiting = None
        self._latest = loss.item()
        if not math.isfinite(self._latest):
            self._stop(self._latest, pairs, step)

    def _stop(self, loss: float, pairs: Sequence[Pair], step: int) -> None:
        captions, videos = self._data.captions.captions, self._data.table.video_ids
        named = [
            {"video": videos[video], "caption": captions[caption].id, "text": captions[caption].text}
            for video, caption in pairs
        ]
        write_json(self._root / DIVERGED, {"step": step, "loss": str(loss), "pairs": named})
        first = ", ".join(pair["video"] for pair in named[:5])
        raise VtrError(
            f"the loss is {loss} at step {step} (videos {first}, ...; all of the batch in {self._root / DIVERGED}). "
            "Lower optimiser.learning_rate or set optimiser.gradient_clip, with another --out; the last checkpoint "
            "before it is kept."
        )
