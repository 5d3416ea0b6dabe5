"""Which runs there are: what each was trained with, how far it is, and what it has come to."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vtr.config import TrainConfig, load
from vtr.errors import InputError, VtrError, nearest
from vtr.evaluation.formats import csv_rows
from vtr.evaluation.table import Table
from vtr.files import locked_by, read_json
from vtr.training.checkpoint import STATE
from vtr.training.divergence import DIVERGED
from vtr.workspace import MANIFEST, read_manifest

State = Literal["running", "finished", "interrupted", "diverged", "damaged"]


@dataclass(frozen=True)
class RunLine:
    """One run.

    Attributes:
        run: its folder.
        state: "running" while a process trains it; "diverged" where its loss was not finite; "damaged" where its files
            cannot be read.
        written: when it was last trained on, local time to the minute.
        loss, model, split, seed: what it is trained with; None before its config is written.
        epochs, of: finished, and to be finished.
        validation: the best validation RSUM so far; None where there is none yet.
        evaluated: "split-part", with the rules that are not the default -> RSUM of the present model.
    """

    run: str
    state: State
    written: str
    loss: str | None = None
    model: str | None = None
    split: str | None = None
    seed: int | None = None
    epochs: int = 0
    of: int | None = None
    validation: float | None = None
    evaluated: Mapping[str, float] = field(default_factory=dict)


COLUMNS = ("run", "loss", "model", "split", "seed", "epochs", "of", "validation", "state", "written")


@dataclass(frozen=True)
class RunList:
    """Runs, in the order they are shown."""

    lines: tuple[RunLine, ...]

    def __str__(self) -> str:
        heads = ("run", "loss", "model", "split", "seed", "epochs", "validation", *self.parts, "state", "written")
        return str(Table(f"{len(self.lines)} runs; RSUM on validation, and where evaluated", heads, self._rows()))

    @property
    def parts(self) -> list[str]:
        """What the runs were evaluated on."""
        return sorted({part for line in self.lines for part in line.evaluated})

    def _rows(self) -> tuple[tuple[str, ...], ...]:
        return tuple(
            (
                *(_cell(value) for value in (line.run, line.loss, line.model, line.split, line.seed)),
                f"{line.epochs} of {_cell(line.of) or '?'}",
                *(_cell(value) for value in (line.validation, *map(line.evaluated.get, self.parts))),
                line.state,
                line.written,
            )
            for line in self.lines
        )

    def render(self, form: Literal["table", "json", "csv"]) -> str:
        """Return the list as text."""
        if form == "json":
            return json.dumps([asdict(line) for line in self.lines], indent=1, ensure_ascii=False)
        if form == "csv":
            return csv_rows([_csv_row(line) for line in self.lines])
        return str(self)


def list_runs(folders: Sequence[Path], sort: str | None = None) -> RunList:
    """Return the runs at and below some folders.

    Args:
        folders: where to look.
        sort: a column, or a part that was evaluated; figures of RSUM and epochs from high to low, others from low to
            high, what is missing last. By default by folder.

    Raises:
        InputError: a folder does not exist, holds no run, or there is no such column.
    """
    roots = sorted({root.resolve(): root for folder in folders for root in _below(folder)}.values())
    if not roots:
        raise InputError(
            f"there is no run in {', '.join(map(str, folders))}. Name the folders that `vtr train` made, or above."
        )
    found = RunList(tuple(describe(root) for root in roots))
    if sort is None:
        return found
    columns = [*COLUMNS, *found.parts]
    if sort not in columns:
        raise InputError(f"there is no column '{sort}'.{nearest(sort, columns)} Columns: {', '.join(columns)}")
    known = [line for line in found.lines if _value(line, sort) is not None]
    unknown = [line for line in found.lines if _value(line, sort) is None]
    high_first = sort in ("epochs", "validation", *found.parts)
    return RunList((*sorted(known, key=lambda line: _value(line, sort), reverse=high_first), *unknown))


def _below(folder: Path) -> Iterator[Path]:
    """Yield the runs at and below a folder, without looking inside them."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Name the folders that `vtr train` made, or above.")
    for place, folders, files in os.walk(folder):
        if "run.json" in files:
            folders.clear()
            yield Path(place)


def describe(root: Path) -> RunLine:
    """Return what is known of a run; its workspace need not be there, and what is damaged is only said to be so."""
    busy = locked_by(root / ".lock") is not None
    try:
        config = load(TrainConfig, root / "config.yaml") if (root / "config.yaml").exists() else None
        trained = read_manifest(root, "vtr train") if (root / MANIFEST).exists() else {}
        progress = progress_of(root)
        evaluated = _evaluated(root, trained["output"]) if trained else {}
    except VtrError:
        return RunLine(str(root), "running" if busy else "damaged", _last_written(root))
    stopped: State = "diverged" if (root / DIVERGED).exists() else "interrupted"
    line = RunLine(
        str(root),
        "running" if busy else "finished" if trained else stopped,
        _last_written(root),
        epochs=progress.get("epoch", 0),
        validation=trained.get("best_validation_rsum", progress.get("best_rsum")),
        evaluated=evaluated,
    )
    if config is None:
        return line
    loss, model = config.loss.name, config.model.name
    return replace(line, loss=loss, model=model, split=config.split, seed=config.seed, of=config.epochs)


def progress_of(root: Path) -> dict[str, Any]:
    """Return where training stands by the last checkpoint: epoch, best_rsum and more; empty before the first."""
    state = root / "checkpoints" / "last" / STATE
    progress: dict[str, Any] = read_json(state)["progress"] if state.exists() else {}
    return progress


def _evaluated(root: Path, model: str) -> dict[str, float]:
    results = [(path.stem, read_json(path)) for path in sorted((root / "evaluation").glob("[!.]*.json"))]
    return {name: content["rsum"] for name, content in results if content.get("checkpoint", {}).get("output") == model}


def _last_written(root: Path) -> str:
    """Return the time of the manifest, of the last checkpoint or of the beginning, whichever comes first."""
    places = (root / MANIFEST, root / "checkpoints" / "last" / STATE, root / "run.json")
    path = next(path for path in places if path.exists())
    return datetime.datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")


def _value(line: RunLine, column: str) -> Any:
    return line.evaluated[column] if column in line.evaluated else getattr(line, column, None)


def _cell(value: str | float | None) -> str:
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def _csv_row(line: RunLine) -> tuple[dict[str, str], dict[str, float]]:
    values = {name: getattr(line, name) for name in COLUMNS}
    facts = {name: "" if value is None else value for name, value in values.items() if not _is_figure(value)}
    figures = {name: value for name, value in values.items() if _is_figure(value)}
    return facts, {**figures, **line.evaluated}


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float)
