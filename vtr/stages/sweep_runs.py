"""The runs of a sweep, each trained and evaluated by the ordinary commands in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vtr import __version__
from vtr.annotations.tables import annotations_fingerprint, load_split
from vtr.config import TrainConfig, dump, load
from vtr.data.corpus import learnable
from vtr.errors import ConfigError, WorkspaceError
from vtr.files import read_json, write_json, write_text
from vtr.parent import die_with_parent
from vtr.progress import duration, say
from vtr.stages.sweep_plan import PlannedRun
from vtr.store.reader import FeatureStore
from vtr.training.train import may_change
from vtr.types import Part
from vtr.workspace import FORMAT, MANIFEST, Workspace, holds_other_files, read_manifest

MARKER = "sweep.json"
TAIL_LINES = 12
"""Lines of a failed process's output that are shown."""

POLL_SECONDS = 0.1
GRACE_SECONDS = 5.0
"""How long a process that is told to end may take before it is killed."""


@dataclass(frozen=True)
class SweepFolder:
    """Where a sweep lies: runs/, the configs they are made with, the output of their processes, results."""

    root: Path
    workspace: Workspace

    @classmethod
    def create(cls, root: Path, workspace: Workspace) -> SweepFolder:
        """Open a sweep's folder, or make an empty one.

        Raises:
            WorkspaceError: it holds something else, belongs to another workspace, or cannot be written.
        """
        marker = root / MARKER
        if marker.exists():
            of = (root / read_json(marker)["workspace"]).resolve()
            if of != workspace.root.resolve():
                raise WorkspaceError(f"{root} is a sweep on {of}, not on {workspace.root}. Choose another --out.")
        elif root.is_file() or holds_other_files(root):
            raise WorkspaceError(
                f"{root} holds other files, an empty or new folder was expected. Choose another --out."
            )
        else:
            relative = os.path.relpath(workspace.root.resolve(), root.resolve())
            write_json(marker, {"format": FORMAT, "vtr": __version__, "workspace": relative})
        return cls(root, workspace)

    def run(self, planned: PlannedRun) -> Path:
        """The run's own folder."""
        return self.root / "runs" / planned.folder

    def config(self, planned: PlannedRun) -> Path:
        """The config it is trained with."""
        return self.root / "configs" / f"{planned.folder}.yaml"

    def output(self, planned: PlannedRun) -> Path:
        """What its processes say."""
        return self.root / "logs" / f"{planned.folder}.txt"

    def is_trained(self, planned: PlannedRun) -> bool:
        """Whether the run is finished, with the config that is wanted."""
        run = self.run(planned)
        return (run / MANIFEST).exists() and load(TrainConfig, run / "config.yaml") == planned.config

    def check_begun(self, planned: PlannedRun) -> None:
        """Check that a run that was begun goes on with the same config, but for what may change, and the same data.

        Raises:
            ConfigError: it is another config.
            WorkspaceError: the split or the features have changed since.
        """
        run = self.run(planned)
        path, inputs = run / "config.yaml", run / "inputs.json"
        if not (path.exists() and inputs.exists()):
            return
        begun, now = load(TrainConfig, path).model_dump(), planned.config.model_dump()
        free = may_change(planned.config) if begun["epochs"] <= now["epochs"] else frozenset()
        changed = [name for name in now if begun[name] != now[name] and name not in free]
        if changed:
            raise ConfigError(
                f"{run} was begun with another config ({', '.join(changed)} changed). Choose another --out, or "
                "delete it."
            )
        store, split = FeatureStore(self.workspace.store), planned.config.split
        experts = planned.config.experts or learnable(store, load_split(self.workspace, split))
        current = {
            "prepare": annotations_fingerprint(self.workspace, split),
            "extract": store.fingerprint(experts),
        }
        if old := [stage for stage, made in current.items() if read_json(inputs).get(stage) != made]:
            raise WorkspaceError(f"{run} was begun before {' and '.join(old)} changed. Choose another --out.")

    def validation_rsum(self, planned: PlannedRun) -> float | None:
        """The best validation RSUM of a finished run, None where the split has no validation part."""
        found: float | None = read_manifest(self.run(planned), "vtr train")["best_validation_rsum"]
        return found

    def ranks(self, planned: PlannedRun, split: str, part: Part) -> Path:
        """The ranks of every query of a run that was evaluated."""
        return self.run(planned) / "evaluation" / f"{split}-{part}.ranks.parquet"

    def is_evaluated(self, planned: PlannedRun, split: str, part: Part) -> bool:
        """Whether the run's present model was evaluated on the present split."""
        ranks = self.ranks(planned, split, part)
        result = ranks.with_name(f"{split}-{part}.json")
        if not (ranks.exists() and result.exists()):
            return False
        content, trained = read_json(result), read_manifest(self.run(planned), "vtr train")
        current = annotations_fingerprint(self.workspace, split)
        return bool(content["checkpoint"]["output"] == trained["output"] and content["inputs"]["prepare"] == current)


@dataclass(frozen=True)
class How:
    """How runs are made.

    Attributes:
        parallel: how many at a time.
        device, available_only: see `vtr train`.
    """

    parallel: int = 1
    device: str = "auto"
    available_only: bool = False

    @property
    def options(self) -> list[str]:
        """The options of `vtr train` and `vtr evaluate`."""
        return ["--device", self.device, *(["--available-only"] if self.available_only else [])]

    @property
    def threads(self) -> int:
        """The threads each process may use."""
        return max(1, len(os.sched_getaffinity(0)) // self.parallel)


@dataclass(frozen=True)
class Job:
    """A run that is to be trained, and to be evaluated on a part of a split where one is named."""

    planned: PlannedRun
    report: tuple[str, Part] | None = None


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
        what: the run.
        stage: "train" or "evaluate".
        reason: how its process ended.
        tail: the last lines it wrote.
        output: the file that holds them all.
    """

    what: str
    stage: str
    reason: str
    tail: str
    output: Path

    def __str__(self) -> str:
        tail = "\n".join(f"    {line}" for line in self.tail.splitlines())
        return f"{self.what}: vtr {self.stage} {self.reason}; all it said is in {self.output}\n{tail}"


@dataclass
class Tally:
    """Counts the runs of a sweep as they are done, and says how long the rest will take.

    Attributes:
        total: runs in all.
    """

    total: int
    _done: set[str] = field(default_factory=set)
    _seconds: list[float] = field(default_factory=list)

    def done(self, planned: PlannedRun, words: str, seconds: float | None, parallel: int) -> None:
        """Print that a run is done; `seconds` is None where nothing was left to do."""
        self._done.add(planned.folder)
        took = "" if seconds is None else f", {duration(seconds)}"
        if seconds is not None:
            self._seconds.append(seconds)
        remaining = self.total - len(self._done)
        left = ""
        if remaining and self._seconds:
            mean = sum(self._seconds) / len(self._seconds)
            left = f"; about {duration(mean * -(-remaining // parallel))} left"
        say(f"run {len(self._done)} of {self.total}: {planned}: {words}{took}{left}")


@dataclass
class _Running:
    job: Job
    stages: list[str]
    started: float
    process: subprocess.Popen[bytes]


def carry_out(folder: SweepFolder, jobs: Iterable[Job], how: How, tally: Tally) -> list[Failure]:
    """Train and evaluate runs, some at a time; what is done is left as it is. All processes end with this call.

    Args:
        folder: where they lie.
        jobs: the runs.
        how: how they are made.
        tally: told of each.

    Returns:
        The runs that failed; the others are done.
    """
    waiting = list(jobs)
    running: list[_Running] = []
    failures: list[Failure] = []
    try:
        while waiting or running:
            while waiting and len(running) < how.parallel:
                job = waiting.pop(0)
                if stages := _stages(folder, job):
                    running.append(_Running(job, stages, time.monotonic(), _start(folder, job, stages[0], how)))
                else:
                    tally.done(job.planned, f"{_in_words(folder, job)} (done before)", None, how.parallel)
            time.sleep(POLL_SECONDS)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                after = _follow(folder, one, how, tally)
                if isinstance(after, Failure):
                    say(f"failed: {after}")
                    failures.append(after)
                elif after is not None:
                    running.append(after)
    finally:
        _end([one.process for one in running])
    return failures


def _stages(folder: SweepFolder, job: Job) -> list[str]:
    """Return the commands that a run still needs."""
    trained = folder.is_trained(job.planned)
    evaluated = job.report is None or (trained and folder.is_evaluated(job.planned, *job.report))
    return [*([] if trained else ["train"]), *([] if evaluated else ["evaluate"])]


def _start(folder: SweepFolder, job: Job, stage: str, how: How) -> subprocess.Popen[bytes]:
    planned = job.planned
    run, output = str(folder.run(planned)), folder.output(planned)
    if stage == "train":
        write_text(folder.config(planned), dump(planned.config))
        arguments = [str(folder.workspace.root), "--config", str(folder.config(planned)), "--out", run]
    else:
        assert job.report is not None
        arguments = [run, "--split", job.report[0], "--part", job.report[1]]
    output.parent.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": str(how.threads), **os.environ}  # the user's own number goes first
    with output.open("wb" if stage == "train" else "ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "vtr.cli", stage, *arguments, *how.options],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others
            preexec_fn=die_with_parent,
        )


def _follow(folder: SweepFolder, ended: _Running, how: How, tally: Tally) -> _Running | Failure | None:
    """Return what comes after a process: the run's next one, a failure, or nothing."""
    job, (stage, *later) = ended.job, ended.stages
    if status := ended.process.returncode:
        output = folder.output(job.planned)
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        return Failure(str(job.planned), stage, _reason(status), "\n".join(lines[-TAIL_LINES:]), output)
    if later:
        return _Running(job, later, ended.started, _start(folder, job, later[0], how))
    tally.done(job.planned, _in_words(folder, job), time.monotonic() - ended.started, how.parallel)
    return None


def _reason(status: int) -> str:
    if status > 0:
        return f"ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"was killed ({signal.Signals(-status).name})"
    return f"was killed (signal {-status})"


def _in_words(folder: SweepFolder, job: Job) -> str:
    rsum = folder.validation_rsum(job.planned)
    words = "no validation part" if rsum is None else f"validation RSUM {rsum:.1f}"
    if job.report is not None:
        result = folder.ranks(job.planned, *job.report).with_name(f"{job.report[0]}-{job.report[1]}.json")
        words += f", {' '.join(job.report)} RSUM {read_json(result)['rsum']:.1f}"
    return words


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes and what they started; those that do not listen are killed."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, sent)
        until = time.monotonic() + GRACE_SECONDS
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
