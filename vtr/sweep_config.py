"""The configuration of `vtr sweep`: which runs an experiment is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from vtr.config import TrainConfig, build, load
from vtr.config_base import Config
from vtr.config_files import config_path
from vtr.errors import ConfigError

Value = bool | int | float | str | None


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("a value occurs twice, each once was expected")
    return values


Values = Annotated[tuple[Value, ...], Field(min_length=1, strict=False), AfterValidator(_distinct)]
Seeds = Annotated[tuple[int, ...], Field(min_length=1, strict=False), AfterValidator(_distinct)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+=-]*$")]
"""A name that can be a folder."""


class VariantConfig(Config):
    """One line of the table: what it changes of the training config."""

    set: dict[str, Any] = Field(default={})
    """Full keys -> values, as `vtr train --set` takes them: {loss.name: triplet_hn}."""

    search: dict[str, Values] = Field(default={})
    """Full keys -> values to choose from: every combination is trained once, the best validation RSUM is chosen."""


class ReportConfig(Config):
    """What the runs are evaluated on once they are trained."""

    split: str | None = None
    """A split of the workspace; None for the split each run is trained on."""

    part: Literal["validation", "test"] = "test"


class SweepConfig(Config):
    """`vtr sweep`: variants x seeds, everything else equal."""

    train: str | dict[str, Any]
    """The training config that the variants change: a YAML file, its path seen from this file or else from the current
    folder; the name of one that comes along; or the settings themselves."""

    set: dict[str, Any] = Field(default={})
    """Full keys -> values, changed for all: {split: clips-holdout}."""

    seeds: Seeds = (0, 1, 2)
    """Each variant is trained with each of these seeds."""

    baseline: str
    """The variant that the others are compared with."""

    variants: dict[Name, VariantConfig] = Field(default={})
    """Name -> what it changes."""

    grid: dict[str, Values] = Field(default={})
    """Full keys -> values: every combination is a variant, or one of each of `variants`."""

    leave_out: Literal["experts"] | None = None
    """experts: with all experts, and without each in turn; likewise."""

    search_seed: int = 0
    """The seed of the runs that `search` chooses by."""

    report: ReportConfig = ReportConfig()


def load_sweep(path: Path) -> tuple[SweepConfig, TrainConfig]:
    """Read a sweep's configuration, and the training config it starts from.

    Raises:
        InputError: a file is missing or not YAML.
        ConfigError: an unknown key (with the nearest valid one), a wrong type, or nothing to compare.
    """
    config = load(SweepConfig, path)
    if not (config.variants or config.grid or config.leave_out):
        raise ConfigError(f"{path} names nothing to compare: give variants, grid or leave_out.")
    if isinstance(config.train, dict):
        base = build(TrainConfig, config.train, f"{path}: train")
    else:
        beside = path.parent / config.train
        base = load(TrainConfig, beside if beside.exists() else config_path(config.train, "train"))
    return config, changed(base, config.set, str(path))


def changed(base: TrainConfig, changes: Mapping[str, Any], source: str) -> TrainConfig:
    """Return a training config with some values changed.

    Args:
        base: the config.
        changes: full key -> value.
        source: where these come from, for the message.

    Raises:
        ConfigError: a key is unknown (with the nearest valid one) or a value of the wrong type.
    """
    try:
        return load(TrainConfig, None, [f"{key}={json.dumps(value)}" for key, value in changes.items()], base)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
