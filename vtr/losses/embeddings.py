"""The unified loss straight from embeddings: never more than a chunk of the scores, and over several processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from vtr.losses import two_way
from vtr.losses.distributed import all_rows, row_counts
from vtr.losses.scores import Reduction, check_gamma, check_positives
from vtr.similarity import flat_scores, flat_texts, flat_videos
from vtr.types import TextEmbeddings, VideoEmbeddings

DEFAULT_BLOCK_ELEMENTS = 2**24
"""Without a chunk size, about this many scores are held at once: 64 MiB in float32, all of them up to B = 4096."""


def unified_loss_from_embeddings(
    text: Tensor | TextEmbeddings,
    video: Tensor | VideoEmbeddings,
    margin: float = 0.2,
    gamma: float = 50.0,
    reduction: Reduction = "sum",
    *,
    chunk_size: int | None = None,
    positives: Tensor | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    """Return `unified_loss` of the scores of texts and videos, exact, without ever holding all of the scores.

    The scores are computed in float32 (float64 for float64 embeddings), also under autocast, `chunk_size` rows at a
    time: once for the sums over negatives and once more for the gradient, which is computed with the loss. The
    backward pass only scales it, and cannot be differentiated again.

    With a `group`, each process gives its own b pairs; negatives come from all of them. Every process gets the loss of
    the whole batch, and for its own embeddings the gradient a single process with the whole batch would give them: no
    factor of the number of processes. (DistributedDataParallel averages the parameters' gradients over processes:
    there, multiply the loss by their number.)

    Args:
        text: [b, D], or the texts' embeddings per expert for the mixture score of `vtr.similarity`.
        video: [b, D] or embeddings, matching `text` row by row. With tensors, the score is the inner product.
        margin: m, how much a positive should beat each negative by.
        gamma: the scale, > 0.
        reduction: "sum" over anchors (the paper's), or "mean" (divided by B, over all processes).
        chunk_size: rows of scores held at once, >= 1; by default about `DEFAULT_BLOCK_ELEMENTS` scores.
        positives: bool [b, B], True where a text is known to describe a video: no negative. B is b, or with a group the
            sum over processes, in the order of ranks.
        group: the processes that share the batch, for example `torch.distributed.group.WORLD`.

    Raises:
        ValueError: texts and videos do not match, there are none, or an argument is out of its range.
        RuntimeError: in the backward pass, where its gradient is to be differentiated again.
    """
    check_gamma(gamma)
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction is {reduction!r}, 'sum' or 'mean' expected")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}, a number of rows >= 1 expected")
    texts, videos, weights, present = _flat(text, video)
    if not torch.is_grad_enabled():  # or their gradients would be computed for nothing
        texts, videos, weights = texts.detach(), videos.detach(), None if weights is None else weights.detach()
    settings = _Settings(margin, gamma, reduction == "mean", chunk_size, positives, group)
    loss: Tensor = _FromEmbeddings.apply(texts, videos, weights, present, settings)  # type: ignore[no-untyped-call]
    return loss


def _flat(
    text: Tensor | TextEmbeddings, video: Tensor | VideoEmbeddings
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return texts [b, K], videos [b, K], and mixture weights and presence [b, E] where they have experts."""
    if isinstance(text, TextEmbeddings) and isinstance(video, VideoEmbeddings):
        if text.vectors.shape != video.vectors.shape:
            raise ValueError(
                f"text vectors {tuple(text.vectors.shape)}, video vectors {tuple(video.vectors.shape)}: "
                "both [B, E, D] expected"
            )
        return flat_texts(text), flat_videos(video), text.weights, video.present
    if isinstance(text, Tensor) and isinstance(video, Tensor):
        if text.ndim != 2 or text.shape != video.shape:
            raise ValueError(f"texts {tuple(text.shape)} and videos {tuple(video.shape)}: both [B, D] expected")
        return text, video, None, None
    raise ValueError(f"texts are {type(text).__name__}, videos {type(video).__name__}: two tensors or two embeddings")


@dataclass(frozen=True)
class _Settings:
    margin: float
    gamma: float
    mean: bool
    chunk_size: int | None
    positives: Tensor | None
    group: ProcessGroup | None


@dataclass(frozen=True)
class _Whole:
    """All B videos, and where this process's b rows are among them.

    Attributes:
        videos, present: [B, K] and [B, E] of all processes.
        mine: this process's rows.
    """

    videos: Tensor
    present: Tensor | None
    mine: slice


def _gather(videos: Tensor, present: Tensor | None, group: ProcessGroup | None) -> _Whole:
    if group is None:
        return _Whole(videos, present, slice(0, len(videos)))
    counts = row_counts(len(videos), group, videos.device)
    first = sum(counts[: dist.get_rank(group)])
    whole_present = None if present is None else all_rows(present, counts, group)
    return _Whole(all_rows(videos, counts, group), whole_present, slice(first, first + len(videos)))


class _FromEmbeddings(torch.autograd.Function):
    """The loss. The gradients are computed with it, process by process and chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, texts: Tensor, videos: Tensor, weights: Tensor | None, present: Tensor | None, settings: _Settings
    ) -> Tensor:
        needed = ctx.needs_input_grad[:3]
        kind = torch.float64 if texts.dtype == torch.float64 else torch.float32
        with torch.autocast(texts.device.type, enabled=False):
            total, size, gradients = _loss_and_gradients(
                texts.detach().to(kind),
                videos.detach().to(kind),
                None if weights is None else weights.detach().to(kind),
                None if present is None else present.to(kind),
                settings,
                any(needed),
            )
        if gradients is not None:
            kept = [g.to(x.dtype) for g, x in zip(gradients, (texts, videos, weights), strict=True) if x is not None]
            ctx.save_for_backward(*kept)
        ctx.scale = 1 / size if settings.mean else 1.0
        return total / size if settings.mean else total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # autograd would take it for a constant
            raise RuntimeError(
                "the gradient of a loss from embeddings cannot be differentiated again (create_graph=True); "
                "compute the scores and use unified_loss"
            )
        found = [g * (grad_output * ctx.scale) for g in ctx.saved_tensors]
        return *found, *[None] * (5 - len(found))


def _loss_and_gradients(
    texts: Tensor,
    videos: Tensor,
    weights: Tensor | None,
    present: Tensor | None,
    settings: _Settings,
    wanted: bool,
) -> tuple[Tensor, int, tuple[Tensor, Tensor, Tensor] | None]:
    """Return the summed loss of all B pairs, B, and if wanted the gradients of texts, videos and mixture weights."""
    gamma, group = settings.gamma, settings.group
    whole = _gather(videos, present, group)
    size, first = len(whole.videos), whole.mine.start
    if not size:
        raise ValueError("there are no texts and videos, one pair at least expected")
    if settings.positives is not None:
        check_positives(settings.positives, (len(texts), size))
    sums = two_way.Sums.empty(len(texts), size, texts)
    chunks = list(_chunks(len(texts), size, settings.chunk_size))
    only = None
    for rows in chunks:
        scores = _scores(texts[rows], whole.videos, None if weights is None else weights[rows], whole.present)
        two_way.collect(sums, scores, gamma, rows, first, settings.positives)
        if len(chunks) == 1 and weights is None:
            only = scores
        del scores  # before the next block is made
    own = _combine(sums, whole, group)
    anchors = two_way.anchors(sums, own, gamma, settings.margin)
    total = two_way.total(anchors, gamma, whole.mine)
    if group is not None:
        dist.all_reduce(total, group=group)
    if not wanted:
        return total, size, None
    return total, size, _gradients(texts, weights, whole, settings, sums, anchors, chunks, only)


def _chunks(rows: int, columns: int, chunk_size: int | None) -> Iterator[slice]:
    step = chunk_size or max(1, DEFAULT_BLOCK_ELEMENTS // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _scores(texts: Tensor, videos: Tensor, weights: Tensor | None, present: Tensor | None) -> Tensor:
    """Return scores [c, B] of some texts with all videos."""
    return texts @ videos.T if weights is None or present is None else flat_scores(texts, videos, weights, present)


def _combine(sums: two_way.Sums, whole: _Whole, group: ProcessGroup | None) -> Tensor:
    """Make the column sums those of all processes' rows, and return the positives' logits [B] of all columns."""
    if group is None:
        return sums.own
    largest = sums.column_max.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=group)
    sums.column_sum *= (sums.column_max - largest).exp_()
    dist.all_reduce(sums.column_sum, group=group)
    sums.column_max = largest
    own = sums.own.new_zeros(len(whole.videos))
    own[whole.mine] = sums.own
    dist.all_reduce(own, group=group)
    return own


def _gradients(
    texts: Tensor,
    weights: Tensor | None,
    whole: _Whole,
    settings: _Settings,
    sums: two_way.Sums,
    anchors: two_way.Anchors,
    chunks: list[slice],
    only: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of this process's texts, videos and mixture weights (of no use where there are none).

    Args:
        only: the scores, where all were computed at once and autograd is not needed; overwritten.
    """
    of_texts, of_videos = torch.empty_like(texts), torch.zeros_like(whole.videos)
    of_weights = torch.empty_like(texts[:, :0] if weights is None else weights)
    for rows in chunks:
        if weights is None:
            scores = _scores(texts[rows], whole.videos, None, None) if only is None else only
        else:  # the mixture score has one definition, whose gradient autograd knows
            some_texts, all_videos, some_weights = leaves = [
                x.detach().requires_grad_() for x in (texts[rows], whole.videos, weights[rows])
            ]
            with torch.enable_grad():
                scores = _scores(some_texts, all_videos, some_weights, whole.present)
        of_scores = scores.detach()
        two_way.write_gradient(
            of_scores, sums, anchors, of_scores, settings.gamma, rows, whole.mine.start, settings.positives
        )
        if weights is None:
            torch.mm(of_scores, whole.videos, out=of_texts[rows])
            of_videos.addmm_(of_scores.T, texts[rows])
        else:
            of_texts[rows], some, of_weights[rows] = torch.autograd.grad(scores, leaves, of_scores)
            of_videos += some
        del scores, of_scores  # before the next block is made
    if settings.group is not None:
        dist.all_reduce(of_videos, group=settings.group)
    return of_texts, of_videos[whole.mine], of_weights
