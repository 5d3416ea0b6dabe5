"""Models on disk: model.safetensors and model.json. Nothing in them can be executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vtr import __version__
from vtr.config import TrainConfig, build
from vtr.errors import InputError, VtrError, WorkspaceError
from vtr.files import cannot_write, read_json, write_json
from vtr.models import MMT, Fitted, MoEE, RetrievalModel, assemble
from vtr.models.encoder import encoder_from_config
from vtr.workspace import FORMAT

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


@dataclass(frozen=True, slots=True)
class Description:
    """What is needed to build a model again, besides its config.

    Attributes:
        expert_dims, text_dim: see `RetrievalModel`.
        expert_ids: see `MMT`; None for other models.
        text_encoder: the `transformers` configuration of an encoder trained with the model, None without one.
        fitted: see `MoEE`; None for other models.
    """

    expert_dims: dict[str, int]
    expert_ids: dict[str, int] | None
    text_dim: int
    text_encoder: dict[str, Any] | None
    fitted: dict[str, int] | None = None


def save_model(folder: Path, model: RetrievalModel, config: TrainConfig) -> None:
    """Write a model into a folder, which should be a temporary one (`vtr.files.atomic_directory`).

    Raises:
        WorkspaceError: the folder cannot be written or the disk is full.
    """
    encoder = model.text_encoder
    encoder_config = None if encoder is None else encoder.config.to_diff_dict()  # type: ignore[union-attr, operator]
    expert_ids = dict(model.expert_ids) if isinstance(model, MMT) else None
    fitted = asdict(model.fitted) if isinstance(model, MoEE) else None
    description = Description(dict(model.expert_dims), expert_ids, model.text_dim, encoder_config, fitted)
    save_tensors(folder / WEIGHTS, model.state_dict())
    content = {"format": FORMAT, "vtr": __version__, "config": config.model_dump(mode="json")}
    write_json(folder / DESCRIPTION, content | {"model": asdict(description)})


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file.

    Raises:
        WorkspaceError: it cannot be written or the disk is full. (safetensors' own writer hides the system's error.)
    """
    content = save({name: value.detach().contiguous() for name, value in tensors.items()})
    try:
        path.write_bytes(content)
    except OSError as error:
        raise WorkspaceError(cannot_write(path, error)) from error


def load_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        WorkspaceError: it is missing or damaged.
    """
    try:
        return load_file(path, device=str(device))
    except (OSError, SafetensorError) as error:
        raise WorkspaceError(f"{path} is missing or damaged ({error}). Train again.") from error


def load_model(folder: Path, device: torch.device | str = "cpu") -> tuple[RetrievalModel, TrainConfig]:
    """Return a saved model in evaluation mode, and the config it was trained with.

    Raises:
        WorkspaceError: there is none, it is damaged, its weights are not its model's, or a newer vtr saved it.
    """
    path = folder / DESCRIPTION
    if not path.exists():
        raise WorkspaceError(f"{folder} holds no model. Run `vtr train WS --config CONFIG --out RUN` first.")
    model, config = _describe(path)
    _fill(model, folder / WEIGHTS)
    return model.to(device).eval(), config


def _describe(path: Path) -> tuple[RetrievalModel, TrainConfig]:
    """Return a model with random weights as a description asks for, and its config."""
    try:
        content = read_json(path)
        if content["format"] > FORMAT:
            raise WorkspaceError(
                f"{path} was saved by vtr {content.get('vtr', 'of unknown version')} in format {content['format']}; "
                f"this is vtr {__version__}, which reads formats up to {FORMAT}. Install the newer vtr."
            )
        config = build(TrainConfig, content["config"], source=str(path))
        described = Description(**content["model"])
        encoder = None if described.text_encoder is None else encoder_from_config(described.text_encoder)
        model = assemble(
            config.model,
            described.expert_dims,
            described.text_dim,
            encoder,
            described.expert_ids,
            Fitted(**(described.fitted or {})),
        )
    except InputError as error:
        raise WorkspaceError(f"{error} Or train again.") from error
    except VtrError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise WorkspaceError(
            f"{path} does not describe a model ({type(error).__name__}: {error}). Train again."
        ) from error
    return model, config


def _fill(model: RetrievalModel, path: Path) -> None:
    stored, expected = load_tensors(path), model.state_dict()
    problems = [f"{name} is missing" for name in expected.keys() - stored.keys()]
    problems += [f"{name} is not the model's" for name in stored.keys() - expected.keys()]
    problems += [
        f"{name} is {list(stored[name].shape)}, {list(expected[name].shape)} expected"
        for name in expected.keys() & stored.keys()
        if stored[name].shape != expected[name].shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:3])
        raise WorkspaceError(
            f"{path} does not fit {path.with_name(DESCRIPTION)}: {shown} ({len(problems)} in all). Train again."
        )
    model.load_state_dict(stored)
