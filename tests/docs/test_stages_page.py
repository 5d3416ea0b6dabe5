"""docs/stages.md names every command there is, and no path that a run or a workspace does not have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy import ROOT
from typer.main import get_command

from vtr.cli import app
from vtr.workspace import Run, Workspace

PAGE = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")


def names(command: Any, path: str = "vtr") -> Iterator[str]:
    """Yield the commands of the command line, with those of its groups."""
    below = getattr(command, "commands", {})
    if not below:
        yield path
    for name, inner in below.items():
        yield from names(inner, f"{path} {name}")


@pytest.mark.parametrize("name", [*names(get_command(app))])
def test_it_names_the_command(name: str) -> None:
    shown = "vtr features" if name == "vtr features list" else name  # the two are the same
    assert re.search(rf"\b{shown}\b", PAGE), f"docs/stages.md does not name `{name}`"


def test_the_files_it_names_are_where_it_says() -> None:
    workspace, run = Workspace(Path("WS")), Run(Path("RUN"), workspace=Workspace(Path("WS")))
    there = [workspace.annotations, workspace.features, workspace.cache, workspace.ledger]
    there += [run.config, run.checkpoints, run.log, run.offline_negatives, run.embeddings, run.index]
    there += [run.evaluation, run.library, run.report]
    named = set(re.findall(r"`((?:WS|RUN)/[^`*]+?)/?(?:SPLIT-PART[^`]*|EXPERT[^`]*)?`", PAGE))
    assert {name.rstrip("/") for name in named} == {path.as_posix() for path in there}
