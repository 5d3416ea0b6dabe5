"""Stopping at a loss or a gradient that is not finite, with what led to it written down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vtr.data.sampling import Pair
from vtr.errors import VtrError
from vtr.files import write_json
from vtr.training.checkpoint import newest
from vtr.training.data import TrainingData

DIVERGED = "diverged.json"
"""In the run's folder: the batch whose loss or gradient was not finite."""


class OnItsWay:
    """A number that is copied from where it was computed, without waiting for it until it is read."""

    def __init__(self, number: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._number = number.detach()
        if number.device.type == "cuda":
            self._number = torch.empty((), dtype=number.dtype, pin_memory=True)
            self._number.copy_(number.detach(), non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def read(self) -> float:
        """Return the number; this waits for it, and for nothing that was asked for after it."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._number.item()


@dataclass(frozen=True)
class _Watched:
    what: str
    number: OnItsWay
    pairs: Sequence[Pair]
    step: int


class Watchdog:
    """Looks at every step's loss and gradient. On a GPU that is one step later, so that the GPU is not waited for.

    Args:
        root: the run's folder.
        data: what the pairs' rows mean.
        late: look at each number when the next one of its kind is known.
        writes: whether this process writes files.
    """

    def __init__(self, root: Path, data: TrainingData, *, late: bool, writes: bool = True) -> None:
        self._root, self._data, self._late, self._writes = root, data, late, writes
        self._waiting: dict[str, _Watched] = {}
        self._latest: dict[str, float] = {}

    def add(self, what: str, number: Tensor, pairs: Sequence[Pair], step: int) -> float:
        """Look at a "loss" or a "gradient norm", and return the latest one that is known, NaN before the first.

        Raises:
            VtrError: it is not finite. The batch is in `diverged.json`.
        """
        self._look(what)
        self._waiting[what] = _Watched(what, OnItsWay(number), pairs, step)
        if not self._late:
            self._look(what)
        return self._latest.get(what, math.nan)

    def flush(self) -> dict[str, float]:
        """Look at all that has not been looked at; return the latest numbers.

        Raises:
            VtrError: one is not finite.
        """
        for what in list(self._waiting):
            self._look(what)
        return self._latest

    def _look(self, what: str) -> None:
        watched = self._waiting.pop(what, None)
        if watched is None:
            return
        self._latest[what] = watched.number.read()
        if not math.isfinite(self._latest[what]):
            self._stop(watched, self._latest[what])

    def _stop(self, watched: _Watched, number: float) -> None:
        captions, videos = self._data.captions.captions, self._data.table.video_ids
        named = [
            {"video": videos[video], "caption": captions[caption].id, "text": captions[caption].text}
            for video, caption in watched.pairs
        ]
        if self._writes:
            content = {"step": watched.step, watched.what: str(number), "pairs": named}
            write_json(self._root / DIVERGED, content)
        before = newest(self._root / "checkpoints") is not None
        kept = "the last checkpoint before it is kept" if before else "there was no checkpoint before it"
        first = ", ".join(pair["video"] for pair in named[:5])
        raise VtrError(
            f"the {watched.what} is {number} at step {watched.step} (videos {first}, ...; all of the batch in "
            f"{self._root / DIVERGED}). Lower optimiser.learning_rate or set optimiser.gradient_clip, with another "
            f"--out; {kept}."
        )
