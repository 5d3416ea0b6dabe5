"""Runs without training: a folder that is searched with pretrained text encoders, made in a moment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtr.config import DataConfig, TextConfig, TrainConfig, dump
from vtr.errors import ConfigError
from vtr.extract_config import ExtractConfig
from vtr.files import atomic_directory, lock, read_json, write_text
from vtr.model_config import ZeroShotConfig
from vtr.models import ZeroShot, text_input
from vtr.models.saved import DESCRIPTION, save_model
from vtr.retrieval.library import SPLIT, LibraryFolder
from vtr.workspace import MANIFEST, Run, Workspace, fingerprint, write_manifest

MOST_FEATURES = 1000
"""Of an expert and a row: a window holds fewer, so that its mean is of all."""


def make_untrained(root: Path, model: ZeroShotConfig, extraction: ExtractConfig) -> Run:
    """Return the run at `root` with this model, made where it is missing. Its workspace is its library's.

    Args:
        root: a new folder, or one that this was begun in before.
        model: experts, text encoders and weights.
        extraction: how videos are read.

    Raises:
        ConfigError: there is a run of another model; or see `ZeroShot`.
        UnavailableError: a text encoder cannot be loaded; nothing has been written then.
        WorkspaceError: the folder holds something else, or cannot be written.
    """
    config = TrainConfig(
        split=SPLIT,
        experts=tuple(sorted(model.texts)),
        model=model,
        text=TextConfig(mode="frozen", model=next(iter(model.texts.values())).model),
        data=DataConfig(max_features=MOST_FEATURES),
    )
    if (root / MANIFEST).exists():
        _check_same(root, config)
        return Run.open(root)
    dims = {name: side.dim for name, side in model.texts.items()}
    made = ZeroShot(model, dims, text_input(config).dim)
    run = Run.create(root, Workspace(LibraryFolder(root / "library").workspace.root))
    with lock(root / ".lock", f"make the run {root}"):
        Workspace.create(run.workspace.root)
        with atomic_directory(run.checkpoints / "best") as temporary:
            save_model(temporary, made, config)
        write_text(run.config, dump(config))
        write_text(run.extraction, dump(extraction))
        settings = config.model_dump(mode="json")
        output = fingerprint([settings, extraction.model_dump(mode="json")])
        write_manifest(root, "train", output=output, inputs={}, config=settings, experts=list(made.experts))
    return Run.open(root)


def _check_same(root: Path, config: TrainConfig) -> None:
    held = read_json(root / "checkpoints" / "best" / DESCRIPTION)["config"]["model"]
    asked = config.model.model_dump(mode="json")
    if held != asked:
        raise ConfigError(
            f"{root} was made with another model: {_told(held)}, and {_told(asked)} was asked for. "
            "Leave out --model and --weights to go on with it, or name a new RUN."
        )


def _told(model: Mapping[str, Any]) -> str:
    """Return a model's settings in words."""
    if "texts" not in model:
        return f"one of the kind {model['name']}, which was trained"
    sides = [f"{name} by {side['model']}" for name, side in sorted(model["texts"].items())]
    weights = ",".join(f"{name}={weight:g}" for name, weight in model["weights"].items())
    return f"{' and '.join(sides)}{f' with the weights {weights}' if weights else ''}"
