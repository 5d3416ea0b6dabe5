"""Scores to ranks, in both directions, with one tie rule.

The protocol is that of the released code of CE (Liu et al. 2019, arXiv 1907.13487) and MMT (Gabeur et al. 2020,
arXiv 2007.10639). Rank 1 is best. A query whose right answer ties with k other items gets the mean of the k + 1 places
they share, so ranks may end in .5 and a constant score earns the middle of the gallery, not its top.

Ranks are counted (how many items score higher, how many the same), never sorted, and a block of the matrix at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtr.errors import InputError

BLOCK_VALUES = 1 << 22
"""Scores looked at together: about 4 MiB of comparison results at a time."""

Scores = NDArray[np.floating[Any]] | Tensor
Owners = NDArray[np.integer[Any]] | Sequence[int] | Tensor
Ranks = NDArray[np.float64]


def text_to_video(scores: Scores, video_of_text: Owners) -> Ranks:
    """Return the rank of each text's own video among all videos.

    Args:
        scores: [T, V], texts in rows, videos in columns.
        video_of_text: [T], the column of each text's video.

    Returns:
        [T] float64; ties share the mean of their places.

    Raises:
        InputError: scores are NaN; the rows are named.
        ValueError: the shapes do not fit, or a text names a video that is not among the columns.
    """
    values, owners = _checked(scores, video_of_text)
    own = values[np.arange(len(owners)), owners]
    ranks = np.empty(len(owners), np.float64)
    for rows in _blocks(*values.shape):
        block, wanted = values[rows], own[rows, None]
        ranks[rows] = _rank((block > wanted).sum(1), (block == wanted).sum(1))
    return ranks


def video_to_text(scores: Scores, video_of_text: Owners) -> Ranks:
    """Return the rank of each video's best-ranked own caption among all captions.

    Captions that are missing are simply not among the rows. A video without captions cannot be a query.

    Args:
        scores: [T, V], texts in rows, videos in columns.
        video_of_text: [T], the column of each text's video.

    Returns:
        [Q] float64, one rank for each video that has a caption, in the order of the columns; the columns are
        `np.unique(video_of_text)`. Ties share the mean of their places, those with the video's own captions too.

    Raises:
        InputError: scores are NaN; the rows are named.
        ValueError: the shapes do not fit, or a text names a video that is not among the columns.
    """
    values, owners = _checked(scores, video_of_text)
    best = np.full(values.shape[1], -np.inf, values.dtype)  # the better its score, the better a caption's rank
    np.maximum.at(best, owners, values[np.arange(len(owners)), owners])
    higher, same = np.zeros((2, values.shape[1]), np.int64)
    for rows in _blocks(*values.shape):
        block = values[rows]
        higher += (block > best).sum(0)
        same += (block == best).sum(0)
    queries = np.unique(owners)
    return _rank(higher[queries], same[queries])


def _rank(higher: NDArray[np.int64], same: NDArray[np.int64]) -> Ranks:
    return 1.0 + higher + (same - 1) / 2.0


def _checked(scores: Scores, video_of_text: Owners) -> tuple[NDArray[Any], NDArray[np.int64]]:
    values = scores.detach().cpu().numpy() if isinstance(scores, Tensor) else np.asarray(scores)
    owners = np.asarray(video_of_text, np.int64)
    if values.ndim != 2 or owners.shape != values.shape[:1]:
        raise ValueError(f"scores {values.shape} and video_of_text {owners.shape}: [T, V] and [T] expected")
    if len(owners) and not (owners.min() >= 0 and owners.max() < values.shape[1]):
        raise ValueError(
            f"video_of_text holds columns {owners.min()} to {owners.max()}, the scores have {values.shape[1]}"
        )
    bad = [row for rows in _blocks(*values.shape) for row in rows.start + np.flatnonzero(np.isnan(values[rows]).any(1))]
    if bad:
        shown = ", ".join(str(row) for row in bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise InputError(
            f"scores of {len(bad)} texts are NaN: rows {shown}. NaN cannot be ranked: look for NaN in the features, "
            "or for a training run that diverged."
        )
    return values, owners


def _blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    step = max(1, BLOCK_VALUES // max(1, num_columns))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
