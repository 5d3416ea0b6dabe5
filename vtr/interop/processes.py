"""Doing tasks in worker processes that stop with their parent, however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.synchronize import Event
from typing import TypeVar

from vtr.errors import VtrError
from vtr.parent import die_with_parent

Task = TypeVar("Task")

_asked_to_stop: Event | None = None
"""In a worker: set when the parent wants no more."""


class Stopped(Exception):
    """A worker ended its task because its parent asked it to."""


def check_stop() -> None:
    """End a worker's task if its parent wants no more. Tasks call it often; outside a worker it does nothing.

    Raises:
        Stopped: it does not.
    """
    if _asked_to_stop is not None and _asked_to_stop.is_set():
        raise Stopped


def each_done(do: Callable[[Task], None], tasks: Sequence[Task], workers: int) -> Iterator[Task]:
    """Do every task, and yield each as it is done; with one worker, here, in order.

    Args:
        do: a function that a new process can import; it writes what it makes to disk.
        tasks: what to do.
        workers: how many processes; 0 means one a core.

    Raises:
        VtrError: a task failed so, or a worker died.
    """
    workers = min(workers or os.cpu_count() or 1, len(tasks))
    if workers > 1:
        yield from _in_processes(do, tasks, workers)
        return
    for task in tasks:
        do(task)
        yield task


def _in_processes(do: Callable[[Task], None], tasks: Sequence[Task], workers: int) -> Iterator[Task]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(stop,))
    try:
        with _interrupts_held_back():
            futures = {executor.submit(do, task): task for task in tasks}
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    except BrokenProcessPool as error:
        raise VtrError(
            "a worker process died, perhaps for want of memory. Run the same command again with fewer --workers; "
            "finished work is kept."
        ) from error
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _start_worker(stop: Event) -> None:
    global _asked_to_stop
    _asked_to_stop = stop
    die_with_parent()  # what follows needs Python's lock, which a library that waits for a file may hold
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # nobody is left to tell


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Keep a terminal's Ctrl-C from processes started inside the block; ours comes when the block is left."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
