"""The worker processes: started with one thread each, watched, and replaced when they die or hang."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from feature_extraction.ledger import ALL_EXPERTS, Failure
from feature_extraction.spool import Spool, Spooled
from feature_extraction.worker import At, Ready, Task, run_worker
from vtr.config import ExtractConfig
from vtr.errors import VtrError

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
POLITE_SECONDS = 2.0
LIMIT_FACTOR = 5
"""A video may take this many times `timeout_seconds` in all (two readers, the sound, the experts)."""


class Slot:
    """One worker process and the task it is at."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self.process, self.connection = process, connection
        self.task: Task | None = None
        self.expert: str | None = None
        self.ready = False
        self.since = time.monotonic()

    def give(self, task: Task) -> None:
        """Hand the worker a task.

        Raises:
            BrokenPipeError: it has died meanwhile.
        """
        self.connection.send(task)
        self.task, self.expert, self.since = task, None, time.monotonic()

    def terminate(self) -> None:
        """Ask the process to end, so that it frees what it holds."""
        self.process.terminate()

    def stop(self) -> None:
        """End the process: politely, then by force."""
        self.terminate()
        self.process.join(POLITE_SECONDS)
        self.process.kill()
        self.process.join()
        self.connection.close()


class Pool:
    """Runs tasks on worker processes. Use it as an iterator: `for task, failures in pool.run(tasks)`.

    Args:
        workers: how many processes.
        config, experts, extractors, spool: for the workers; see `feature_extraction.worker.run_worker`.
    """

    def __init__(
        self,
        workers: int,
        config: ExtractConfig,
        experts: Sequence[str],
        extractors: Mapping[str, str],
        spool: Spool,
    ) -> None:
        self._arguments = (config, tuple(experts), dict(extractors), spool)
        self._spool = spool
        self._limit_seconds = LIMIT_FACTOR * config.timeout_seconds
        self._context = multiprocessing.get_context("spawn")
        self._queue: list[Task] = []
        self._blamed: dict[str, tuple[Failure, ...]] = {}
        self._slots: list[Slot] = []
        self.ready: Ready | None = None
        try:
            for _ in range(workers):
                self._slots.append(self._start())
        except BaseException:
            self.close()
            raise

    def _start(self) -> Slot:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=run_worker, args=(theirs, *self._arguments), daemon=True)
        with _environment(ONE_THREAD), _interrupts_held_back():
            process.start()
        theirs.close()
        return Slot(process, ours)

    def wait_ready(self) -> Ready:
        """Return what the first worker has loaded.

        Raises:
            VtrError: a worker could not start.
        """
        while self.ready is None:
            self._ready(self._slots[0])
        return self.ready

    def _ready(self, slot: Slot) -> None:
        try:
            message = slot.connection.recv()
        except EOFError as error:
            slot.process.join()
            raise VtrError(
                f"an extraction worker ended while loading its experts (status {slot.process.exitcode}). "
                "Run with --set workers=1 and fewer --experts to find the one at fault."
            ) from error
        if isinstance(message, VtrError):
            raise message
        slot.ready = True
        self.ready = self.ready or message

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, tuple[Failure, ...]]]:
        """Yield each task as it is done, with its failures.

        A worker that dies or hangs is replaced. The expert it was at gets the blame and the video goes back to the
        queue for the others; if it was at none, the whole video has failed.

        Raises:
            VtrError: a worker could not be started, or not write.
        """
        self._queue = list(reversed(tasks))
        while self._queue or any(slot.task for slot in self._slots):
            for place, slot in enumerate(self._slots):
                if self._queue and slot.ready and slot.task is None:
                    self._give(place, slot)
            waiting = [slot.connection for slot in self._slots if slot.task or not slot.ready]
            answered = wait(waiting, timeout=1.0)
            for place, slot in enumerate(self._slots):
                if slot.connection in answered:
                    yield from self._answer(place, slot)
                elif slot.task and time.monotonic() - slot.since > self._limit_seconds:
                    yield from self._replace(place, slot, f"no answer within {self._limit_seconds:g} seconds")

    def _give(self, place: int, slot: Slot) -> None:
        try:
            slot.give(self._queue[-1])
        except BrokenPipeError:  # it died between two videos; the next one is not to blame
            slot.stop()
            self._slots[place] = self._start()
        else:
            self._queue.pop()

    def _answer(self, place: int, slot: Slot) -> Iterator[tuple[Task, tuple[Failure, ...]]]:
        if not slot.ready:
            self._ready(slot)
            return
        assert slot.task is not None
        try:
            message = slot.connection.recv()
        except (EOFError, ConnectionResetError):
            slot.process.join()
            yield from self._replace(place, slot, f"the worker died with status {slot.process.exitcode}")
            return
        if isinstance(message, VtrError):
            raise message
        if isinstance(message, At):
            slot.expert = message.expert
            return
        task, slot.task = slot.task, None
        yield task, (*self._blamed.pop(task.video_id, ()), *message.failures)

    def _replace(self, place: int, slot: Slot, reason: str) -> Iterator[tuple[Task, tuple[Failure, ...]]]:
        task, expert = slot.task, slot.expert
        assert task is not None
        slot.stop()
        self._slots[place] = self._start()
        failure = Failure(task.video_id, expert or ALL_EXPERTS, "worker", reason)
        blamed = (*self._blamed.pop(task.video_id, ()), failure)
        others = tuple(name for name in task.experts if name != expert)
        if expert is not None and others:
            self._blamed[task.video_id] = blamed
            self._queue.append(replace(task, experts=others))
            return
        self._spool.put(Spooled(task.video_id, {}, (), blamed))
        yield task, blamed

    def close(self) -> None:
        """End all workers."""
        for slot in self._slots:
            slot.terminate()
        for slot in self._slots:
            slot.stop()


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Keep a terminal's Ctrl-C from processes started inside the block, also before they are up; the parent ends them.

    Ours comes when the block is left.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for what is started inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
