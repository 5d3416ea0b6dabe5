"""Models: batches to embeddings. They know nothing of devices, files or losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from vtr.config import TrainConfig
from vtr.models.mmt import MMT
from vtr.models.text import load_encoder

__all__ = ["MMT", "build_model"]


def build_model(config: TrainConfig, expert_dims: Mapping[str, int]) -> MMT:
    """Return a new model, its weights drawn from `config.seed`; a fine-tuned text encoder starts pretrained.

    Args:
        config: the run's configuration.
        expert_dims: expert -> length of its features.

    Raises:
        UnavailableError: the text model cannot be loaded.
    """
    encoder = load_encoder(config.text.model)
    text_dim = int(encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
    torch.manual_seed(config.seed)
    return MMT(config.model, expert_dims, text_dim, encoder if config.text.mode == "fine_tuned" else None)
