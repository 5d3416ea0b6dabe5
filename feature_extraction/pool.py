"""The worker processes: started with one thread each, watched, and replaced when they die or hang."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from feature_extraction.ledger import ALL_EXPERTS, Failure
from feature_extraction.spool import Spool
from feature_extraction.worker import Ready, Task, run_worker
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
        self.ready = False
        self.since = time.monotonic()

    def give(self, task: Task) -> None:
        """Hand the worker a task."""
        self.task, self.since = task, time.monotonic()
        self.connection.send(task)

    def stop(self) -> None:
        """End the process: politely, so that it frees what it holds, then by force."""
        self.process.terminate()
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
        self._limit_seconds = LIMIT_FACTOR * config.timeout_seconds
        self._context = multiprocessing.get_context("spawn")
        self._slots = [self._start() for _ in range(workers)]
        self.ready: Ready | None = None

    def _start(self) -> Slot:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=run_worker, args=(theirs, *self._arguments), daemon=True)
        with _environment(ONE_THREAD):
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
        if not isinstance(message, Ready):
            raise VtrError(f"an extraction worker could not load its experts: {message}")
        slot.ready = True
        self.ready = self.ready or message

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, tuple[Failure, ...]]]:
        """Yield each task as it is done, with its failures.

        Raises:
            VtrError: a worker could not be started.
        """
        queue = list(reversed(tasks))
        while queue or any(slot.task for slot in self._slots):
            for slot in self._slots:
                if queue and slot.ready and slot.task is None:
                    slot.give(queue.pop())
            waiting = [slot.connection for slot in self._slots if slot.task or not slot.ready]
            answered = wait(waiting, timeout=1.0)
            for place, slot in enumerate(self._slots):
                if slot.connection in answered:
                    yield from self._answer(place, slot)
                elif slot.task and time.monotonic() - slot.since > self._limit_seconds:
                    reason = f"no answer within {self._limit_seconds:g} seconds"
                    yield self._replace(place, slot, reason)

    def _answer(self, place: int, slot: Slot) -> Iterator[tuple[Task, tuple[Failure, ...]]]:
        if not slot.ready:
            self._ready(slot)
            return
        assert slot.task is not None
        try:
            message = slot.connection.recv()
        except (EOFError, ConnectionResetError):
            slot.process.join()
            yield self._replace(place, slot, f"the worker died with status {slot.process.exitcode}")
            return
        if isinstance(message, str):
            raise VtrError(f"an extraction worker failed over {slot.task.video_id}: {message}")
        task, slot.task = slot.task, None
        yield task, message

    def _replace(self, place: int, slot: Slot, reason: str) -> tuple[Task, tuple[Failure, ...]]:
        task = slot.task
        assert task is not None
        slot.stop()
        self._slots[place] = self._start()
        return task, (Failure(task.video_id, ALL_EXPERTS, "worker", reason),)

    def close(self) -> None:
        """End all workers."""
        for slot in self._slots:
            slot.stop()


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
