"""What runs on the machines of a Ray cluster: a local engine, asked for blocks of videos."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import pickle
import platform
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from feature_extraction.ledger import Failure
from feature_extraction.plan import Task
from feature_extraction.pool import Pool
from feature_extraction.spool import Spool, Spooled
from feature_extraction.worker import Ready
from vtr import __version__
from vtr.errors import UnavailableError, VtrError
from vtr.extract_config import ExtractConfig


@dataclass(frozen=True, slots=True)
class Setup:
    """What an actor is made from.

    Attributes:
        workers: processes that decode.
        config, experts, extractors: see `feature_extraction.pool.Pool`; `config.devices` is the actor's own.
        version: of vtr on the driver; the actors' must be the same.
        ready: what the first machine loaded; the others' experts must be the same.
    """

    workers: int
    config: ExtractConfig
    experts: tuple[str, ...]
    extractors: Mapping[str, str]
    version: str = __version__
    ready: Ready | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished video. `peak_bytes`: the most memory that one worker of the actor has held with its decoder."""

    done: Spooled
    peak_bytes: int


class Attempts:
    """Counts, on the driver's machine, how often blocks are begun: Ray would try one that kills its actor for ever."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun: Counter[str] = Counter()

    def may_begin(self, block: str) -> bool:
        """Return whether the block, named by its first video, may be tried once more, and count that."""
        self._begun[block] += 1
        return self._begun[block] <= self._limit


class ActorFolder:
    """The folder of one process in the temporary folder; everything temporary of it and its children goes there.

    It is locked as long as the process lives, so that what killed ones left behind can be told apart, and is removed.
    """

    def __init__(self) -> None:
        self._parent = Path(tempfile.gettempdir())
        for old in self._parent.glob("vtr-ray-*"):
            with contextlib.suppress(OSError):  # in use, or another user's
                os.close(_locked(old))
                shutil.rmtree(old)
        new = Path(tempfile.mkdtemp(prefix="vtr-new-"))
        self._lock = _locked(new)
        self.path = new.rename(new.with_name(new.name.replace("vtr-new-", "vtr-ray-")))
        self._point_to(self.path)

    def _point_to(self, folder: Path) -> None:
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)

    def remove(self) -> None:
        """Remove the folder."""
        self._point_to(self._parent)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _locked(folder: Path) -> int:
    """Return a descriptor that holds a lock on a folder.

    Raises:
        OSError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class VideoActor:
    """Runs on a machine of the cluster: a local engine with its spool in a temporary folder.

    Nothing is raised here, as to Ray an exception is a block that may be lost: what ends the run is sent as an answer.
    """

    def __init__(self, setup: Setup, attempts: Any = None) -> None:
        self._attempts = attempts
        _spare_children_ray()
        self._error: VtrError | None = None
        self._pool: Pool | None = None
        self._folder: ActorFolder | None = None
        self._node = platform.node()
        try:
            self._folder = ActorFolder()
            self._spool = Spool(self._folder.path / "spool", {})
            if setup.version != __version__:
                raise VtrError(f"vtr {__version__} is installed, the driver has {setup.version}; install the same.")
            self._pool = Pool(setup.workers, setup.config, setup.experts, setup.extractors, self._spool)
            self.ready = self._pool.wait_ready()
            if setup.ready is not None:
                _check_same(self.ready, setup.ready)
        except Exception as error:
            self._error = self._named(error)

    def _named(self, error: Exception) -> VtrError:
        kind = type(error) if isinstance(error, VtrError) else VtrError
        words = str(error) if isinstance(error, VtrError) else f"{type(error).__name__}: {error}"
        return kind(f"machine {self._node} of the Ray cluster: {words}")

    def result(self) -> Ready | VtrError:
        """Return what is loaded, or why the actor cannot work."""
        return self._error or self.ready

    def __call__(self, block: Any) -> Iterator[Any]:
        """Yield a table with one pickled Answer for each pickled Task of the column "task", in order.

        A VtrError in its place ends the run; None is a video that was lost too often. Ray hands over at once what a
        block yields, and counts it: a block that is done again must yield the same videos at the same places.
        """
        ray = importlib.import_module("ray")
        tasks = [pickle.loads(task) for task in block["task"].to_pylist()]
        may_begin = ray.get(self._attempts.may_begin.remote(tasks[0].video_id))
        for answer in self._answers(tasks) if may_begin else ((task.video_id, None) for task in tasks):
            yield pa.table({"answer": pa.array([pickle.dumps(answer)], pa.large_binary())})

    def _answers(self, tasks: Sequence[Task]) -> Iterator[tuple[str, Answer | VtrError]]:
        """Yield (video id, answer) in the order of the tasks."""
        order = [task.video_id for task in reversed(tasks)]
        waiting: dict[str, Answer] = {}
        try:
            if self._error is not None:
                raise self._error
            assert self._pool is not None
            for task, failures in self._pool.run(tasks):
                waiting[task.video_id] = self._answer(task, failures)
                while order and order[-1] in waiting:
                    video_id = order.pop()
                    yield video_id, waiting.pop(video_id)
        except Exception as error:
            self._error = self._error or self._named(error)
            if order:
                yield order[-1], self._error

    def _answer(self, task: Task, failures: Sequence[Failure]) -> Answer:
        assert self._pool is not None
        done = self._spool.get(task.video_id) or task.nothing_read(())
        self._spool.drop([task.video_id])
        done = replace(done, failures=tuple(self._placed(failure, task) for failure in failures))
        return Answer(done, self._pool.peak_bytes)

    def _placed(self, failure: Failure, task: Task) -> Failure:
        """Return the failure with the machine's name, if it may be that only this machine lacks the file."""
        if failure.stage not in ("fetch", "open") or (failure.stage == "open" and Path(task.path).exists()):
            return failure
        return replace(failure, message=f"{failure.message} (on machine {self._node})")

    def close(self) -> None:
        """End all processes and remove what is spooled."""
        if self._pool is not None:
            self._pool.close()
        if self._folder is not None:
            self._folder.remove()
        self._pool = self._folder = None

    def __del__(self) -> None:
        """Ray ends actors by dropping what they hold."""
        with contextlib.suppress(Exception):
            self.close()


def _spare_children_ray() -> None:
    """Keep child processes from importing this process's main module, Ray's, which takes a second and 100 MB each."""
    main = sys.modules["__main__"]
    if Path(getattr(main, "__file__", None) or "").name == "default_worker.py":
        del main.__file__


def _check_same(here: Ready, there: Ready) -> None:
    for expert, spec in there.specs.items():
        if expert not in here.specs:
            reason = here.unavailable.get(expert, "it is not known")
            raise UnavailableError(
                f"the expert {expert} cannot be loaded ({reason}), on other machines it can. Install it there too, or "
                "leave it out with --experts."
            )
        if here.specs[expert] != spec:
            raise VtrError(
                f"the expert {expert} is {here.specs[expert]}, on another machine it is {spec}. Install the same "
                "packages and weights on all machines."
            )


def load(setup: Setup) -> bytes:
    """Return, pickled, what an actor loads or why it cannot; runs on a machine of the cluster."""
    actor = VideoActor(setup)
    try:
        return pickle.dumps(actor.result())
    finally:
        actor.close()
