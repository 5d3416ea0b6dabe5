"""The parent's end of the decoder's child process: it never waits longer than it wants to."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_extraction.wire import HEADER, Chunk, FrameRequest, Message


class TimedOutError(Exception):
    """The child did not answer in time."""


class DiedError(Exception):
    """The child has ended; `status` is its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Child:
    """A running decoder process.

    Args:
        command: starts it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            process_group=0,  # a terminal's Ctrl-C is for the parent, which decides what becomes of the video
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self.patience_seconds = 0.0

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def runs(self) -> bool:
        """Return whether it is there to be asked."""
        return self._process.poll() is None

    def ask(self, request: FrameRequest, timeout_seconds: float) -> None:
        """Send a request; all waiting for its answers together may take `timeout_seconds`."""
        self.patience_seconds = timeout_seconds
        message = pickle.dumps(request)
        with contextlib.suppress(BrokenPipeError):  # a child that has died is found out by `receive`
            whole = memoryview(HEADER.pack(len(message)) + message)
            while whole:
                whole = whole[self._in.write(whole) :]

    def receive(self) -> tuple[Message, list[NDArray[np.uint8]]]:
        """Return the next message, and the pictures of a chunk, look by look.

        Raises:
            TimedOutError, DiedError: there is none; close the child.
        """
        (size,) = HEADER.unpack(self._read(bytearray(HEADER.size)))
        message: Message = pickle.loads(self._read(bytearray(size)))
        images = []
        if isinstance(message, Chunk):
            images = [np.empty(shape, np.uint8) for shape in message.shapes]
            for pixels in images:
                self._read(pixels.reshape(-1).data)
        return message, images

    def _read(self, buffer: Any) -> Any:
        left = memoryview(buffer)
        while left:
            before = time.monotonic()
            ready = self._poll.poll(max(0.0, self.patience_seconds) * 1000)
            self.patience_seconds -= time.monotonic() - before
            if not ready:
                raise TimedOutError
            got = os.readv(self._out.fileno(), [left])
            if not got:
                raise DiedError(self._process.wait())
            left = left[got:]
        return buffer

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._in, self._out):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
