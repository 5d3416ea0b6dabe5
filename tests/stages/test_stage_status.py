"""Status goes on where something is damaged or is not vtr's, and says so."""

from __future__ import annotations

import shutil

import pytest

from vtr.stages.status import find_runs, status, workspace_lines
from vtr.workspace import MANIFEST, Workspace


def test_a_damaged_expert_is_one_line_and_the_others_are_told_as_ever(toy: Workspace) -> None:
    before = {line.stage: line for line in workspace_lines(toy)}
    (toy.features / "motion" / MANIFEST).write_text("{torn")
    after = {line.stage: line for line in workspace_lines(toy)}
    assert after.pop("extract motion").state == "damaged"
    before.pop("extract motion")
    assert after == before
    assert "motion" in status(toy.root)


def test_what_nothing_was_extracted_of_says_how_many_files_wait(toy: Workspace) -> None:
    shutil.rmtree(toy.features)
    (prepare, extract) = workspace_lines(toy)
    assert prepare.state == "done"
    assert (extract.stage, extract.state, extract.detail) == ("extract", "to do", "0 videos have a file")
    shutil.rmtree(toy.annotations)
    (prepare,) = workspace_lines(toy)
    assert prepare.state == "to do"
    assert prepare.command.startswith("vtr prepare ")


@pytest.mark.parametrize(
    "content", ['{"name": "of another program"}', '{"format": 1, "vtr": "1", "workspace": "../gone"}']
)
def test_a_run_of_another_program_or_whose_workspace_is_gone_is_passed_over(toy: Workspace, content: str) -> None:
    other = toy.root / "runs" / "other"
    other.mkdir(parents=True)
    (other / "run.json").write_text(content)
    assert find_runs(toy) == []
    assert "runs/other" not in status(toy.root)
