"""The extract stage: read, decode once, all experts, write; resumable at any moment; failures go to the ledger."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feature_extraction.experts import EXTRACTORS, missing_packages
from feature_extraction.extractor import Extracted
from feature_extraction.ledger import Ledger
from feature_extraction.plan import Plan, make_groups
from feature_extraction.pool import Pool
from feature_extraction.shards import ShardWriter, shaping_settings
from feature_extraction.spool import Spool
from feature_extraction.worker import Task, VideoWorker
from vtr.annotations.tables import annotations_fingerprint, load_annotations
from vtr.config import ExtractConfig
from vtr.errors import ConfigError, InputError, UnavailableError
from vtr.experts import EXPERTS, check_experts
from vtr.files import lock
from vtr.packaged import INSTALL_EXPERTS
from vtr.progress import progress, say
from vtr.store.reader import FeatureStore
from vtr.types import ExpertSpec
from vtr.workspace import Workspace, fingerprint


@dataclass(frozen=True)
class ExtractSummary:
    """What a run of the extract stage did.

    Attributes:
        extracted: videos read in this run.
        done_before: videos that earlier runs had finished.
        no_file: videos of the workspace that have no file on this machine.
        failures: entries that stand in the failure ledger, of this run and earlier ones.
        unavailable: expert -> why it was passed over.
    """

    workspace: Workspace
    extracted: int
    done_before: int
    no_file: int
    failures: int
    unavailable: Mapping[str, str]
    seconds: float

    def __str__(self) -> str:
        lines = [
            f"{self.extracted} videos extracted in {self.seconds:.0f} s, {self.done_before} were done before"
            + (f", {self.no_file} have no file here" if self.no_file else "")
        ]
        lines += [f"expert {name} is unavailable: {reason}" for name, reason in self.unavailable.items()]
        if self.failures:
            lines.append(
                f"{self.failures} failures: see {self.workspace.ledger}; "
                f"`vtr extract {self.workspace.root} --retry-failed` tries them again"
            )
        lines.append(f"see what there is: vtr features {self.workspace.root}")
        return "\n".join(lines)


def extract(
    workspace: Workspace,
    config: ExtractConfig,
    *,
    retry_failed: bool = False,
    extractors: Mapping[str, str] = EXTRACTORS,
) -> ExtractSummary:
    """Extract the features of all videos of a workspace that some expert has not read yet.

    Args:
        workspace: the workspace.
        config: experts and settings.
        retry_failed: also try the videos that failed before.
        extractors: expert -> "module:callable"; the default is the real ones.

    Raises:
        ConfigError: an expert does not exist.
        UnavailableError: no expert asked for is installed.
        WorkspaceError: settings or models differ from those the store was made with; the workspace is in use or cannot
            be written.
    """
    started = time.monotonic()
    experts, unavailable = available_experts(config.experts, extractors)
    annotations = load_annotations(workspace)
    with lock(workspace.features / ".lock", f"extract features into {workspace.root}"):
        ledger = Ledger(workspace.ledger)
        settings = {name: fingerprint(shaping_settings(config, name)) for name in experts}
        spool = Spool(workspace.features / ".spool", settings)
        spool.tidy()
        store = FeatureStore(workspace.features)
        writer = ShardWriter(store, config, annotations_fingerprint(workspace))
        writer.check_settings(experts)
        groups = make_groups(workspace.features, annotations, config.shard_videos)
        _adopt_failures(groups, spool, ledger)
        if retry_failed:
            ledger.forget(experts)
        examined = {expert: writer.examined(expert) for expert in experts}
        plan = Plan(groups, annotations, examined, spool, ledger)
        tasks = plan.tasks()
        _run(config, experts, extractors, spool, ledger, writer, plan, tasks, unavailable)
        for expert in experts:
            writer.refresh(expert)
    no_file = sum(video.path is None for video in annotations.videos)
    with_file = len(annotations.videos) - no_file
    return ExtractSummary(
        workspace=workspace,
        extracted=len(tasks),
        done_before=with_file - len(tasks),
        no_file=no_file,
        failures=len(ledger),
        unavailable=unavailable,
        seconds=time.monotonic() - started,
    )


def available_experts(names: Sequence[str], extractors: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the experts that can run, and for each other one why it cannot.

    Raises:
        ConfigError: an expert does not exist.
        UnavailableError: none can run.
    """
    chosen = check_experts(names) if extractors is EXTRACTORS else tuple(names)
    unavailable = {}
    for name in chosen:
        if name in EXPERTS and extractors is EXTRACTORS and (missing := missing_packages(name)):
            unavailable[name] = f"{', '.join(missing)} not installed; install with: {INSTALL_EXPERTS}"
    experts = [name for name in chosen if name not in unavailable]
    if not experts:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unavailable.items())
        raise UnavailableError(f"none of the experts can run. {reasons}")
    for name, reason in unavailable.items():
        say(f"expert {name} is unavailable ({reason}); going on with {', '.join(experts)}")
    return experts, unavailable


def _adopt_failures(groups: Sequence[Sequence[str]], spool: Spool, ledger: Ledger) -> None:
    """Enter failures that a killed run had spooled but not yet written to the ledger."""
    for group in groups:
        for video_id in group:
            if (done := spool.get(video_id)) is not None:
                ledger.add(done.failures)


def _run(
    config: ExtractConfig,
    experts: Sequence[str],
    extractors: Mapping[str, str],
    spool: Spool,
    ledger: Ledger,
    writer: ShardWriter,
    plan: Plan,
    tasks: Sequence[Task],
    unavailable: dict[str, str],
) -> None:
    """Do the tasks, and write every group's shards as soon as its last video is done."""
    left = dict.fromkeys(range(len(plan.groups)), 0)
    group_of = {video_id: number for number, group in enumerate(plan.groups) for video_id in group}
    for task in tasks:
        left[group_of[task.video_id]] += 1
    spooled = [n for n, group in enumerate(plan.groups) if not left[n] and any(spool.get(v) for v in group)]
    if not tasks and not spooled:
        return
    workers = min(config.workers or os.cpu_count() or 1, max(len(tasks), 1))
    say(f"loading {', '.join(experts)} in {workers} process{'es' if workers > 1 else ''}")
    pool = Pool(workers, config, experts, extractors, spool)
    try:
        ready = pool.wait_ready()
        writer.check(ready.specs)
        unavailable.update(ready.unavailable)
        for number in spooled:
            _write_group(number, plan, ready.specs, spool, writer)
        with progress("extract", len(tasks), "videos") as advance:
            for task, failures in pool.run(tasks):
                ledger.add(failures)
                number = group_of[task.video_id]
                left[number] -= 1
                if not left[number]:
                    _write_group(number, plan, ready.specs, spool, writer)
                advance(1, f"{len(ledger)} failures" if len(ledger) else "")
    finally:
        pool.close()


def _write_group(
    number: int, plan: Plan, specs: Mapping[str, tuple[ExpertSpec, str]], spool: Spool, writer: ShardWriter
) -> None:
    for expert, spec in specs.items():
        writer.write(number, plan.groups[number], expert, spec, spool)
    spool.drop(plan.groups[number])


def store_config(store: FeatureStore, experts: Sequence[str]) -> ExtractConfig:
    """Return the settings with which a store's experts were extracted, so that one more video can be read alike.

    Raises:
        ConfigError: the experts were extracted with settings that differ.
    """
    values: dict[str, object] = {}
    for expert in experts:
        for name, value in store.manifest(expert)["config"].items():
            if values.setdefault(name, value) != value:
                raise ConfigError(
                    f"the experts in {store.root} were extracted with differing {name}: {values[name]}, {value}."
                )
    return ExtractConfig.model_validate({"experts": tuple(experts), **values})


def extract_one(path: Path, config: ExtractConfig) -> dict[str, Extracted]:
    """Return what the experts find in one video file, in this process.

    Raises:
        InputError: the file cannot be read, or no expert finds anything in it.
        UnavailableError: none of the experts is installed.
    """
    if not path.is_file():
        raise InputError(f"{path} is {'a folder' if path.is_dir() else 'not there'}, a video file was expected.")
    experts, _ = available_experts(config.experts, EXTRACTORS)
    worker = VideoWorker(config, experts, EXTRACTORS)
    try:
        found, failed = worker.read(str(path), experts)
    finally:
        worker.close()
    kept = {name: extracted for name, extracted in found.items() if extracted is not None}
    if not kept:
        reasons = "; ".join(f"{name}: {error.reason}" for name, error in failed.items())
        raise InputError(f"no expert finds anything in {path}. {reasons}")
    return kept
