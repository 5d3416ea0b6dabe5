"""Rows that live on several processes, for losses over all of them. Uneven numbers of rows are allowed."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup


def row_counts(rows: int, group: ProcessGroup, device: torch.device) -> list[int]:
    """Return how many rows each process of the group holds, in the order of ranks."""
    counts = [torch.zeros((), dtype=torch.int64, device=device) for _ in range(dist.get_world_size(group))]
    dist.all_gather(counts, torch.tensor(rows, dtype=torch.int64, device=device), group=group)
    return [int(count) for count in counts]


def all_rows(x: Tensor, counts: list[int], group: ProcessGroup) -> Tensor:
    """Return the rows of all processes end to end, without a gradient.

    Args:
        x: [b, ...], this process's rows.
        counts: see `row_counts`.
        group: the processes.
    """
    longest = max(counts)
    padded = x.new_zeros((longest, *x.shape[1:]))
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded, group=group)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        counts = row_counts(len(x), group, x.device)
        rank = dist.get_rank(group)
        ctx.mine = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        return all_rows(x.detach(), counts, group)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output[ctx.mine], None


def gather_rows(x: Tensor, group: ProcessGroup) -> Tensor:
    """Return the rows of all processes end to end, for a loss that every process computes of all of them.

    As every process computes the same loss, the gradient of a process's own rows is its part of the whole gradient:
    it is the one a single process with the whole batch would get, with no factor of the number of processes.
    Any loss of `vtr.losses` works over processes this way; `UnifiedLoss.from_embeddings(group=...)` does with
    1/world of the computation.

    Args:
        x: [b, ...], this process's rows; b may differ between processes, the other dimensions not.
        group: the processes, for example `torch.distributed.group.WORLD`.
    """
    gathered: Tensor = _GatherRows.apply(x, group)  # type: ignore[no-untyped-call]
    return gathered
