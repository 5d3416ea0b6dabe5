"""Models: batches to embeddings. They know nothing of devices, files or losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from vtr.config import TrainConfig
from vtr.errors import ConfigError
from vtr.model_config import CEConfig, ModelConfig, MoEEConfig, ZeroShotConfig
from vtr.models.base import RetrievalModel
from vtr.models.ce import CE
from vtr.models.encoder import load_encoder
from vtr.models.mmt import MMT
from vtr.models.moee import Fitted, MoEE
from vtr.models.text import TextInput
from vtr.models.zero_shot import ZeroShot, ZeroShotTexts

__all__ = [
    "CE",
    "MMT",
    "Fitted",
    "MoEE",
    "RetrievalModel",
    "ZeroShot",
    "assemble",
    "build_model",
    "check_text_mode",
    "text_input",
]


def assemble(
    config: ModelConfig,
    expert_dims: Mapping[str, int],
    text_dim: int,
    text_encoder: nn.Module | None = None,
    expert_ids: Mapping[str, int] | None = None,
    fitted: Fitted | None = None,
) -> RetrievalModel:
    """Return the model that a `model` section names, with weights drawn at random.

    Args:
        config: the section.
        expert_dims, text_dim, text_encoder: see `RetrievalModel`.
        expert_ids: see `MMT`.
        fitted: see `MoEE`.

    Raises:
        ConfigError: sizes that exclude each other, or no experts.
    """
    if isinstance(config, CEConfig):
        return CE(config, expert_dims, text_dim)
    if isinstance(config, MoEEConfig):
        return MoEE(config, expert_dims, text_dim, text_encoder, fitted)
    if isinstance(config, ZeroShotConfig):
        return ZeroShot(config, expert_dims, text_dim)
    return MMT(config, expert_dims, text_dim, text_encoder, expert_ids)


def text_input(config: TrainConfig) -> TextInput:
    """Return what makes batches of texts for the model that a configuration names.

    Raises:
        UnavailableError: a text model cannot be loaded.
    """
    return ZeroShotTexts(config.model) if isinstance(config.model, ZeroShotConfig) else TextInput(config.text)


def build_model(config: TrainConfig, expert_dims: Mapping[str, int], text_dim: int) -> RetrievalModel:
    """Return a new model, its weights drawn from `config.seed`; a fine-tuned text encoder starts pretrained.

    Args:
        config: the run's configuration.
        expert_dims: expert -> length of its features.
        text_dim: H, length of a text state.

    Raises:
        ConfigError: settings that exclude each other, or no experts.
        UnavailableError: the text model cannot be loaded.
    """
    check_text_mode(config)
    torch.manual_seed(config.seed)  # for weights that an encoder's files lack
    encoder = load_encoder(config.text.model) if config.text.mode == "fine_tuned" else None
    torch.manual_seed(config.seed)  # again, so that what the encoder may have drawn changes nothing
    return assemble(config.model, expert_dims, text_dim, encoder)


def check_text_mode(config: TrainConfig) -> None:
    """Check that the texts come as the model takes them.

    Raises:
        ConfigError: they do not.
    """
    if isinstance(config.model, ZeroShotConfig):
        raise ConfigError(
            "model.name is zero_shot, which is not trained. Use `vtr ingest RUN FOLDER --model clip`, or set "
            "model.name to mmt, ce or moee."
        )
    modes, mode, features = config.model.text_modes, config.text.mode, config.text.features
    if mode not in modes:
        raise ConfigError(
            f"text.mode is {mode} and model.name is {config.model.name}, which takes {' or '.join(modes)}. Use --set "
            f"text.mode={modes[0]}."
        )
    if isinstance(config.model, MoEEConfig) and mode != "frozen":
        for name in ("caption_regression", "hub_correction"):
            if getattr(config.model, name) is not None:
                raise ConfigError(
                    f"model.{name} is set and text.mode is {mode}: it needs captions' states before training. Use "
                    f"--set text.mode=frozen or --set model.{name}=null."
                )
    if features is not None and mode != "frozen_tokens":
        raise ConfigError(
            f"text.features is {features}, which are token states, and text.mode is {mode}: frozen_tokens was "
            "expected. Use --set text.features=null."
        )
