"""Array normalised against hubs before they are ranked: dual softmax, inverted softmax and QB-Norm, by name.

A hub is an item that scores well with many queries. What takes hubs out of text-to-video scores is not what takes
them out of video-to-text scores, so each direction gets a matrix of its own, [T, V] both. Dual and inverted softmax
are transductive: they see all test queries together, so their numbers do not compare with those of a system that
answers one query at a time. QB-Norm sees training queries only. Results are float64, so that rounding makes no ties:
16 bytes a score (2.9 GB for 59,800 texts and 2,990 videos). All else is made a block of rows at a time.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtr.errors import InputError, nearest, some
from vtr.evaluation.scores import Array, row_blocks
from vtr.files import atomic_file

DAMAGE = (OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PostProcess:
    """One way to normalise scores, as a user asks for it by `name` and a result tells of it.

    Attributes:
        transductive: whether a query's answer depends on the other test queries.
        summary: what it does; `describe` puts a number in the place of {scale}.
        scale: the factor of the scores in the exponent where none is given, for cosines; QB-Norm calls it beta.
    """

    name: str
    transductive: bool
    summary: str
    scale: float

    def describe(self, scale: float | None = None) -> str:
        """Return the sentence a result prints; None stands for the default scale."""
        return self.summary.format(scale=f"{self.scale if scale is None else scale:g}")


DUAL_SOFTMAX = PostProcess(
    "dual_softmax",
    True,
    "dual softmax over all test queries (transductive), scale {scale}",
    100.0,
)
INVERTED_SOFTMAX = PostProcess(
    "inverted_softmax",
    True,
    "inverted softmax over all test queries (transductive), scale {scale}",
    20.0,
)
QB_NORM = PostProcess(
    "qb_norm",
    False,
    "QB-Norm with a bank of training queries, beta {scale}",
    20.0,
)
POST_PROCESSING: Mapping[str, PostProcess] = {known.name: known for known in (DUAL_SOFTMAX, INVERTED_SOFTMAX, QB_NORM)}


@dataclass(frozen=True, eq=False, slots=True)
class QueryBank:
    """What a bank of training queries says about one gallery (QB-Norm, Bogolin et al. 2022, arXiv 2112.12777).

    Attributes:
        log_sums: [N] float64, log of the sum over the bank's queries of exp(beta * score with item n).
        activated: [N] bool, whether the item is among the best k of any query of the bank.
        beta, k: the factor of the scores in the exponent, and how many items each query of the bank activates.
        num_queries: how many queries the bank holds.
    """

    log_sums: Values
    activated: NDArray[np.bool_]
    beta: float
    k: int
    num_queries: int

    def __post_init__(self) -> None:
        if self.log_sums.ndim != 1 or self.activated.shape != self.log_sums.shape or self.activated.dtype != np.bool_:
            raise ValueError(
                f"log_sums {self.log_sums.shape} and activated {self.activated.shape} {self.activated.dtype}: "
                "[N] and [N] bool expected"
            )

    @classmethod
    def gather(cls, blocks: Iterable[Array], *, beta: float = QB_NORM.scale, k: int = 1) -> QueryBank:
        """Read a bank's scores once, block after block; the memory needed does not grow with the bank.

        Args:
            blocks: [b, N] each, queries of the bank in rows, the gallery's items in columns.
            beta: the factor of the scores in the exponent; 20 as in the paper.
            k: how many items each query activates, of those that tie the first ones; 1 as in the paper.

        Raises:
            InputError: beta or k is not positive, or scores are NaN or infinite.
            ValueError: there are no queries, or blocks differ in their number of items.
        """
        check_scale("beta", beta)
        if k < 1:
            raise InputError(f"k is {k}, at least 1 was expected. Choose how many items a query of the bank activates.")
        log_sums, activated, num_queries = np.zeros(0), np.zeros(0, np.bool_), 0
        for values in map(_checked, blocks):
            if not num_queries:
                log_sums, activated = np.full(values.shape[1], -np.inf), np.zeros(values.shape[1], np.bool_)
            elif values.shape[1] != len(activated):
                raise ValueError(f"a block of the bank is {values.shape}, [b, {len(activated)}] expected")
            for _, block in _blocks(values):
                log_sums = np.logaddexp(log_sums, _log_sums(beta * block))
                activated[block.argmax(1) if k == 1 else np.argsort(-block, 1, kind="stable")[:, :k]] = True
            num_queries += len(values)
        if not num_queries:
            raise ValueError("the bank is empty, at least one query was expected")
        return cls(log_sums, activated, float(beta), int(k), num_queries)

    def normalise(self, scores: Array) -> Values:
        """Return the dynamic inverted softmax of each query, in logs.

        A query whose best item is activated gets beta * s - log_sums, the log of its inverted softmax; any other keeps
        its order with beta * s. Each row ranks as the published definition does; rows do not compare with one another.
        As in the published code one item is a query's best: of those that tie, the first. A row depends on its own
        query alone.

        Args:
            scores: [Q, N], queries in rows, the bank's items in columns.

        Returns:
            [Q, N] float64.

        Raises:
            InputError: scores are NaN or infinite; the rows are named.
            ValueError: the scores have another number of items than the bank.
        """
        values = _checked(scores)
        if values.shape[1] != len(self.log_sums):
            raise ValueError(f"scores {values.shape} and a bank of {self.log_sums.shape}: [Q, N] and [N] expected")
        normalised = np.empty(values.shape, np.float64)
        for rows, block in _blocks(values):
            divided = self.activated[block.argmax(1)]
            normalised[rows] = self.beta * block - np.where(divided[:, None], self.log_sums, 0.0)
        return normalised

    def save(self, path: Path) -> None:
        """Write the bank to `path` (NumPy's npz) atomically."""
        with atomic_file(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> QueryBank:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                beta, k, num_queries = float(arrays["beta"]), int(arrays["k"]), int(arrays["num_queries"])
                return cls(arrays["log_sums"], arrays["activated"], beta, k, num_queries)
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist, a query bank's file was expected. Gather it first.") from error
        except DAMAGE as error:
            raise InputError(f"{path} is not a whole query bank ({error}). Delete it and gather it again.") from error


def inverted_softmax(scores: Array, scale: float = INVERTED_SOFTMAX.scale) -> tuple[Values, Values]:
    """Return the logs of the inverted softmax of both directions (Smith et al. 2017, arXiv 1702.03859).

    exp(scale * s) is divided by the sum of that item's over all test queries: over the texts for text-to-video, over
    the videos for video-to-text. Logs rank the same and do not overflow. Adding a constant to all scores changes
    nothing. The paper fits the scale to training data; 20 is QB-Norm's.

    Args:
        scores: [T, V], texts in rows, videos in columns.
        scale: the factor of the scores in the exponent.

    Returns:
        [T, V] float64 to rank videos by in each row, and [T, V] float64 to rank texts by in each column.

    Raises:
        InputError: the scale is not positive, or scores are NaN or infinite; the rows are named.
        ValueError: the scores are not [T, V] with at least one video.
    """
    check_scale("scale", scale)
    values = _checked(scores)
    of_videos = np.full(values.shape[1], -np.inf)
    for _, block in _blocks(values):
        of_videos = np.logaddexp(of_videos, _log_sums(scale * block))
    t2v, v2t = np.empty(values.shape, np.float64), np.empty(values.shape, np.float64)
    for rows, block in _blocks(values):
        t2v[rows] = scale * block - of_videos
        v2t[rows] = scale * block - _log_sums(scale * block.T)[:, None]
    return t2v, v2t


def dual_softmax(scores: Array, scale: float = DUAL_SOFTMAX.scale) -> tuple[Values, Values]:
    """Return scores times their softmax over all test queries (DSL, Cheng et al. 2021, arXiv 2109.04290).

    Text-to-video scores are multiplied by their softmax over the texts, video-to-text scores by their softmax over the
    videos. Published code takes the softmax of CLIP's logits, 100 times the cosine, so the scale is 100. That code may
    also multiply by the number of queries, which changes no order. Where scores are negative the definition is kept
    as published: the likelier pair gets the smaller product, so a normalised order can be upside down there, and adding
    a constant to all scores changes ranks.

    Args:
        scores: [T, V], texts in rows, videos in columns.
        scale: the factor of the scores in the softmax. Where it times the spread of an item's scores passes 700, the
            softmax of the lowest is 0 in float64: they tie.

    Returns and raises what `inverted_softmax` does, the products in the place of logs.
    """
    t2v, v2t = inverted_softmax(scores, scale)
    for rows, block in _blocks(np.asarray(scores)):
        t2v[rows] = block * np.exp(t2v[rows])
        v2t[rows] = block * np.exp(v2t[rows])
    return t2v, v2t


def apply(
    name: str,
    scores: Array,
    *,
    scale: float | None = None,
    text_bank: QueryBank | None = None,
    video_bank: QueryBank | None = None,
) -> tuple[Values, Values]:
    """Return the scores of both directions after the post-processing called `name`.

    Args:
        name: a key of `POST_PROCESSING`.
        scores: [T, V], texts in rows, videos in columns.
        scale: of dual and inverted softmax; None takes the default. QB-Norm's beta is that of its banks.
        text_bank: for QB-Norm, training texts against the V videos.
        video_bank: for QB-Norm, training videos against the T texts.

    Returns:
        [T, V] float64 to rank videos by in each row, and the same to rank texts by in each column.

    Raises:
        InputError: the name is unknown, the scale is not positive, or scores are NaN or infinite.
        ValueError: QB-Norm lacks a bank or is given a scale, another is given a bank, or shapes do not fit.
    """
    if name not in POST_PROCESSING:
        names = list(POST_PROCESSING)
        raise InputError(f"there is no post-processing '{name}'. Choose from {', '.join(names)}.{nearest(name, names)}")
    if name == QB_NORM.name:
        if text_bank is None or video_bank is None or scale is not None:
            raise ValueError(f"{name} takes a text_bank and a video_bank; their beta stands in the place of a scale")
        return text_bank.normalise(scores), video_bank.normalise(scores.T).T
    if text_bank is not None or video_bank is not None:
        raise ValueError(f"{name} was given a query bank, none was expected")
    function = dual_softmax if name == DUAL_SOFTMAX.name else inverted_softmax
    return function(scores, POST_PROCESSING[name].scale if scale is None else scale)


def _log_sums(exponents: Values) -> Values:
    """Return the log of each column's sum of exponentials."""
    top = exponents.max(0)
    return np.asarray(top + np.log(np.exp(exponents - top).sum(0)))


def check_scale(name: str, scale: float) -> None:
    """Raise `InputError` unless a scale is a positive number."""
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"{name} is {scale}, a positive number was expected. Choose one; 20 to 100 suit cosines.")


def _checked(scores: Array) -> Array:
    values = np.asarray(scores)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"scores {values.shape}: [Q, N] with at least one item expected")
    bad = [row for rows, block in _blocks(values) for row in rows.start + np.flatnonzero(~np.isfinite(block).all(1))]
    if bad:
        rows = some([str(row) for row in bad])
        raise InputError(
            f"scores of {len(bad)} rows are NaN or infinite: {rows}. Look for NaN in the features, or a diverged run."
        )
    return values


def _blocks(values: Array) -> Iterator[tuple[slice, Values]]:
    """Yield some rows, and their scores in float64."""
    for rows in row_blocks(*values.shape):
        yield rows, values[rows].astype(np.float64)
