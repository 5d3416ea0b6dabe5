"""What a loss does to similarities and gradients: means over steps, gathered without waiting for a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

KEYS = ("loss", "positive_similarity", "hardest_negative_similarity", "gradient_norm_text", "gradient_norm_video")


class Monitor:
    """Means over steps. Sums stay on the device, in float64, until they are read.

    A step counts for `hardest_negative_similarity` if it has a negative, and each gradient that flows counts for its
    norm; what has been seen by none has no mean.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all steps."""
        self._sums: dict[str, Tensor | float] = dict.fromkeys(KEYS, 0.0)
        self._counts: dict[str, Tensor | int] = dict.fromkeys(KEYS, 0)

    @torch.no_grad()
    def add(self, scores: Tensor, loss: Tensor | float, positives: Tensor | None = None) -> None:
        """Take in a step.

        Args:
            scores: [B, B], texts in rows; text i describes video i.
            loss: the step's loss.
            positives: [B, B] bool, further pairs that are known to match and are no negatives.

        Raises:
            ValueError: `scores` is not square.
        """
        if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
            raise ValueError(f"scores have shape {tuple(scores.shape)}, [B, B] was expected")
        self._count("loss", loss)
        self._count("positive_similarity", scores.diagonal().double().mean())
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        negative = scores.masked_fill(own if positives is None else own | positives, -torch.inf)
        hardest = torch.cat((negative.amax(dim=0), negative.amax(dim=1))).double()
        has_one = hardest != -torch.inf
        total = torch.where(has_one, hardest, 0.0).sum()
        self._count("hardest_negative_similarity", total / has_one.sum().clamp(min=1), has_one.any())

    def watch(self, vectors: Tensor, side: Literal["text", "video"], scale: Tensor | float = 1.0) -> None:
        """Count the norm of the gradient that will flow into embeddings. Without gradients this does nothing.

        Args:
            vectors: of any shape; their gradient's norm is over all of them.
            side: whether they are the texts' or the videos'.
            scale: what the loss is multiplied with before the backward pass, such as a gradient scaler's.
        """
        if vectors.requires_grad:
            key = f"gradient_norm_{side}"
            vectors.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._count(key, gradient.double().norm() / scale)
            )

    def means(self) -> dict[str, float]:
        """Return the mean of each of `KEYS` that was seen; this waits for the device."""
        state = self.state()
        return {key: state[f"{key}_sum"] / state[f"{key}_count"] for key in KEYS if state[f"{key}_count"]}

    def state(self) -> dict[str, float | int]:
        """Return sums and counts, with which `load_state` goes on exactly; this waits for the device."""
        sums = {f"{key}_sum": float(value) for key, value in self._sums.items()}
        return sums | {f"{key}_count": int(value) for key, value in self._counts.items()}

    def load_state(self, state: Mapping[str, float | int]) -> None:
        """Go on from what `state` returned."""
        self._sums = {key: float(state[f"{key}_sum"]) for key in KEYS}
        self._counts = {key: int(state[f"{key}_count"]) for key in KEYS}

    def _count(self, key: str, value: Tensor | float, times: Tensor | int = 1) -> None:
        self._sums[key] = self._sums[key] + (value.detach().double() if isinstance(value, Tensor) else value)
        self._counts[key] = self._counts[key] + times
