"""The extract stage: read, decode once, all experts, write; resumable at any moment; failures go to the ledger."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feature_extraction.checks import check_weights
from feature_extraction.experts import EXTRACTORS, missing_packages
from feature_extraction.ledger import ALL_EXPERTS, Ledger, read_ledger, refuses
from feature_extraction.plan import Plan, Task, make_groups
from feature_extraction.pool import Engine, Pool
from feature_extraction.shaping import recorded_config, shaping_settings
from feature_extraction.shards import ShardWriter
from feature_extraction.spool import Spool
from vtr.annotations.tables import annotations_fingerprint, load_annotations
from vtr.errors import ConfigError, InputError, UnavailableError, counted, some
from vtr.experts import check_experts
from vtr.extract_config import ExtractConfig
from vtr.files import lock, remove_temporaries
from vtr.packaged import INSTALL_EXPERTS
from vtr.progress import progress, say
from vtr.store.reader import FeatureStore
from vtr.types import Annotations, ExpertSpec
from vtr.workspace import Workspace, fingerprint

Specs = Mapping[str, tuple[ExpertSpec, str]]
"""Expert -> what its features are, with how its input is scaled."""


@dataclass(frozen=True)
class ExtractSummary:
    """What a run of the extract stage did.

    Attributes:
        extracted: videos that some expert read in this run.
        failed: videos that were tried in this run and that none of the experts asked could read.
        done_before: other videos, which all experts that can run had read in earlier runs.
        no_file: videos of the workspace that have no file on this machine.
        failures: failures that stand in the ledger, of this run and earlier ones.
        partial: damaged videos of which the readable part was used, of this run and earlier ones.
        unavailable: expert -> why it was passed over.
        seconds: how long it took.
        peak_bytes: the most memory that one worker with its decoder has held; 0 when nothing was read.
        strict: whether damaged videos were refused.
    """

    workspace: Workspace
    extracted: int
    failed: int
    done_before: int
    no_file: int
    failures: int
    partial: int
    unavailable: Mapping[str, str]
    seconds: float
    peak_bytes: int
    strict: bool = False

    def __str__(self) -> str:
        counts = [f"{counted(self.extracted, 'video')} read in {self.seconds:.0f} s"]
        counts += [f"{self.failed} failed"] if self.failed else []
        counts.append(f"{self.done_before} {_agree(self.done_before, 'was', 'were')} done before")
        if self.no_file:
            counts.append(
                f"{self.no_file} {_agree(self.no_file, 'has', 'have')} no file here: prepare again once there"
            )
        lines = [", ".join(counts)]
        if self.peak_bytes:
            lines.append(f"peak memory: {self.peak_bytes / 2**20:.0f} MiB in one worker with its decoder")
        lines += [f"expert {name} is unavailable: {reason}" for name, reason in self.unavailable.items()]
        root = shlex.quote(str(self.workspace.root))
        if self.partial:
            part = _agree(self.partial, "its readable part was used", "their readable parts were used")
            lines.append(f"{counted(self.partial, 'damaged video')}: {part} (`vtr extract {root} --report`)")
        if self.failures:
            them, strict = _agree(self.failures, "it", "them"), " --strict" * self.strict
            lines.append(
                f"{counted(self.failures, 'failure')}: `vtr extract {root} --report` lists {them}, "
                f"`vtr extract {root} --retry-failed{strict}` tries {them} again"
            )
        lines.append(f"see what there is: vtr features {root}")
        return "\n".join(lines)


def _agree(number: int, one: str, more: str) -> str:
    return one if number == 1 else more


@dataclass
class Counts:
    """What became of the videos of one run; fields as in `ExtractSummary`."""

    read: int = 0
    failed: int = 0
    done_before: int = 0
    unavailable: Mapping[str, str] = field(default_factory=dict)
    peak_bytes: int = 0


def extract(
    workspace: Workspace,
    config: ExtractConfig,
    *,
    retry_failed: bool = False,
    redo: Sequence[str] = (),
    out: str | None = None,
    extractors: Mapping[str, str] = EXTRACTORS,
) -> ExtractSummary:
    """Extract the features of all videos of a workspace that some expert has not read yet.

    Args:
        workspace: the workspace.
        config: experts and settings.
        retry_failed: also try the videos that failed before.
        redo: videos to be read once more, whose files have been replaced. Their former features go.
        out: where the feature store goes, any fsspec URL; by default where it is, or `workspace.features`.
        extractors: expert -> "module:callable"; the default is the real ones.

    Raises:
        ConfigError: an expert does not exist.
        InputError: no video has a file here, or one of `redo` is not in the workspace or has none.
        UnavailableError: no expert asked for is installed, or the engine is not.
        WorkspaceError: settings or models differ from those the store was made with; the workspace is in use or cannot
            be written.
    """
    started = time.monotonic()
    experts, unavailable = available_experts(config, extractors)
    annotations = load_annotations(workspace)
    with_file = _with_file(workspace, annotations, redo)
    with lock(workspace.features / ".lock", f"extract features into {workspace.root}"):
        if out is not None:
            workspace.set_location(out)
        store = FeatureStore(workspace.store)
        settings = {name: fingerprint(shaping_settings(config, name)) for name in experts}
        spool = Spool(workspace.features / ".spool", settings)
        _tidy(workspace.features, spool.scratch)
        ledger = Ledger(workspace.ledger)
        ledger.keep(with_file)
        groups = make_groups(workspace.features, annotations, config.shard_videos)
        writer = ShardWriter(store, config, annotations_fingerprint(workspace), groups)
        writer.check_settings(experts)
        examined = {expert: writer.examined(expert) for expert in experts}
        plan = Plan(groups, annotations, examined, spool, ledger)
        counts = Extraction(config, extractors, spool, ledger, writer, plan, retry_failed, redo).run(experts)
        for expert in experts:
            writer.refresh(expert)
        shutil.rmtree(spool.scratch, ignore_errors=True)
    return ExtractSummary(
        workspace=workspace,
        extracted=counts.read,
        failed=counts.failed,
        done_before=counts.done_before,
        no_file=len(annotations.videos) - len(with_file),
        failures=len(ledger),
        partial=len({entry.video_id for entry in ledger if entry.status == "partial"}),
        unavailable={**unavailable, **counts.unavailable},
        seconds=time.monotonic() - started,
        peak_bytes=counts.peak_bytes,
        strict=config.strict,
    )


def _with_file(workspace: Workspace, annotations: Annotations, redo: Sequence[str]) -> frozenset[str]:
    """Return the videos that have a file.

    Raises:
        InputError: none has, or one of `redo` has none.
    """
    with_file = frozenset(video.id for video in annotations.videos if video.path is not None)
    if not with_file:
        raise InputError(
            f"none of the {len(annotations.videos)} videos of {workspace.root} has a file on this machine. Put the "
            "files where they were looked for and run the same `vtr prepare` again, with --videos or --root."
        )
    if unknown := [video_id for video_id in redo if video_id not in with_file]:
        raise InputError(
            f"--redo names {some(unknown)}: no such video with a file is in {workspace.root}. Ids were expected, as "
            "`vtr prepare` makes them of the files' paths."
        )
    return with_file


def _tidy(features: Path, scratch: Path) -> None:
    """Remove what killed writers left behind, and make the folder for what workers fetch."""
    for folder in (features, *features.glob("*/"), *features.glob("*/texts/")):
        remove_temporaries(folder)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()


def available_experts(config: ExtractConfig, extractors: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the experts that can run, and for each other one why it cannot.

    Raises:
        ConfigError: an expert does not exist.
        UnavailableError: none can run.
    """
    if extractors is not EXTRACTORS:
        return list(config.experts), {}
    chosen = check_experts(config.experts, config.settings)
    unavailable = {
        name: f"{', '.join(missing)} not installed; install with: {INSTALL_EXPERTS}"
        for name in chosen
        if (missing := missing_packages(name, config.settings))
    }
    experts = [name for name in chosen if name not in unavailable]
    tell(unavailable, experts)
    return experts, unavailable


def tell(unavailable: Mapping[str, str], experts: Sequence[str]) -> None:
    """Say which experts are passed over.

    Raises:
        UnavailableError: none is left.
    """
    if not experts:
        reasons = [f"  {name}: {reason}" for name, reason in unavailable.items()]
        raise UnavailableError("\n".join(["none of the experts can run.", *reasons]))
    for name, reason in unavailable.items():
        say(f"expert {name} is unavailable ({reason}); going on with {', '.join(experts)}")


@dataclass(frozen=True)
class Extraction:
    """One run of an engine over what the plan says is left."""

    config: ExtractConfig
    extractors: Mapping[str, str]
    spool: Spool
    ledger: Ledger
    writer: ShardWriter
    plan: Plan
    retry_failed: bool = False
    redo: Sequence[str] = ()

    def run(self, experts: Sequence[str]) -> Counts:
        """Read what is left for the experts, and write what is complete.

        Raises:
            UnavailableError: none could be loaded.
            WorkspaceError: the store was made by other models; or it cannot be written.
        """
        self._settle_spooled()
        spooled = self.plan.spooled_groups(experts)
        tasks = self._tasks(experts)
        if not tasks and not spooled:
            return Counts(done_before=self.plan.done(experts))
        experts, lost = self._with_weights(experts)
        if lost and not (tasks := self._tasks(experts)) and not spooled:
            return Counts(done_before=self.plan.done(experts), unavailable=lost)
        engine = self._engine(experts, len(tasks))
        try:
            ready = engine.wait_ready()
            tell(ready.unavailable, list(ready.specs))
            self.writer.check(ready.specs)
            self.spool.expect({name: spec for name, (spec, _) in ready.specs.items()})
            tasks = self._tasks(list(ready.specs))
            counts = Counts(done_before=self.plan.done(ready.specs, tasks), unavailable={**lost, **ready.unavailable})
            self._read(engine, tasks, spooled, ready.specs, counts)
        finally:
            engine.close()
        counts.peak_bytes = engine.peak_bytes
        return counts

    def _tasks(self, experts: Sequence[str]) -> list[Task]:
        return self.plan.tasks(experts, self.retry_failed, self.config.strict, frozenset(self.redo))

    def _with_weights(self, experts: Sequence[str]) -> tuple[Sequence[str], dict[str, str]]:
        """Return the experts whose weights are here, and for each other one why it cannot run.

        Experts of the caller's own, and the machines of a cluster, tell it themselves once they load.

        Raises:
            ConfigError: see `check_weights`.
            UnavailableError: none can run.
        """
        if self.extractors is not EXTRACTORS or self.config.engine != "local":
            return experts, {}
        here, lost = check_weights(self.config, experts)
        tell(lost, here)
        return here, lost

    def _engine(self, experts: Sequence[str], num_tasks: int) -> Engine:
        if self.config.engine == "ray":
            from feature_extraction.distributed import RayEngine

            return RayEngine(self.config, experts, self.extractors, self.spool)
        workers = min(self.config.workers or os.cpu_count() or 1, max(num_tasks, 1))
        say(f"loading {', '.join(experts)} in {workers} process{'es' if workers > 1 else ''}")
        return Pool(workers, self.config, experts, self.extractors, self.spool)

    def _settle_spooled(self) -> None:
        """Enter in the ledger how videos ended that a killed run had read and not yet entered."""
        for video_id, awaited in self.spool.awaited().items():
            if (done := self.spool.get(video_id)) is not None:
                self.ledger.settle(video_id, awaited, done.failures)
            if not awaited:
                self.spool.drop([video_id])

    def _read(
        self, engine: Engine, tasks: Sequence[Task], spooled: Sequence[int], specs: Specs, counts: Counts
    ) -> None:
        """Do the tasks and count them, and write every group's shards as soon as its last video is done."""
        group_of = {video_id: number for number, group in enumerate(self.plan.groups) for video_id in group.ids}
        left = Counter(group_of[task.video_id] for task in tasks)
        for number in spooled:
            if not left[number]:
                self._write_group(number, specs)
        with progress("extract", len(tasks), "videos") as advance:
            for task, failures in engine.run(tasks):
                failed = {failure.expert for failure in failures if failure.status == "failed"}
                over = {e for e in task.experts if refuses(failures, e) or not failed & {e, ALL_EXPERTS}}
                self.ledger.settle(task.video_id, over, failures)
                is_read = ALL_EXPERTS not in failed and not failed.issuperset(task.experts)
                counts.read += is_read
                counts.failed += not is_read
                number = group_of[task.video_id]
                left[number] -= 1
                if not left[number]:
                    self._write_group(number, specs)
                advance(1, counted(len(self.ledger), "failure") if len(self.ledger) else "")

    def _write_group(self, number: int, specs: Specs) -> None:
        group = self.plan.groups[number]
        for expert, spec in specs.items():
            self.writer.write(group, expert, spec, self.spool)
        self.spool.drop([video_id for video_id in group.ids if not self._awaits_others(video_id, specs)])

    def _awaits_others(self, video_id: str, specs: Specs) -> bool:
        """Return whether the spool holds what experts made of a video, or refused, that are not at work in this run."""
        done = self.spool.get(video_id)
        return done is not None and not specs.keys() >= {*done.examined, *done.refused}


def settings_before(workspace: Workspace, now: ExtractConfig) -> ExtractConfig:
    """Return the settings with which a workspace's experts were extracted, to try again what failed.

    Args:
        workspace: the workspace.
        now: how to run (engine, workers, devices, strict), and the settings where nothing has been extracted yet.

    Raises:
        ConfigError: the experts were extracted with settings that differ; name those to be tried again.
    """
    store = FeatureStore(workspace.store)
    failed = {entry.expert for entry in read_ledger(workspace.ledger)} - {ALL_EXPERTS, *store.experts}
    if not store.experts:
        return now.model_copy(update={"experts": tuple(sorted(failed))}) if failed else now
    try:
        before = store_config(store, store.experts)
    except ConfigError as error:
        raise ConfigError(f"{error} Name those to be tried again with --experts, and their --config.") from error
    how = {name: getattr(now, name) for name in ("engine", "workers", "devices", "strict", "timeout_seconds")}
    return before.model_copy(update={"experts": (*before.experts, *sorted(failed)), **how})


def store_config(store: FeatureStore, experts: Sequence[str]) -> ExtractConfig:
    """Return the settings with which a store's experts were extracted, so that one more video can be read alike.

    Raises:
        ConfigError: the experts were extracted with settings that differ.
    """
    return recorded_config({expert: store.manifest(expert)["config"] for expert in experts})
