"""Batch norm over the rows of several processes, so that a batch they share is normalised as one process would."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup


class BatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d`, over the rows of all processes of `group` once that is set.

    Attributes:
        group: the processes; None normalises over this process's rows.
    """

    group: ProcessGroup | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Return [B, F] of [B, F]."""
        if self.group is None or not self.training:
            return super().forward(input)
        normed, mean, variance = normalise(input, self.weight, self.bias, self.eps, self.group)
        self.follow(mean, variance)
        return normed

    @torch.no_grad()
    def follow(self, means: Tensor, variances: Tensor) -> None:
        """Update the running statistics as a batch would, or P batches in a row.

        Args:
            means, variances: [F] or [P, F], the variances unbiased.
        """
        assert self.momentum is not None and self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        count = 1 if means.dim() == 1 else len(means)
        steps = torch.arange(count, -1, -1, device=self.running_mean.device, dtype=self.running_mean.dtype)
        keep = (1 - self.momentum) ** steps
        for running, found in ((self.running_mean, means), (self.running_var, variances)):
            found = found.detach().to(running.dtype).reshape(count, -1)
            running.mul_(keep[0]).add_(self.momentum * (keep[1:, None] * found).sum(dim=0))
        self.num_batches_tracked += count


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, group: ProcessGroup
) -> tuple[Tensor, Tensor, Tensor]:
    """Return [b, F] normalised over the rows of all processes, and the mean and unbiased variance [F] of all rows.

    The gradient is that of one process with all rows: what other processes' rows owe to this one's is summed.

    Args:
        x: [b, F], this process's rows; b may differ between processes, and be 0.
        weight, bias: [F].
        eps: added to the variance.
        group: the processes.
    """
    values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    count = _summed(values.new_tensor([float(len(values))]), group).detach().clamp_min(1)
    mean = _summed(values.sum(dim=0), group) / count
    centred = values - mean
    variance = _summed(centred.square().sum(dim=0), group) / count
    normed = centred * (variance + eps).rsqrt() * weight + bias
    return normed.to(x.dtype), mean, variance * (count / (count - 1).clamp_min(1))


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group  # type: ignore[attr-defined]
        total = x.detach().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad_output: Tensor) -> tuple[Tensor, None]:
        total = grad_output.contiguous().clone()
        dist.all_reduce(total, group=ctx.group)  # type: ignore[attr-defined]
        return total, None


def _summed(x: Tensor, group: ProcessGroup) -> Tensor:
    """Return the sum over processes; its gradient, too, is the sum of what each process's part of the loss gives."""
    total: Tensor = _Sum.apply(x, group)  # type: ignore[no-untyped-call]
    return total


def share_norms(model: nn.Module, group: ProcessGroup | None) -> None:
    """Have every batch norm of a model normalise over the rows of all processes of a group."""
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.group = group
