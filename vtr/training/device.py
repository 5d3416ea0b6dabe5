"""The device that a model is trained on."""

from __future__ import annotations

import os

import torch

from vtr.errors import UnavailableError


def choose_device(name: str) -> torch.device:
    """Return the device: "auto" takes a GPU when there is one.

    Raises:
        UnavailableError: "cuda" was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UnavailableError(
            "--device cuda: torch finds no GPU. Run `vtr doctor` to see which torch is installed, or use --device cpu."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def set_determinism(wanted: bool, device: torch.device) -> None:
    """Have a GPU use only kernels that give the same bits each time, where torch has them, or any."""
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which cuBLAS refuses to be deterministic
    torch.use_deterministic_algorithms(wanted, warn_only=True)
