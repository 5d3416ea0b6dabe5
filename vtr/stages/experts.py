"""The experts that a config can name, with what each needs and whether it is here. Needs none of their packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vtr.expert_line import Expert
from vtr.experts import EXPERTS, find_expert
from vtr.extract_config import ExpertConfig
from vtr.packaged import has_module

HEAD = ("name", "modality", "dim", "window", "device", "weights", "state")


def experts(settings: Mapping[str, ExpertConfig] | None = None) -> str:
    """Return the table, two lines an expert.

    The first says what it is and needs, the second what its weights were trained on and which settings of its own it
    takes.

    Args:
        settings: `ExtractConfig.settings`; experts that it makes with a `kind` are listed too.

    Raises:
        ConfigError: the settings name an expert that does not exist.
    """
    settings = settings or {}
    lines_of_own = [find_expert(name, settings) for name in settings if name not in EXPERTS]
    models = {name: own.model for name, own in settings.items() if own.model}
    listed = [replace(line, model=models.get(line.name, line.model)) for line in (*EXPERTS.values(), *lines_of_own)]
    rows = [HEAD, *(_row(expert) for expert in listed)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = ["", *(_note(expert) for expert in listed)]
    parts = [line for pair in zip(lines, notes, strict=True) for line in pair if line]
    return "\n".join(["Experts for `vtr extract` (`--set settings.NAME.SETTING=...` is for one of them).", "", *parts])


def _row(expert: Expert) -> tuple[str, ...]:
    missing = [package for package in expert.packages if not has_module(package)]
    state = f"lacks {', '.join(missing)}" if missing else "installed"
    if not missing and expert.needs != "packaged" and expert.model is None:
        state = f"needs settings.{expert.name}.model"
    elif not missing and expert.needs.startswith("hub"):
        state = "fetched from the hub at first use"
    return (expert.name, expert.modality, expert.dim, expert.window, expert.device, expert.needs, state)


def _note(expert: Expert) -> str:
    model = f"{expert.model}; " if expert.model else ""
    settings = ", ".join(expert.takes) or "none"
    return (
        f"    {expert.summary}; {model}trained on: {expert.pretrained_on}; licence: {expert.licence}; "
        f"settings: {settings}"
    )
