"""The sums over negatives behind the unified loss, in both directions, a block of rows of the scores at a time.

With `z_ij = gamma s_ij`, the loss of text i is `softplus(x_i) / gamma` for `x_i = log sum_{j!=i} exp(z_ij) - z_ii +
gamma m`, and its gradient on a negative `s_ij` is `exp(z_ij) / sum_k exp(z_ik) * sigmoid(x_i)`, on the positive minus
the sum of those. Videos are the same along columns. So a first pass over the blocks collects a maximum and a sum of
exponentials per row and per column, and a second pass, over the same or newly computed blocks, writes the gradient.
The logarithm of 1 + ... is a softplus, so small losses keep their digits and no gamma overflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from vtr.losses.scores import NO_NEGATIVE

CACHED_ELEMENTS = 2**18
"""On a CPU, exponentials are taken of pieces of about this many scores, which stay in its cache."""

CACHED_ROWS = 16
"""But of this many rows at least."""


@dataclass
class Sums:
    """What the first pass collects over b rows and B columns, all of logits z = gamma s.

    Attributes:
        row_max, row_sum: [b], of every text's negatives, the sum of exp(z - row_max).
        column_max, column_sum: [B], of every video's negatives.
        own: [b], the positives' logits.
    """

    row_max: Tensor
    row_sum: Tensor
    column_max: Tensor
    column_sum: Tensor
    own: Tensor

    @classmethod
    def empty(cls, rows: int, columns: int, like: Tensor) -> Sums:
        """Return the sums of no blocks."""
        row_max, column_max = like.new_full((rows,), NO_NEGATIVE), like.new_full((columns,), NO_NEGATIVE)
        return cls(row_max, like.new_zeros(rows), column_max, like.new_zeros(columns), like.new_zeros(rows))


@dataclass(frozen=True)
class Anchors:
    """The losses' arguments and what the second pass multiplies exponentials with.

    Attributes:
        x: [b] of texts, and [B] of videos: the softplus of it over gamma is the anchor's loss.
        row_factor, column_factor: sigmoid(x) over the sum of exponentials.
        row_pull, column_pull: sigmoid(x), what the anchor pulls its positive with.
    """

    x: tuple[Tensor, Tensor]
    row_factor: Tensor
    column_factor: Tensor
    row_pull: Tensor
    column_pull: Tensor


def pieces(scores: Tensor) -> Iterator[slice]:
    """Yield the pieces of a block of scores [c, B] that are worked on at once: cache-sized on a CPU, else the whole."""
    rows, columns = scores.shape
    step = max(CACHED_ROWS, CACHED_ELEMENTS // columns) if scores.device.type == "cpu" else max(rows, 1)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _logits(scores: Tensor, gamma: float, first: int, positives: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return logits with `NO_NEGATIVE` at what is no negative, and the positives' logits.

    Args:
        scores: [c, B], rows whose positives are in the columns from `first` on.
        gamma: the scale.
        first: see `scores`.
        positives: bool [c, B], known positives.
    """
    logits = scores * gamma
    own = logits.diagonal(first)[: len(logits)].clone()
    if positives is not None:
        logits.masked_fill_(positives, NO_NEGATIVE)
    logits.diagonal(first).fill_(NO_NEGATIVE)
    return logits, own


def _exponentials(logits: Tensor, row_max: Tensor, column_max: Tensor) -> tuple[Tensor, Tensor]:
    """Return the exponentials of logits [c, B] less their row's and their column's maximum. Overwrites `logits`."""
    along_rows = (logits - row_max.unsqueeze(1)).exp_()
    return along_rows, logits.sub_(column_max).exp_()


def collect(sums: Sums, scores: Tensor, gamma: float, rows: slice, first: int, positives: Tensor | None) -> None:
    """Add a block of scores to the sums: the first pass.

    Args:
        sums: what has been collected; changed.
        scores: [c, B], the scores of `rows`.
        gamma: the scale.
        rows: places in the sums' b rows.
        first: the column of the first of the b rows' positives.
        positives: bool [b, B], known positives of all b rows.
    """
    for piece in pieces(scores):
        at = slice(rows.start + piece.start, rows.start + piece.stop)
        masked = None if positives is None else positives[at]
        logits, sums.own[at] = _logits(scores[piece], gamma, first + at.start, masked)
        row_max = logits.amax(dim=1)
        column_max = torch.maximum(sums.column_max, logits.amax(dim=0))
        along_rows, along_columns = _exponentials(logits, row_max, column_max)
        sums.row_max[at], sums.row_sum[at] = row_max, along_rows.sum(dim=1)
        sums.column_sum *= (sums.column_max - column_max).exp_()
        sums.column_sum += along_columns.sum(dim=0)
        sums.column_max = column_max


def anchors(sums: Sums, own: Tensor, gamma: float, margin: float | Tensor) -> Anchors:
    """Return the anchors' x and factors.

    Args:
        sums: collected over all rows.
        own: [B], the positives' logits of all columns.
        gamma: the scale.
        margin: a number; or [B], where the rows are all there are.
    """
    rows = sums.row_sum.log() + sums.row_max - (sums.own - gamma * margin)
    columns = sums.column_sum.log() + sums.column_max - (own - gamma * margin)
    row_pull, column_pull = rows.sigmoid(), columns.sigmoid()
    return Anchors((rows, columns), row_pull / sums.row_sum, column_pull / sums.column_sum, row_pull, column_pull)


def total(anchor: Anchors, gamma: float, columns: slice) -> Tensor:
    """Return the losses of the texts and of the videos in `columns`, summed."""
    x_rows, x_columns = anchor.x
    return -(logsigmoid(-x_rows).sum() + logsigmoid(-x_columns[columns]).sum()) / gamma  # softplus cuts off at 20


def write_gradient(
    out: Tensor,
    sums: Sums,
    anchor: Anchors,
    scores: Tensor,
    gamma: float,
    rows: slice,
    first: int,
    positives: Tensor | None,
) -> None:
    """Write the gradient of the summed loss on a block of scores: the second pass. `out` may be `scores` itself.

    Args:
        out: [c, B].
        sums, anchor: of all rows.
        scores, gamma, rows, first, positives: as for `collect`.
    """
    for piece in pieces(scores):
        at = slice(rows.start + piece.start, rows.start + piece.stop)
        masked = None if positives is None else positives[at]
        logits, _ = _logits(scores[piece], gamma, first + at.start, masked)
        along_rows, along_columns = _exponentials(logits, sums.row_max[at], sums.column_max)
        along_rows.mul_(anchor.row_factor[at].unsqueeze(1))
        torch.addcmul(along_rows, along_columns, anchor.column_factor, out=out[piece])
        pull = anchor.row_pull[at] + anchor.column_pull[first + at.start : first + at.stop]
        out[piece].diagonal(first + at.start).copy_(-pull)


def at_once(
    scores: Tensor, gamma: float, margin: float | Tensor, positives: Tensor | None, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the summed loss of scores [B, B], and if wanted its gradient: for small B.

    A small batch's time goes to the number of operations, and this has the fewest: `1/gamma log(1 + sum_j exp(z_ij -
    z_ii + gamma m))` is the cross entropy over gamma of logits whose diagonal is `z_ii - gamma m`. An anchor's loss is
    then only as exact as the rounding of its logits over gamma; the two passes keep more digits of losses near 0.
    """
    logits = scores * gamma
    own = logits.diagonal()
    if positives is not None:
        kept = own.clone()
        logits.masked_fill_(positives, -torch.inf)
        own.copy_(kept)
    own.sub_(gamma * margin)
    along_rows, along_columns = logits.log_softmax(dim=1), logits.log_softmax(dim=0)
    summed = (along_rows.diagonal().sum() + along_columns.diagonal().sum()) / -gamma
    if not wanted:
        return summed, None
    gradient = along_rows.exp_().add_(along_columns.exp_())
    gradient.diagonal().sub_(2)
    return summed, gradient


def piece_by_piece(
    scores: Tensor, gamma: float, margin: float | Tensor, positives: Tensor | None, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Return what `at_once` does, with no more memory than the gradient's: for large B."""
    size = len(scores)
    rows = slice(0, size)
    sums = Sums.empty(size, size, scores)
    collect(sums, scores, gamma, rows, 0, positives)
    anchor = anchors(sums, sums.own, gamma, margin)
    if not wanted:
        return total(anchor, gamma, rows), None
    gradient = torch.empty_like(scores, memory_format=torch.contiguous_format)
    write_gradient(gradient, sums, anchor, scores, gamma, rows, 0, positives)
    return total(anchor, gamma, rows), gradient


def is_small(scores: Tensor) -> bool:
    """Return whether scores are worked on as one piece."""
    return bool(next(pieces(scores)).stop >= len(scores))
