"""Which stages are done, stale, running or still to do, for a workspace and the runs trained on it."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vtr.annotations.tables import annotations_fingerprint, load_split, load_videos
from vtr.config import TrainConfig, load
from vtr.data.corpus import learnable
from vtr.errors import VtrError, WorkspaceError, counted
from vtr.evaluation.protocols import Rules
from vtr.extract_config import ExtractConfig
from vtr.files import locked_by, read_json
from vtr.retrieval.library import LibraryFolder
from vtr.retrieval.shelf import RECORDS, Records
from vtr.stages.features import count, failed_videos
from vtr.stages.runs import progress_of
from vtr.store.reader import FeatureStore
from vtr.workspace import MANIFEST, Run, Workspace, read_manifest

RUN_PLACES = (".", "runs", "..", "../runs")
"""Where the runs of a workspace are looked for, seen from the workspace."""


@dataclass(frozen=True, slots=True)
class Line:
    """The state of one stage.

    Attributes:
        stage: "prepare", "extract ocr", "embed full-test", ...
        state: "done", "stale", "partly", "to do", "damaged", or "running (process N)".
        detail: counts, or what is wrong.
        command: what brings it up to date; "" when nothing needs to be done.
    """

    stage: str
    state: str
    detail: str = ""
    command: str = ""


def status(path: Path) -> str:
    """Return the state of a workspace and its runs, or of one run, as text.

    Runs are looked for inside and beside the workspace, and in folders named `runs` there.

    Raises:
        WorkspaceError: `path` is neither a workspace nor a run.
    """
    if (path / "run.json").exists():
        run = Run.open(path)
        return _show(f"run {path} (workspace {_shown(run.workspace.root)})", run_lines(run))
    workspace = Workspace.open(path)
    groups = [_show(f"workspace {path}", workspace_lines(workspace))]
    groups += [_show(f"run {run.root}", run_lines(run)) for run in find_runs(workspace)]
    return "\n\n".join(groups)


def find_runs(workspace: Workspace) -> list[Run]:
    """Return the runs trained on a workspace that lie inside it, beside it, or in `runs` there."""
    root = workspace.root.resolve()
    folders = {marker.parent.resolve() for place in RUN_PLACES for marker in (root / place).glob("*/run.json")}
    runs = []
    for folder in sorted(folders):
        try:
            run = Run.open(_shown(folder))
        except VtrError:  # another program's run.json, or a run whose workspace is gone
            continue
        if run.workspace.root.resolve() == root:
            runs.append(run)
    return runs


def workspace_lines(workspace: Workspace) -> list[Line]:
    """Return the states of prepare and of each expert's extraction."""
    folder, busy = workspace.annotations, _running(workspace.prepare_lock)
    if not (folder / MANIFEST).exists():
        return [Line("prepare", busy or "to do", command="vtr prepare msrvtt|folder|list ... " + _out(workspace.root))]
    prepared = read_manifest(folder, "vtr prepare")
    counts = prepared["counts"]
    lines = [Line("prepare", busy or "done", f"{counts['videos']} videos, {counts['captions']} captions")]
    videos = load_videos(workspace)
    wanted = {video.id for video in videos if video.path is not None}
    failed = failed_videos(workspace, {video.id for video in videos})
    store, busy = FeatureStore(workspace.store), _running(workspace.features / ".lock")
    owner = _owner(workspace)
    command = f"vtr ingest {_quoted(owner)}" if owner else f"vtr extract {_quoted(workspace.root)}"
    for expert in store.experts:
        try:
            own = command if owner or expert in ExtractConfig().experts else f"{command} --experts {expert}"
            line = _extract_line(store, expert, prepared["output"], wanted, failed, own)
        except VtrError as error:
            line = Line(f"extract {expert}", "damaged", str(error), command)
        lines.append(Line(line.stage, busy, line.detail) if busy and line.state != "done" else line)
    spool = sorted((workspace.features / ".spool").glob("[!.]*.parquet"))
    spooled = len(spool)
    if spooled:
        detail = f"{spooled} more videos read, in the next shards"
        unlisted = [] if owner else sorted(_spooled_experts(spool) - {*ExtractConfig().experts})
        named = f" --experts {','.join(unlisted)}" if unlisted else ""
        lines.append(Line("extract", busy or "partly", detail, "" if busy else command + named))
    elif not store.experts:
        detail = f"{len(wanted)} videos have a file"
        lines.append(Line("extract", busy or "to do", detail, "" if busy or not wanted else command))
    if failed:
        num = len({video_id for video_id, _ in failed})
        detail = f"video{'' if num == 1 else 's'}; see {workspace.ledger}"
        lines.append(Line("failures", str(num), detail, f"{command} --retry-failed"))
    return lines


def _owner(workspace: Workspace) -> Path | None:
    """Return the run whose library a workspace is, None for a workspace of its own."""
    root = workspace.root.resolve()
    run = root.parent.parent
    return _shown(run) if (run / "run.json").exists() and root.parts[-2:] == ("library", "workspace") else None


def _spooled_experts(spool: Sequence[Path]) -> set[str]:
    """Return the experts that have read the first of the videos that wait for their shards."""
    found: set[str] = set()
    for path in spool[:20]:
        with contextlib.suppress(OSError, pa.ArrowException, KeyError, ValueError):
            found.update(json.loads(pq.read_schema(path).metadata[b"vtr.spool"])["examined"])
    return found


def _extract_line(
    store: FeatureStore, expert: str, prepared: str, wanted: Set[str], failed: Set[tuple[str, str]], command: str
) -> Line:
    manifest = store.manifest(expert)
    if (release := manifest["config"].get("release")) is not None:
        held = manifest["counts"]
        detail = f"{held['examined']} videos of {release.upper()}'s release, {held['present']} with features"
        return Line(f"import {expert}", "done", detail)
    counts = count(store, expert, wanted, failed)
    detail = f"{counts.read} of {len(wanted)} videos read, {counts.present} with features"
    if counts.failed:
        detail += f", {counts.failed} failed"
    left = len(wanted) - counts.read - counts.failed
    if left:
        return Line(f"extract {expert}", "partly", detail, command)
    if manifest["inputs"].get("prepare") != prepared:
        return Line(f"extract {expert}", "stale", f"{detail}; prepare changed since", command)
    return Line(f"extract {expert}", "done", detail)


def run_lines(run: Run) -> list[Line]:
    """Return the states of train, of each part's embed, index and evaluate, of the library, and of report."""
    if run.untrained:
        return [*_untrained_line(run), *_library_lines(run)]
    store = FeatureStore(run.workspace.store)
    current: dict[str, str] = {}
    if not (run.root / MANIFEST).exists():
        return [_unfinished(run, store, current)]
    trained = read_manifest(run.root, "vtr train")
    current["prepare"] = _prepared(run.workspace, trained["config"]["split"])
    if set(trained["experts"]) <= set(store.experts):
        current["extract"] = store.fingerprint(trained["experts"])
    stale = "" if "imported" in trained else _changed(trained["inputs"], current, ("prepare", "extract"))
    best = trained["best_validation_rsum"]
    detail = trained["selection"]
    if best is not None:
        detail = f"best epoch {trained['best_epoch']:g}, validation RSUM {best:.1f}"
    config = run.config if run.config.exists() else "CONFIG"
    again = f"vtr train {_quoted(run.workspace.root)} --config {_quoted(config)} --out NEW"
    again += _available_only(trained["coverage"])
    lines = [_line("train", run.root, stale, detail, again)]
    current["train"] = str(trained["output"])
    made = [path.parent.name for path in (*run.embeddings.glob("*/.lock"), *run.embeddings.glob(f"*/{MANIFEST}"))]
    results = [path.stem for path in run.evaluation.glob("[!.]*.json") if "+" not in path.stem]  # of the default rules
    for name in sorted({*made, *results}):
        lines += _part_lines(run, name, current)
    if len(lines) == 1:
        command = f"vtr evaluate {_quoted(run.root)}{_available_only(trained['coverage'])}"
        lines += [Line(stage, "to do", "", command) for stage in ("embed", "index", "evaluate")]
    return [*lines, *_mine_lines(run, current), *_library_lines(run), _report_line(run)]


def _untrained_line(run: Run) -> Iterator[Line]:
    """Yield what a run was made of that was not trained."""
    if not (run.root / MANIFEST).exists():
        yield Line("made", "partly", "without training", f"vtr ingest {_quoted(run.root)} FOLDER --model MODEL")
        return
    yield Line("made", "done", f"without training: {', '.join(read_manifest(run.root, 'vtr ingest')['experts'])}")


def _library_lines(run: Run) -> Iterator[Line]:
    """Yield the state of what `vtr ingest` put in, where somebody began to."""
    library, ingest = LibraryFolder(run.library), f"vtr ingest {_quoted(run.root)}"
    if not (run.library / RECORDS).exists():
        if run.untrained:
            yield Line("library", "to do", "", f"{ingest} FOLDER")
        return
    busy = _running(run.library / ".lock")
    try:
        state, records = library.state(), Records.load(run.library)
        videos = {item.video_id for item in library.items(state).values()}
        captions = library.counts()["captions"]
        failed = {video_id for video_id, _ in failed_videos(library.workspace, set(records.files))}
    except (VtrError, OSError) as error:  # a change that ends meanwhile removes what was before
        yield Line("library", busy or "damaged", "" if busy else str(error), "" if busy else ingest)
        return
    detail = f"{counted(len(videos), 'video')}, {counted(captions, 'caption')}"
    detail += f"; {len(failed)} failed (--retry-failed)" if failed else ""
    again = " ".join([ingest, *(_quoted(_shown(Path(folder))) for folder in records.prefixes)])
    left = sum(record.state != "read" for record in records.files.values())
    if busy:
        yield Line("library", busy, detail)
    elif state is not None and state.train != read_manifest(run.root, "vtr train")["output"]:
        yield Line("library", "stale", f"{detail}; train changed since", again)
    elif left or state is None:
        yield Line("library", "partly", f"{detail}, {left} more to read" if left else detail, again)
    else:
        yield Line("library", "done", detail)


def _unfinished(run: Run, store: FeatureStore, current: Mapping[str, str]) -> Line:
    """Return the state of a run that has no manifest yet."""
    busy, epochs = _running(run.root / ".lock"), progress_of(run.root).get("epoch", 0)
    if not run.config.exists():
        command = f"vtr train {_quoted(run.workspace.root)} --config CONFIG {_out(run.root)}"
        return Line("train", busy or "to do", command="" if busy else command)
    config = load(TrainConfig, run.config)
    detail = f"{epochs} of {config.epochs} epochs"
    if busy:
        return Line("train", busy, detail)
    command = f"vtr train {_quoted(run.workspace.root)} --config {_quoted(run.config)}"
    known = {**current, "prepare": _prepared(run.workspace, config.split)}
    trained = learnable(store, load_split(run.workspace, config.split)) if known["prepare"] else store.experts
    experts = [name for name in config.experts or trained if name in store.experts]
    known |= {"extract": store.fingerprint(experts)} if experts else {}
    if not _is_whole(run.workspace, store, config.split, experts):
        command += " --available-only"
    inputs = run.root / "inputs.json"
    if inputs.exists() and (stale := _changed(read_json(inputs), known, ("prepare", "extract"))):
        return Line("train", "stale", f"{detail}; {stale}", f"{command} --out NEW")
    return Line("train", "partly", detail, f"{command} {_out(run.root)}")


def _prepared(workspace: Workspace, split: str) -> str:
    """Return the fingerprint of the annotations and a split, "" where there are none or the split is damaged."""
    if not (workspace.annotations / MANIFEST).exists():
        return ""
    try:
        return annotations_fingerprint(workspace, split)
    except WorkspaceError:
        return ""


def _is_whole(workspace: Workspace, store: FeatureStore, split_name: str, experts: Sequence[str]) -> bool:
    """Return whether all videos that training on a split needs have features."""
    try:
        split = load_split(workspace, split_name)
    except WorkspaceError:
        return True  # the train command says what is wrong
    held = {video_id for expert in experts for video_id in store.video_ids(expert)}
    return held.issuperset(split.train + split.validation)


def _part_lines(run: Run, name: str, current: Mapping[str, str]) -> Iterator[Line]:
    """Yield embed, index and evaluate of one part, up to the first that has never been done."""
    split, _, part = name.rpartition("-")
    options = f"{_quoted(run.root)} --split {_quoted(split)} --part {part}"
    folder, index, result = run.embeddings / name, run.index / name, run.evaluation / f"{name}.json"
    if not (folder / MANIFEST).exists():
        yield _missing(f"embed {name}", folder, f"vtr embed {options}")
        return
    embedded = read_manifest(folder, "vtr embed")
    covered = f"{embedded['coverage']['available']} of {embedded['coverage']['total']} videos"
    flag = _available_only([covered])
    prepared = {"prepare": _prepared(run.workspace, split)}
    stale = _changed(embedded["inputs"], {**current, **prepared}, ("train", "extract", "prepare"))
    yield _line(f"embed {name}", folder, stale, covered, f"vtr embed {options}{flag}")
    if not (index / MANIFEST).exists():
        yield _missing(f"index {name}", index, f"vtr index {options}")
        return
    indexed = read_manifest(index, "vtr index")
    stale = "embed is stale" if stale else _changed(indexed["inputs"], {"embed": embedded["output"]}, ("embed",))
    counts = indexed["counts"]
    detail = f"{counts['videos']} videos, {counts['captions']} captions"
    yield _line(f"index {name}", index, stale, detail, f"vtr evaluate {options}{flag}")
    if not counts["captions"]:
        return  # a gallery to be searched; there is nothing to evaluate
    if not result.exists():
        yield Line(f"evaluate {name}", "to do", "", f"vtr evaluate {options}{flag}")
    for path in sorted(run.evaluation.glob(f"{glob.escape(name)}*.json")):
        if path == result or path.name.startswith(f"{name}+"):
            yield _evaluation_line(path, stale, indexed["output"], covered, f"vtr evaluate {options}{flag}")


def _evaluation_line(path: Path, stale: str, index: str, covered: str, command: str) -> Line:
    """Return the state of one result, of the default rules or of others."""
    content = read_json(path)
    stale = "index is stale" if stale else _changed(content.get("inputs", {}), {"index": index}, ("index",))
    command += Rules(**content.get("rules", {})).options
    return _line(f"evaluate {path.stem}", None, stale, f"RSUM {content['rsum']:.1f}, {covered}", command)


def _mine_lines(run: Run, current: Mapping[str, str]) -> Iterator[Line]:
    """Yield the state of the mined negatives, where somebody wanted any."""
    folder = run.offline_negatives
    command = f"vtr mine {_quoted(run.root)}"
    if (folder / MANIFEST).exists():
        mined = read_manifest(folder, command)
        stale = _changed(mined["inputs"], current, ("train", "extract", "prepare"))
        detail = f"the {mined['config']['top']} hardest negatives, {mined['config']['coverage']}"
        flag = _available_only([mined["config"]["coverage"]])
        yield _line("mine", folder, stale, detail, f"{command}{flag}")
    elif folder.exists():
        yield _missing("mine", folder, command)


def _report_line(run: Run) -> Line:
    command = f"vtr report {_quoted(run.root)}"
    if not run.report.exists():
        return Line("report", "to do", "", command)
    shown = [run.root / MANIFEST, *run.evaluation.glob("[!.]*.json")]
    if max(path.stat().st_mtime_ns for path in shown) > run.report.stat().st_mtime_ns:
        return Line("report", "stale", "results are newer than the page", command)
    return Line("report", "done", str(run.report))


def _missing(stage: str, folder: Path, command: str) -> Line:
    busy = _running(folder / ".lock")
    return Line(stage, busy or "to do", "", "" if busy else command)


def _line(stage: str, folder: Path | None, stale: str, detail: str, command: str) -> Line:
    if folder is not None and (busy := _running(folder / ".lock")):
        return Line(stage, busy, detail)
    return Line(stage, "stale", f"{detail}; {stale}", command) if stale else Line(stage, "done", detail)


def _changed(recorded: Mapping[str, str], current: Mapping[str, str], stages: Sequence[str]) -> str:
    """Return which inputs are not those a stage was made from, in words; "" when all are."""
    changed = [stage for stage in stages if recorded.get(stage) != current.get(stage)]
    return f"{' and '.join(changed)} changed since" if changed else ""


def _available_only(coverage: Sequence[str]) -> str:
    """Return the option that a command needs where some of the videos had no features."""
    numbers = [re.search(r": (\d+) of (\d+)", text) for text in coverage]
    partial = any(found is not None and found[1] != found[2] for found in numbers)
    return " --available-only" if partial else ""


def _running(lock: Path) -> str:
    holder = locked_by(lock)
    return "" if holder is None else f"running (process {holder or 'unknown'})"


def _shown(path: Path) -> Path:
    """Return a path as a user would write it: relative where that does not lead up."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else Path(relative)


def _quoted(path: Path | str) -> str:
    return shlex.quote(str(path))


def _out(root: Path) -> str:
    return f"--out {_quoted(root)}"


def _show(title: str, lines: Sequence[Line]) -> str:
    cells: list[tuple[str, ...]] = [(line.stage, line.state, line.detail) for line in lines]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    text = [title]
    for row, line in zip(cells, lines, strict=True):
        aligned = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        text.append(f"  {aligned}{f'  -> {line.command}' if line.command else ''}".rstrip())
    return "\n".join(text)
