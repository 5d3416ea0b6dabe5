"""Processes of this one: started with the environment and signals they should have, and ended for sure."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from vtr.errors import VtrError

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
POLITE_SECONDS = 2.0


class ChildDied(VtrError):
    """A process ended before it was ready."""


class Child:
    """A process and our end of its pipe.

    Args:
        target: called in the process with its end of the pipe and `arguments`.
        arguments: what else it is given.
        environment: variables that differ from ours.
    """

    def __init__(
        self, target: Callable[..., None], arguments: Sequence[Any], environment: Mapping[str, str] | None = None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        with _environment(environment or {}), _interrupts_held_back():
            self.process.start()
        theirs.close()

    def first_message(self, what: str) -> Any:
        """Return what the process says once it has loaded its experts.

        Raises:
            VtrError: it could not load them.
            ChildDied: it died.
        """
        try:
            message = self.connection.recv()
        except EOFError as error:
            self.process.join()
            raise ChildDied(
                f"{what} ended while loading its experts (status {self.process.exitcode}). "
                "Run with --workers 1 and fewer --experts to find the one at fault."
            ) from error
        if isinstance(message, VtrError):
            raise message
        return message

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
