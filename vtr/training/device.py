"""The device that a model is trained on."""

from __future__ import annotations

import os

import torch


def set_determinism(wanted: bool, device: torch.device) -> None:
    """Have a GPU use only kernels that give the same bits each time, where torch has them, or any."""
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which cuBLAS refuses to be deterministic
    torch.use_deterministic_algorithms(wanted, warn_only=True)
