"""Which stages are done, stale, running or still to do, for a workspace and the runs trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtr.annotations.tables import load_annotations
from vtr.evaluation.table import align
from vtr.files import locked_by, read_json
from vtr.store.reader import FeatureStore
from vtr.training.checkpoint import STATE
from vtr.workspace import MANIFEST, Run, Workspace, read_manifest


@dataclass(frozen=True, slots=True)
class Line:
    """The state of one stage."""

    stage: str
    state: str
    detail: str = ""
    next: str = ""


def status(path: Path) -> str:
    """Return the state of a workspace and its runs, or of one run, as text.

    Raises:
        WorkspaceError: `path` is neither.
    """
    if (path / "run.json").exists():
        return _show([_run(Run.open(path))])
    workspace = Workspace.open(path)
    return _show([_workspace(workspace), *(_run(run) for run in find_runs(workspace))])


def find_runs(workspace: Workspace) -> list[Run]:
    """Return the runs trained on a workspace that lie beside it or up to two folders below."""
    root = workspace.root.resolve()
    found = {marker.parent for pattern in ("*/run.json", "*/*/run.json") for marker in root.parent.glob(pattern)}
    runs = []
    for folder in sorted(found):
        target = (folder / str(read_json(folder / "run.json").get("workspace"))).resolve()
        if target == root:
            runs.append(Run.open(folder))
    return runs


def _show(groups: list[tuple[str, list[Line]]]) -> str:
    text = []
    for title, lines in groups:
        text += [title, *(f"  {line}" for line in align([("stage", "state", "detail"), *_cells(lines)]))]
        text += [f"  next: {command}" for command in dict.fromkeys(line.next for line in lines if line.next)][:1]
    return "\n".join(text)


def _cells(lines: list[Line]) -> list[tuple[str, str, str]]:
    widths = [max(len(getattr(line, name)) for line in lines) for name in ("state", "detail")]
    return [(line.stage, line.state.ljust(widths[0]), line.detail.ljust(widths[1])) for line in lines]


def _workspace(workspace: Workspace) -> tuple[str, list[Line]]:
    root, store = workspace.root, FeatureStore(workspace.features)
    title = f"workspace {root}"
    if not (workspace.annotations / MANIFEST).exists():
        return title, [Line("prepare", _running(workspace.annotations) or "to do", next="vtr prepare ... --out WS")]
    prepared = read_manifest(workspace.annotations, "vtr prepare")
    counts = prepared["counts"]
    lines = [Line("prepare", "done", f"{counts['videos']} videos, {counts['captions']} captions")]
    with_file = sum(video.path is not None for video in load_annotations(workspace).videos)
    running = _running(workspace.features)
    command = f"vtr extract {root}"
    for expert in store.experts:
        manifest = store.manifest(expert)
        examined = manifest["counts"]["examined"]
        stale = manifest["inputs"].get("prepare") != prepared["output"]
        state = running or ("stale" if stale else "done" if examined >= with_file else "partly")
        detail = f"{examined} of {with_file} videos read, {manifest['counts']['present']} with features"
        lines.append(Line(f"extract {expert}", state, detail, "" if state == "done" else command))
    if not store.experts:
        lines.append(Line("extract", running or "to do", next=command))
    if workspace.ledger.exists() and (failures := len(workspace.ledger.read_text(encoding="utf-8").splitlines())):
        lines.append(Line("failures", str(failures), str(workspace.ledger), f"{command} --retry-failed"))
    return title, lines


def _run(run: Run) -> tuple[str, list[Line]]:
    store = FeatureStore(run.workspace.features)
    current = {"prepare": read_manifest(run.workspace.annotations, "vtr prepare")["output"]}
    title = f"run {run.root}"
    if not (run.root / MANIFEST).exists():
        state = run.checkpoints / "last" / STATE
        detail = f"{read_json(state)['progress']['epoch']} epochs done" if state.exists() else ""
        word = _running(run.root) or ("partly" if detail else "to do")
        command = f"vtr train {run.workspace.root} --config {run.config} --out {run.root}"
        return title, [Line("train", word, detail, command)]
    trained = read_manifest(run.root, "vtr train")
    held = set(store.experts)
    usable = set(trained["experts"]) <= held
    current["extract"] = store.fingerprint(trained["experts"]) if usable else "gone"
    best = trained["best_validation_rsum"]
    detail = f"best validation RSUM {best:.1f}, epoch {trained['best_epoch']}" if best else trained["selection"]
    train_inputs = {name: current[name] for name in ("prepare", "extract")}
    lines = [_line("train", run.root, trained, train_inputs, detail, f"vtr train ... --out {run.root} (a new folder)")]
    current["train"] = trained["output"]
    for folder in sorted(path.parent for path in run.embeddings.glob(f"*/{MANIFEST}")):
        lines += _part(run, folder, current)
    if len(lines) == 1:
        lines.append(Line("evaluate", "to do", next=f"vtr evaluate {run.root}"))
    lines.append(Line("report", "done" if run.report.exists() else "to do", next=f"vtr report {run.root}"))
    return title, lines


def _part(run: Run, folder: Path, current: Mapping[str, str]) -> list[Line]:
    embedded = read_manifest(folder, "vtr embed")
    command = f"vtr evaluate {run.root} --split {folder.name.rsplit('-', 1)[0]} --part {folder.name.rsplit('-', 1)[1]}"
    lines = [_line(f"embed {folder.name}", folder, embedded, current, "", command)]
    index = run.index / folder.name
    if (index / MANIFEST).exists():
        made = read_manifest(index, "vtr index")
        lines.append(_line(f"index {folder.name}", index, made, {"embed": embedded["output"]}, "", command))
        result = run.evaluation / f"{folder.name}.json"
        if result.exists():
            content = read_json(result)
            detail = f"RSUM {content['rsum']:.1f}; {content['coverage_text']}"
            lines.append(_line(f"evaluate {folder.name}", folder, content, {"index": made["output"]}, detail, command))
    return lines


def _line(
    stage: str, folder: Path, made: Mapping[str, Any], current: Mapping[str, str], detail: str, command: str
) -> Line:
    stale = sorted(name for name, value in made["inputs"].items() if name in current and current[name] != value)
    if running := _running(folder):
        return Line(stage, running, detail)
    if stale:
        return Line(stage, "stale", f"{', '.join(stale)} changed since", command)
    return Line(stage, "done", detail)


def _running(folder: Path) -> str:
    holder = locked_by(folder / ".lock")
    return f"running (process {holder})" if holder else ""
