"""Arrays held on a device, and rows taken of them there: only the places of the rows are sent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROWS_AT_ONCE = 1 << 14
"""Rows that are read and sent at once when an array is put on a device."""


def send(array: NDArray[np.int64], device: torch.device) -> Tensor:
    """Return a small array on a device. A GPU is sent it from pinned memory, and not waited for."""
    there = torch.from_numpy(array)
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there.to(device)


def send_together(arrays: Sequence[NDArray[np.int64]], device: torch.device) -> list[Tensor]:
    """Return some small arrays on a device, sent as one."""
    sent = send(np.concatenate([array.ravel() for array in arrays]), device)
    parts = torch.split(sent, [array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def put(array: NDArray[np.generic], device: torch.device, rows: NDArray[np.int64] | None = None) -> Tensor:
    """Return a copy of an array on a device, in the same precision, some rows after the others.

    Args:
        array: [N, ...], perhaps mapped from disk.
        device: where to.
        rows: [M] places in `array`; None for all of it.
    """
    count = len(array) if rows is None else len(rows)
    first = torch.from_numpy(np.zeros(1, array.dtype))
    held = torch.empty((count, *array.shape[1:]), dtype=first.dtype, device=device)
    for at in range(0, count, ROWS_AT_ONCE):
        some = slice(at, at + ROWS_AT_ONCE)
        held[some] = torch.from_numpy(np.array(array[some] if rows is None else array[rows[some]]))
    return held


def take(held: Tensor, places: Tensor, fill: float) -> Tensor:
    """Return the rows of an array at some places, floats in float32.

    Args:
        held: [N, ...]; N may be 0 where all places are -1.
        places: any shape, int64; -1 takes nothing.
        fill: stands where nothing was taken.
    """
    dtype = torch.float32 if held.is_floating_point() else held.dtype
    shape = (*places.shape, *held.shape[1:])
    if not len(held):
        return held.new_full(shape, fill, dtype=dtype)
    taken = held.index_select(0, places.clamp_min(0).flatten()).view(shape).to(dtype)
    absent = (places < 0).view(*places.shape, *[1] * (held.ndim - 1))
    return taken.masked_fill_(absent, fill)
