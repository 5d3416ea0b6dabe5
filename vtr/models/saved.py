"""Models on disk: model.safetensors and model.json. Nothing in them can be executed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vtr.config import TrainConfig, build
from vtr.errors import WorkspaceError
from vtr.files import read_json, write_json
from vtr.models.mmt import MMT
from vtr.models.text import encoder_from_config
from vtr.workspace import FORMAT

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


@dataclass(frozen=True, slots=True)
class Description:
    """What is needed to build a model again, besides its config."""

    expert_dims: dict[str, int]
    expert_ids: dict[str, int]
    text_dim: int
    text_encoder: dict[str, Any] | None


def save_model(folder: Path, model: MMT, config: TrainConfig) -> None:
    """Write a model into a folder, which should be a temporary one (`vtr.files.atomic_directory`)."""
    encoder = model.text_encoder
    encoder_config = None if encoder is None else encoder.config.to_diff_dict()  # type: ignore[union-attr, operator]
    description = Description(dict(model.expert_dims), dict(model.expert_ids), model.text_dim, encoder_config)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)
    content = {"format": FORMAT, "config": config.model_dump(mode="json"), "model": asdict(description)}
    write_json(folder / DESCRIPTION, content)


def load_model(folder: Path, device: torch.device | str = "cpu") -> tuple[MMT, TrainConfig]:
    """Return a saved model in evaluation mode, and the config it was trained with.

    Raises:
        WorkspaceError: there is none, it is damaged, or a newer vtr saved it.
    """
    if not (folder / DESCRIPTION).exists():
        raise WorkspaceError(f"{folder} holds no model. Run `vtr train WS --config CONFIG --out RUN` first.")
    content = read_json(folder / DESCRIPTION)
    if content["format"] > FORMAT:
        raise WorkspaceError(
            f"{folder} was saved in format {content['format']}, this vtr reads up to {FORMAT}. Update vtr."
        )
    config = build(TrainConfig, content["config"], source=str(folder / DESCRIPTION))
    description = Description(**content["model"])
    encoder = None if description.text_encoder is None else encoder_from_config(description.text_encoder)
    model = MMT(config.model, description.expert_dims, description.text_dim, encoder, description.expert_ids)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WorkspaceError(f"{folder / WEIGHTS} is damaged or not this model's ({error}). Train again.") from error
    return model.to(device).eval(), config
