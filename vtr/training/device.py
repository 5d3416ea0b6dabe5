"""The device that a model is trained on."""

from __future__ import annotations

import os

import torch
from torch import nn

from vtr.errors import ConfigError, UnavailableError
from vtr.models.base import RetrievalModel
from vtr.models.transformer import Block


def choose_device(name: str) -> torch.device:
    """Return the device: "auto" takes a GPU when there is one.

    Raises:
        UnavailableError: "cuda" was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UnavailableError(
            "--device cuda: torch finds no GPU. Run `vtr doctor` to see which torch is installed, or use --device cpu."
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())  # by its number: other threads have a current one apart


def enter(device: torch.device) -> None:
    """Make a GPU the current one of the thread that calls this: each thread has its own."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def compile_transformers(model: RetrievalModel) -> None:
    """Compile a model's transformer blocks and its text encoder in place, for batches of any size.

    Raises:
        ConfigError: it has none.
    """
    parts: list[nn.Module] = [module for module in model.modules() if isinstance(module, Block)]
    parts += [] if model.text_encoder is None else [model.text_encoder]
    if not parts:
        raise ConfigError("compile is true, and the model has no transformer to compile. Use --set compile=false.")
    for part in parts:
        part.compile(dynamic=True)


def set_determinism(wanted: bool, device: torch.device) -> None:
    """Have a GPU use only kernels that give the same bits each time, where torch has them, or any."""
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which cuBLAS refuses to be deterministic
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    for enable in (
        torch.backends.cuda.enable_flash_sdp,
        torch.backends.cuda.enable_mem_efficient_sdp,
        torch.backends.cuda.enable_cudnn_sdp,
    ):
        enable(not wanted)  # the gradients of fused attention are summed in any order
