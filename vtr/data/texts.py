"""Captions ready to be batched; the states of a frozen encoder are computed once and kept in the workspace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vtr.config import TextConfig
from vtr.files import atomic_file
from vtr.progress import progress
from vtr.types import Caption, TextBatch
from vtr.workspace import fingerprint


class TextSource(Protocol):
    """What makes batches of texts: `vtr.models.text.TextInput`."""

    config: TextConfig

    def key(self) -> str:
        """Return a hash under which cached states are valid."""

    def batch(self, ids: Sequence[str], texts: Sequence[str]) -> TextBatch:
        """Return a batch."""

    def states(self, texts: Sequence[str], advance: Callable[[int], None] | None = None) -> Tensor:
        """Return frozen states [N, H]."""


class CaptionTable:
    """N captions, ready to be batched by row.

    Args:
        captions: the captions.
        source: tokenises them or gives their frozen states.
        cache: folder for frozen states.
    """

    def __init__(self, captions: Sequence[Caption], source: TextSource, cache: Path) -> None:
        self.captions = tuple(captions)
        self._source = source
        self._states = self._frozen_states(cache) if source.config.mode == "frozen" else None

    def batch(self, rows: Sequence[int]) -> TextBatch:
        """Return a batch of the captions at `rows`."""
        ids = tuple(self.captions[row].id for row in rows)
        if self._states is not None:
            return TextBatch(ids, states=torch.from_numpy(self._states[list(rows)].astype(np.float32)))
        return self._source.batch(ids, [self.captions[row].text for row in rows])

    def _frozen_states(self, cache: Path) -> np.ndarray:
        texts = sorted({caption.text for caption in self.captions})
        path = cache / f"text-{fingerprint([self._source.key(), texts])}.npy"
        if path.exists():
            states = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with progress("encode captions", len(texts), "texts") as advance:
                states = self._source.states(texts, lambda count: advance(count, "")).numpy()
            with atomic_file(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, states)
        row_of = {text: row for row, text in enumerate(texts)}
        return states[[row_of[caption.text] for caption in self.captions]]  # type: ignore[no-any-return]
