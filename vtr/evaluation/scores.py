"""Where scores come from: a matrix, or embeddings that are multiplied a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtr.evaluation.correspondence import Correspondence, Rows
from vtr.similarity import ExactGallery, exact_pairs, exact_scores
from vtr.types import TextEmbeddings, VideoEmbeddings

Array = NDArray[np.floating[Any]]
Scores = Array | Tensor
"""[T, V], texts in rows, videos in columns."""

BLOCK_VALUES = 1 << 21
"""Scores that are made or looked at together: 8 MiB in float32."""

EMBEDDED_BLOCK_VALUES = 1 << 19
"""Scores that are computed together: 4 MiB in float64, a few times over."""

MATRIX_BYTES = 1 << 31
"""A float32 matrix up to this size is held in memory: it is looked at several times. MSR-VTT full takes a third."""


class ScoreSource(Protocol):
    """Scores [T, V] that can be read a block of texts at a time."""

    @property
    def shape(self) -> tuple[int, int]:
        """(T, V)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the scores."""

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield the rows of some texts and their scores [b, V], from the first text to the last."""

    def pairs(self, texts: Rows, videos: Rows) -> Array:
        """Return the scores [N] of some pairs, the very values that `blocks` holds."""

    def rows(self, texts: Rows) -> Array:
        """Return the scores [n, V] of some texts."""

    def columns(self, videos: Rows) -> Array:
        """Return the scores [n, T] of some videos: videos in rows, here alone."""

    def matrix(self) -> Array:
        """Return all scores [T, V] at once."""


class MatrixScores:
    """Scores that are there as a whole.

    Args:
        scores: [T, V], of any float type; a memory map is read a block at a time.

    Raises:
        ValueError: they are not a matrix of floats.
    """

    def __init__(self, scores: Scores) -> None:
        values = scores.detach().cpu() if isinstance(scores, Tensor) else scores
        if isinstance(values, Tensor):  # numpy has no bfloat16
            values = values.float().numpy() if values.dtype == torch.bfloat16 else values.numpy()
        self.values: Array = values if isinstance(values, np.ndarray) else np.asarray(values)
        if self.values.ndim != 2 or not np.issubdtype(self.values.dtype, np.floating):
            raise ValueError(f"scores are {self.values.dtype} {self.values.shape}, floats [T, V] were expected")

    @property
    def shape(self) -> tuple[int, int]:
        """(T, V)."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the scores."""
        return self.values.dtype

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield the rows of some texts and their scores [b, V]."""
        for rows in row_blocks(*self.shape):
            yield rows, self.values[rows]

    def pairs(self, texts: Rows, videos: Rows) -> Array:
        """Return the scores [N] of some pairs."""
        found: Array = self.values[texts, videos]
        return found

    def rows(self, texts: Rows) -> Array:
        """Return the scores [n, V] of some texts."""
        found: Array = self.values[texts]
        return found

    def columns(self, videos: Rows) -> Array:
        """Return the scores [n, T] of some videos: videos in rows, here alone."""
        return np.ascontiguousarray(self.values[:, videos].T)

    def matrix(self) -> Array:
        """Return all scores [T, V] at once."""
        return self.values


class EmbeddedScores:
    """The exact scores of embeddings (`vtr.similarity.exact_scores`); the matrix is never made.

    Two products of the same vectors may differ in the last bit of float64, and very rarely so after rounding to float32
    too. So the right pairs are scored once, and these values stand in every block.

    Args:
        texts, videos: T and V embeddings.
        right: the pairs whose scores are asked for with `pairs`.
    """

    def __init__(self, texts: TextEmbeddings, videos: VideoEmbeddings, right: Correspondence) -> None:
        self._texts, self._videos, self._right = texts, videos, right
        self._gallery = ExactGallery(videos)
        pairs = torch.from_numpy(right.texts), torch.from_numpy(right.videos)
        self._own: Array = exact_pairs(texts, videos, *pairs).numpy()

    @property
    def shape(self) -> tuple[int, int]:
        """(T, V)."""
        return len(self._texts.ids), len(self._videos.ids)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the scores: float32."""
        return self._own.dtype

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield the rows of some texts and their scores [b, V] in float32."""
        for rows in row_blocks(*self.shape, EMBEDDED_BLOCK_VALUES):
            block = self.rows(np.arange(rows.start, rows.stop))
            here = slice(*np.searchsorted(self._right.texts, (rows.start, rows.stop)))
            block[self._right.texts[here] - rows.start, self._right.videos[here]] = self._own[here]
            yield rows, block

    def pairs(self, texts: Rows, videos: Rows) -> Array:
        """Return the scores [N] of some of the right pairs, float32.

        Raises:
            ValueError: one of them is no right pair.
        """
        count = self._right.num_videos
        known = self._right.texts * count + self._right.videos
        wanted = texts * count + videos
        places = np.searchsorted(known, wanted).clip(max=max(0, len(known) - 1))
        if len(wanted) and not (len(known) and np.array_equal(known[places], wanted)):
            raise ValueError("scores of pairs that are not among the right ones were asked for")
        found: Array = self._own[places]
        return found

    def rows(self, texts: Rows) -> Array:
        """Return the scores [n, V] of some texts, float32."""
        chosen = torch.from_numpy(texts)
        ids = tuple(self._texts.ids[row] for row in texts)
        some = TextEmbeddings(ids, self._texts.vectors[chosen], self._texts.weights[chosen])
        found: Array = self._gallery.score(some).cpu().numpy()
        return found

    def columns(self, videos: Rows) -> Array:
        """Return the scores [n, T] of some videos, float32: videos in rows, here alone."""
        chosen = torch.from_numpy(videos)
        ids = tuple(self._videos.ids[row] for row in videos)
        some = VideoEmbeddings(ids, self._videos.vectors[chosen], self._videos.present[chosen])
        found: Array = exact_scores(self._texts, some).numpy().T
        return found

    def matrix(self) -> Array:
        """Return all scores [T, V] at once, float32."""
        return np.concatenate([block for _, block in self.blocks()])


def score_embeddings(texts: TextEmbeddings, videos: VideoEmbeddings, right: Correspondence) -> ScoreSource:
    """Return the exact scores [T, V] of embeddings: as a matrix, or in blocks where a matrix would be too large.

    Args:
        texts, videos: T and V embeddings.
        right: the pairs that will be asked for.
    """
    if 4 * len(texts.ids) * len(videos.ids) <= MATRIX_BYTES:
        return MatrixScores(exact_scores(texts, videos))
    return EmbeddedScores(texts, videos, right)


def row_blocks(num_rows: int, num_columns: int, values: int | None = None) -> Iterator[slice]:
    """Yield the rows of a matrix, about so many `values` at a time, `BLOCK_VALUES` where that is None."""
    step = max(1, (BLOCK_VALUES if values is None else values) // max(1, num_columns))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
