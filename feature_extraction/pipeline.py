"""The extract stage: read, decode once, all experts, write; resumable at any moment; failures go to the ledger."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feature_extraction.experts import EXTRACTORS, missing_packages
from feature_extraction.extractor import Extracted
from feature_extraction.ledger import ALL_EXPERTS, Ledger
from feature_extraction.media import MediaError
from feature_extraction.plan import Plan, make_groups
from feature_extraction.pool import Pool
from feature_extraction.shards import ShardWriter, shaping_settings
from feature_extraction.spool import Spool
from feature_extraction.worker import Task, VideoWorker
from vtr.annotations.tables import annotations_fingerprint, load_annotations
from vtr.config import ExtractConfig
from vtr.errors import ConfigError, InputError, UnavailableError
from vtr.experts import EXPERTS, check_experts
from vtr.files import lock, remove_temporaries
from vtr.packaged import INSTALL_EXPERTS
from vtr.progress import progress, say
from vtr.store.reader import FeatureStore
from vtr.types import ExpertSpec
from vtr.workspace import Workspace, fingerprint

Specs = Mapping[str, tuple[ExpertSpec, str]]
"""Expert -> what its features are, with how its input is scaled."""


@dataclass(frozen=True)
class ExtractSummary:
    """What a run of the extract stage did.

    Attributes:
        extracted: videos read in this run, those that failed included.
        done_before: videos that all experts had read in earlier runs.
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
            f"{self.extracted} videos read in {self.seconds:.0f} s, {self.done_before} were done before"
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
    with_file = {video.id for video in annotations.videos if video.path is not None}
    with lock(workspace.features / ".lock", f"extract features into {workspace.root}"):
        _tidy(workspace.features)
        store = FeatureStore(workspace.features)
        writer = ShardWriter(store, config, annotations_fingerprint(workspace))
        writer.check_settings(experts)
        settings = {name: fingerprint(shaping_settings(config, name)) for name in experts}
        spool = Spool(workspace.features / ".spool", settings)
        ledger = Ledger(workspace.ledger)
        ledger.keep(with_file)
        groups = make_groups(workspace.features, annotations, config.shard_videos)
        examined = {expert: writer.examined(expert) for expert in experts}
        plan = Plan(groups, annotations, examined, spool, ledger)
        done_before = plan.done()
        extraction = Extraction(config, extractors, spool, ledger, writer, plan)
        read, not_loaded = extraction.run(experts, retry_failed)
        for expert in experts:
            writer.refresh(expert)
    return ExtractSummary(
        workspace=workspace,
        extracted=read,
        done_before=done_before,
        no_file=len(annotations.videos) - len(with_file),
        failures=len(ledger),
        unavailable=unavailable | not_loaded,
        seconds=time.monotonic() - started,
    )


def _tidy(features: Path) -> None:
    """Remove what killed writers left behind."""
    for folder in (features, *(path for path in features.iterdir() if path.is_dir())):
        remove_temporaries(folder)


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
    _tell(unavailable, experts)
    return experts, unavailable


def _tell(unavailable: Mapping[str, str], experts: Sequence[str]) -> None:
    """Say which experts are passed over.

    Raises:
        UnavailableError: none is left.
    """
    if not experts:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unavailable.items())
        raise UnavailableError(f"none of the experts can run. {reasons}")
    for name, reason in unavailable.items():
        say(f"expert {name} is unavailable ({reason}); going on with {', '.join(experts)}")


@dataclass(frozen=True)
class Extraction:
    """One run of the workers over what the plan says is left."""

    config: ExtractConfig
    extractors: Mapping[str, str]
    spool: Spool
    ledger: Ledger
    writer: ShardWriter
    plan: Plan

    def run(self, experts: Sequence[str], retry_failed: bool) -> tuple[int, dict[str, str]]:
        """Return how many videos were read, and for each expert that could not be loaded why.

        Raises:
            UnavailableError: none could be loaded.
            WorkspaceError: the store was made by other models; or it cannot be written.
        """
        self._settle_spooled()
        spooled = self.plan.spooled_groups()
        tasks = self.plan.tasks(experts, retry_failed)
        if not tasks and not spooled:
            return 0, {}
        workers = min(self.config.workers or os.cpu_count() or 1, max(len(tasks), 1))
        say(f"loading {', '.join(experts)} in {workers} process{'es' if workers > 1 else ''}")
        pool = Pool(workers, self.config, experts, self.extractors, self.spool)
        try:
            ready = pool.wait_ready()
            _tell(ready.unavailable, list(ready.specs))
            self.writer.check(ready.specs)
            tasks = self.plan.tasks(list(ready.specs), retry_failed)
            self._read(pool, tasks, spooled, ready.specs)
        finally:
            pool.close()
        return len(tasks), dict(ready.unavailable)

    def _settle_spooled(self) -> None:
        """Enter in the ledger how videos ended that a killed run had read and not yet entered."""
        for group in self.plan.groups:
            for video_id in group:
                if (done := self.spool.get(video_id)) is not None:
                    self.ledger.settle(video_id, done.examined, done.failures)

    def _read(self, pool: Pool, tasks: Sequence[Task], spooled: Sequence[int], specs: Specs) -> None:
        """Do the tasks, and write every group's shards as soon as its last video is done."""
        group_of = {video_id: number for number, group in enumerate(self.plan.groups) for video_id in group}
        left = Counter(group_of[task.video_id] for task in tasks)
        for number in spooled:
            if not left[number]:
                self._write_group(number, specs)
        with progress("extract", len(tasks), "videos") as advance:
            for task, failures in pool.run(tasks):
                failed = {failure.expert for failure in failures}
                read_by = () if ALL_EXPERTS in failed else set(task.experts) - failed
                self.ledger.settle(task.video_id, read_by, failures)
                number = group_of[task.video_id]
                left[number] -= 1
                if not left[number]:
                    self._write_group(number, specs)
                advance(1, f"{len(self.ledger)} failures" if len(self.ledger) else "")

    def _write_group(self, number: int, specs: Specs) -> None:
        for expert, spec in specs.items():
            self.writer.write(number, self.plan.groups[number], expert, spec, self.spool)
        self.spool.drop(self.plan.groups[number])


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
        _tell(worker.unavailable, list(worker.extractors))
        found, failed = worker.read(str(path), experts)
    except MediaError as error:
        raise InputError(f"{path} cannot be read as a video ({error}). Give another file, or convert it.") from error
    finally:
        worker.close()
    for name, failure in failed.items():
        say(f"{path}: {name} failed ({failure.reason})")
    kept = {name: extracted for name, extracted in found.items() if extracted is not None}
    if not kept:
        raise InputError(f"no expert finds anything in {path}; {', '.join(experts)} were asked.")
    return kept
