"""The report stage: what a run has come to, on one page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from vtr.annotations.tables import load_annotations
from vtr.errors import InputError
from vtr.evaluation.curves import read_log, training_curves
from vtr.evaluation.page import Page, Section, render, section
from vtr.evaluation.protocols import Rules
from vtr.evaluation.results import Evaluation
from vtr.evaluation.thumbnails import thumbnail
from vtr.files import read_json, write_text
from vtr.workspace import MANIFEST, Run, read_manifest, versions


def report(run: Run) -> str:
    """Write `run.report`, one self-contained HTML page, and return where it is and what it lacks.

    Pieces that are not there yet are left out, and the page says which command makes them.

    Raises:
        InputError: a result file is damaged, or the run was made without training.
        WorkspaceError: the page cannot be written, or a newer vtr made the run.
    """
    if run.untrained:
        raise InputError(
            f"{run.root} was made without training: there is no training to report, a run of `vtr train` was expected. "
            f'Search it: vtr search {run.root} "a man is cooking".'
        )
    trained = read_manifest(run.root, "vtr train") if (run.root / MANIFEST).exists() else {}
    curves = tuple(training_curves(read_log(run.log)))
    sections = tuple(_section(run, path, trained) for path in sorted(run.evaluation.glob("[!.]*.json")))
    missing = []
    if not trained:
        missing.append("Training is not finished. Run the same `vtr train` command again to go on.")
    if not curves and "imported" not in trained:
        missing.append(f"There is no training log: {run.log} is missing or empty.")
    if not sections:
        missing.append(f"Nothing has been evaluated yet. Run `vtr evaluate {run.root}`, then `vtr report {run.root}`.")
    page = Page(
        title=run.root.resolve().name,
        facts=_facts(run, trained),
        missing=tuple(missing),
        curves=curves,
        sections=sections,
        config=run.config.read_text(encoding="utf-8") if run.config.exists() else "not written yet",
        versions=trained.get("versions") or versions(),
    )
    write_text(run.report, render(page))
    return "\n".join([f"report written to {run.report}", *missing])


def _section(run: Run, path: Path, trained: Mapping[str, Any]) -> Section:
    content = read_json(path)
    evaluation = Evaluation.from_json(content, str(path))
    paths = {video.id: video.path for video in load_annotations(run.workspace).videos}
    stale = ""
    if "checkpoint" not in content:
        stale = "These figures are of a matrix of scores, not of this run's model."
    elif content["checkpoint"]["output"] != trained.get("output") or _index_changed(run, content):
        again = f"vtr evaluate {run.root} --split {content['split']} --part {content['part']}"
        stale = (
            "These figures are of another checkpoint, or of other videos, than the present ones. Run "
            f"`{again}{Rules(**content['rules']).options}` again."
        )
    return section(path.stem, evaluation, cache(lambda video_id: thumbnail(paths.get(video_id))), stale=stale)


def _index_changed(run: Run, content: Mapping[str, Any]) -> bool:
    manifest = run.index / f"{content['split']}-{content['part']}" / MANIFEST
    return not manifest.exists() or read_json(manifest)["output"] != content["inputs"]["index"]


def _facts(run: Run, trained: Mapping[str, Any]) -> dict[str, str]:
    facts = {"Run": str(run.root), "Workspace": str(run.workspace.root)}
    if trained:
        facts["Experts"] = ", ".join(trained["experts"])
        facts["Trained on"] = "; ".join(trained["coverage"])
        facts["Checkpoint"] = trained["selection"]
        if trained["best_epoch"] is not None:
            facts["Checkpoint"] += f": epoch {trained['best_epoch']:g}, RSUM {trained['best_validation_rsum']:.1f}"
        facts["Finished"] = trained["made_at"]
    return facts
