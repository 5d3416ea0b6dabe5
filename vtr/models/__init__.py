"""Models: batches to embeddings. They know nothing of devices, files or losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from vtr.config import TrainConfig
from vtr.models.encoder import load_encoder, state_dim
from vtr.models.mmt import MMT

__all__ = ["MMT", "build_model"]


def build_model(config: TrainConfig, expert_dims: Mapping[str, int]) -> MMT:
    """Return a new model, its weights drawn from `config.seed`; a fine-tuned text encoder starts pretrained.

    Args:
        config: the run's configuration.
        expert_dims: expert -> length of its features.

    Raises:
        ConfigError: sizes that exclude each other, or no experts.
        UnavailableError: the text model cannot be loaded.
    """
    torch.manual_seed(config.seed)
    encoder = load_encoder(config.text.model) if config.text.mode == "fine_tuned" else None
    torch.manual_seed(config.seed)  # again, so that what the encoder may have drawn changes nothing
    return MMT(config.model, expert_dims, state_dim(config.text.model), encoder)
