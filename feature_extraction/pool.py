"""The local engine: worker processes that are watched and replaced, and one process a device that holds the models."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Protocol

from feature_extraction.children import ONE_THREAD, Child, ChildDied
from feature_extraction.ledger import ALL_EXPERTS, Failure, Kind
from feature_extraction.model_server import devices, run_model_server
from feature_extraction.plan import Task
from feature_extraction.spool import Spool
from feature_extraction.worker import NOBODY, At, Done, Models, Ready, run_worker
from vtr.errors import VtrError
from vtr.extract_config import ExtractConfig

LIMIT_FACTOR = 5
"""Decoding the next piece of a video, or an expert's turn with it, may take this many times `timeout_seconds` (two
readers, the sound); a worker that is at it longer hangs."""
START_TRIES = 3
"""How many workers in a row may die while loading before that is taken for a defect."""

Outcome = tuple[Task, tuple[Failure, ...]]


class Engine(Protocol):
    """What reads videos: worker processes here, or those of a cluster.

    Attributes:
        peak_bytes: the most memory that one worker with its decoder has held, as far as seen.
    """

    peak_bytes: int

    def wait_ready(self) -> Ready:
        """Return what the experts are, once loaded."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Yield each task once it is done and in the spool, with its failures."""

    def close(self) -> None:
        """End all processes."""


class Server:
    """One model server and how workers reach it."""

    def __init__(self, device: str, address: Path, arguments: tuple[object, ...]) -> None:
        self.device, self.address = device, address
        self.child = Child(run_model_server, (str(address), *arguments, device))
        self.models: Models | None = None

    def wait_serving(self) -> Models:
        """Return which experts it serves, once their models are loaded.

        Raises:
            VtrError: it could not start.
        """
        if self.models is None:
            serving = self.child.first_message(f"the process that holds the models on {self.device}")
            self.models = Models(str(self.address), serving.experts, serving.unavailable)
        return self.models


class Slot:
    """One worker process and the task it is at.

    Attributes:
        place: which model server it asks, if there are any.
        task: what it is at; None when it is idle.
        expert: who is at work on it; NOBODY while the video is being decoded.
        alone: whether the task is tried without any other beside it.
    """

    def __init__(self, child: Child, place: int) -> None:
        self.child, self.place = child, place
        self.task: Task | None = None
        self.expert = NOBODY
        self.alone = False
        self.ready = False
        self.since = time.monotonic()

    def give(self, task: Task, *, alone: bool) -> None:
        """Hand the worker a task.

        Raises:
            BrokenPipeError: it has died meanwhile.
        """
        self.child.connection.send(task)
        self.task, self.alone = task, alone
        self.at(NOBODY)

    def at(self, expert: str) -> None:
        """Note who is at work now."""
        self.expert, self.since = expert, time.monotonic()


class Pool:
    """Runs tasks on worker processes. Use it as an iterator: `for task, failures in pool.run(tasks)`.

    A worker that dies or hangs is replaced; the expert it was at gets the blame and the video goes back to the queue
    for the others. When a model server dies or hangs, any of the videos that waited for it may be to blame: each is
    tried again alone, and only what fails alone is blamed.

    Args:
        workers: how many processes.
        config, experts, extractors, spool: for the workers; see `feature_extraction.worker.run_worker`.

    Raises:
        VtrError: a process could not start.
    """

    def __init__(
        self, workers: int, config: ExtractConfig, experts: Sequence[str], extractors: Mapping[str, str], spool: Spool
    ) -> None:
        self._arguments = (config, tuple(experts), dict(extractors))
        self._spool = spool
        self._limit_seconds = LIMIT_FACTOR * config.timeout_seconds
        self._queue: list[Task] = []
        self._suspects: list[Task] = []
        self._losses: Counter[str] = Counter()
        self._blamed: dict[str, tuple[Failure, ...]] = {}
        self._sockets: Path | None = None
        self._servers: list[Server] = []
        self._slots: list[Slot] = []
        self._started_servers = self._failed_starts = 0
        self.ready: Ready | None = None
        self.peak_bytes = 0
        try:
            for device in devices(config):
                self._servers.append(self._start_server(device))
            for number in range(workers):
                self._slots.append(self._start(number % max(len(self._servers), 1)))
        except BaseException:
            self.close()
            raise

    def _start_server(self, device: str) -> Server:
        self._started_servers += 1
        self._sockets = self._sockets or Path(tempfile.mkdtemp(prefix="vtr-models-"))
        return Server(device, self._sockets / str(self._started_servers), self._arguments)

    def _start(self, place: int) -> Slot:
        models = self._wait_serving(place) if self._servers else Models()
        return Slot(Child(run_worker, (*self._arguments, self._spool, self._spool.scratch, models), ONE_THREAD), place)

    def _wait_serving(self, place: int) -> Models:
        """Return what a model server serves; one that died while loading is replaced, as it may have been killed."""
        for _ in range(START_TRIES - 1):
            try:
                return self._servers[place].wait_serving()
            except ChildDied:
                self._servers[place].child.stop()
                self._servers[place] = self._start_server(self._servers[place].device)
        return self._servers[place].wait_serving()

    def wait_ready(self) -> Ready:
        """Return what the first worker has loaded.

        Raises:
            VtrError: a worker could not start.
        """
        while self.ready is None:
            self._ready(0, self._slots[0])
        return self.ready

    def _ready(self, number: int, slot: Slot) -> None:
        """Take a worker's first message; one that died while loading is replaced, as it may have been killed."""
        try:
            message = slot.child.first_message("an extraction worker")
        except ChildDied:
            self._failed_starts += 1
            if self._failed_starts == START_TRIES:
                raise
            slot.child.stop()
            self._slots[number] = self._start(slot.place)
            return
        if self.ready is not None and message.specs != self.ready.specs:
            lost = ", ".join(f"{name} ({why})" for name, why in message.unavailable.items())
            raise VtrError(
                f"a process that was started again has other experts than before: {lost or 'their weights changed'}. "
                "What is finished is kept; see to it and run the same command again."
            )
        self._failed_starts = 0
        slot.ready = True
        self.ready = self.ready or message

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Yield each task as it is done, with its failures.

        Raises:
            VtrError: a worker could not be started, or not write.
        """
        self._queue = list(reversed(tasks))
        while self._queue or self._suspects or any(slot.task for slot in self._slots):
            self._hand_out()
            connections = [slot.child.connection for slot in self._slots if slot.task or not slot.ready]
            sentinels = [server.child.process.sentinel for server in self._servers]
            answered = wait([*connections, *sentinels], timeout=1.0)
            for place, server in enumerate(self._servers):
                if server.child.process.sentinel in answered:
                    server.child.process.join()  # it is ending; only then its status is known
                    yield from self._server_lost(place, f"died with status {server.child.process.exitcode}", "crash")
            for number, slot in enumerate(self._slots):
                if slot.child.connection in answered:
                    yield from self._answer(number, slot)
                elif self._is_overdue(slot):
                    yield from self._overdue(number, slot)

    def _is_overdue(self, slot: Slot) -> bool:
        """Return whether a worker is silent for too long; what it said while we were busy is still to be read."""
        return (
            slot.task is not None
            and time.monotonic() - slot.since > self._limit_seconds
            and not slot.child.connection.poll()
        )

    def _hand_out(self) -> None:
        """Give idle workers tasks: from the queue, or one suspect once all others are idle, and then nothing else."""
        if any(slot.task is not None and slot.alone for slot in self._slots):
            return
        for number, slot in enumerate(self._slots):
            if not slot.ready or slot.task is not None:
                continue
            if not self._suspects:
                if self._queue and self._give(number, self._queue[-1], alone=False):
                    self._queue.pop()
            elif not any(other.task for other in self._slots) and self._give(number, self._suspects[-1], alone=True):
                self._suspects.pop()
                return

    def _give(self, number: int, task: Task, *, alone: bool) -> bool:
        """Return whether a worker took a task; one that has died between two videos is replaced."""
        slot = self._slots[number]
        try:
            slot.give(task, alone=alone)
        except BrokenPipeError:
            slot.child.stop()
            self._slots[number] = self._start(slot.place)
            return False
        return True

    def _answer(self, number: int, slot: Slot) -> Iterator[Outcome]:
        if not slot.ready:
            self._ready(number, slot)
            return
        try:
            message = slot.child.connection.recv()
        except (EOFError, ConnectionResetError):
            slot.child.process.join()
            yield from self._replace(number, *_death(slot.child.process.exitcode))
            return
        if isinstance(message, VtrError):
            raise message
        if isinstance(message, At):
            slot.at(message.expert)
            return
        yield self._finished(slot, message)

    def _finished(self, slot: Slot, done: Done) -> Outcome:
        self.peak_bytes = max(self.peak_bytes, done.peak_bytes)
        assert slot.task is not None
        task, slot.task = slot.task, None
        return task, (*self._blamed.pop(task.video_id, ()), *done.failures)

    def _catch_up(self, slot: Slot) -> Iterator[Outcome]:
        """Read what a worker has said meanwhile: who is at work, or that the video is done."""
        with contextlib.suppress(EOFError, ConnectionResetError):
            while slot.ready and slot.task is not None and slot.child.connection.poll():
                message = slot.child.connection.recv()
                if isinstance(message, VtrError):
                    raise message
                if isinstance(message, At):
                    slot.at(message.expert)
                else:
                    yield self._finished(slot, message)

    def _overdue(self, number: int, slot: Slot) -> Iterator[Outcome]:
        reason = f"no answer within {self._limit_seconds:g} seconds"
        if self._servers and slot.expert in self._wait_serving(slot.place).served:
            yield from self._server_lost(slot.place, reason, "timeout")
        else:
            yield from self._replace(number, reason, "timeout")

    def _server_lost(self, place: int, reason: str, kind: Kind) -> Iterator[Outcome]:
        """Replace a model server with its workers. A video that was alone with it is to blame, others are suspects."""
        server = self._servers[place]
        served = server.models.served if server.models is not None else ()
        server.child.stop()
        server.address.unlink(missing_ok=True)
        self._servers[place] = self._start_server(server.device)
        for number, slot in enumerate(self._slots):
            if slot.place != place:
                continue
            yield from self._catch_up(slot)
            alone = slot.task is not None and slot.alone
            if alone and slot.task is not None:
                self._losses[slot.task.video_id] += 1
            if slot.task is not None and alone and (slot.expert in served or self._losses[slot.task.video_id] > 1):
                yield from self._replace(number, f"the process that holds the models {reason}", kind)
            else:
                if slot.task is not None:
                    self._suspects.append(slot.task)
                slot.child.stop()
                self._slots[number] = self._start(place)

    def _replace(self, number: int, reason: str, kind: Kind) -> Iterator[Outcome]:
        """Replace a worker and blame the expert it was at; the video goes back to the queue for the other experts."""
        slot = self._slots[number]
        task, expert = slot.task, slot.expert
        assert task is not None
        slot.child.stop()
        self._slots[number] = self._start(slot.place)
        done = self._spool.get(task.video_id) if expert == NOBODY else None
        if done is not None and set(task.experts) <= {*done.examined, *(failure.expert for failure in done.failures)}:
            yield task, (*self._blamed.pop(task.video_id, ()), *done.failures)  # it died with its work done
            return
        stage = "decode" if expert == NOBODY else "extract"
        failure = Failure(task.video_id, expert or ALL_EXPERTS, stage, kind, reason)
        blamed = (*self._blamed.pop(task.video_id, ()), failure)
        others = tuple(name for name in task.experts if name != expert)
        if expert != NOBODY and others:
            self._blamed[task.video_id] = blamed
            (self._suspects if slot.alone else self._queue).append(replace(task, experts=others))
            return
        self._spool.put(task.nothing_read(blamed))
        yield task, blamed

    def close(self) -> None:
        """End all processes."""
        children = [slot.child for slot in self._slots] + [server.child for server in self._servers]
        for child in children:
            child.terminate()
        for child in children:
            child.stop()
        self._slots, self._servers = [], []
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)


def _death(status: int | None) -> tuple[str, Kind]:
    """Return in words, and as a class, how a worker died."""
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        hint = ", as the kernel does when memory runs out" if -status == signal.SIGKILL else ""
        return f"the worker was killed by {name}{hint}", "crash"
    return f"the worker ended with status {status}", "crash"
