"""Features of an upload, extracted in a process that can be killed: it hangs or dies with a bad file, not the server.

The process is kept for the next upload, since starting it takes longer than reading a short clip. What it answers is a
byte that says which kind of answer it is, and text or an .npz file: nothing that could run code here.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from vtr.errors import InputError, UnavailableError, VtrError
from vtr.parent import die_with_parent
from vtr.serving.batching import SlowError
from vtr.types import ExpertFeatures

Extract = Callable[[Path], Mapping[str, ExpertFeatures]]
"""A video file -> expert -> features. It is called in another process, so it must be importable by name there."""

FEATURES, NO_VIDEO, UNABLE = b"f", b"n", b"u"
NICER = 10
IDLE_SECONDS = 300.0
"""After so long without an upload the process ends, and its memory is free."""

VALUES, STARTS, ENDS = "values", "start_seconds", "end_seconds"


class Extraction:
    """Reads one upload at a time.

    Args:
        extract: see there.
        timeout_seconds: how long reading one may take.
    """

    def __init__(self, extract: Extract, timeout_seconds: float) -> None:
        self._extract = extract
        self.timeout_seconds = timeout_seconds
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "extraction")  # one thread: a process dies with the thread it came from
        self._guarded = threading.Lock()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._idle_since = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether a file is being read."""
        return self._turn.locked()

    async def features(self, path: Path) -> dict[str, ExpertFeatures]:
        """Return what is found in a file. Cancelling kills the process that reads it.

        Raises:
            InputError: the file is no video, nothing is found in it, or reading it killed the process.
            SlowError: it took too long.
            UnavailableError: what reads videos is not installed.
        """
        async with self._turn:
            stop = threading.Event()
            asked = asyncio.get_running_loop().run_in_executor(self._thread, self._ask, path, stop)
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    kind, content = await asyncio.shield(asked)
            except TimeoutError as error:
                raise SlowError(f"reading the video took longer than {self.timeout_seconds:g} seconds.") from error
            finally:
                if not asked.done():
                    stop.set()
                    self._kill()
                    await asked
                self._idle_since = time.monotonic()
        if kind == FEATURES:
            return _unpack(content)
        message = content.decode()
        raise InputError(message) if kind == NO_VIDEO else UnavailableError(message)

    async def rest(self) -> None:
        """End the process where it has had nothing to do for long."""
        if not self.busy and time.monotonic() - self._idle_since > IDLE_SECONDS:
            self._kill()

    async def close(self) -> None:
        """End the process."""
        self._kill()
        await asyncio.to_thread(self._thread.shutdown)

    def _ask(self, path: Path, stop: threading.Event) -> tuple[bytes, bytes]:
        """Return the answer of the process; called in the extraction thread."""
        with self._guarded:
            if stop.is_set():
                return UNABLE, b"nobody waits for it any more."
            if self._process is None or not self._process.is_alive():
                self._start()
            connection = self._connection
        assert connection is not None
        try:
            connection.send_bytes(os.fsencode(path))
            answer = connection.recv_bytes()
        except (EOFError, OSError):
            self._kill()
            return NO_VIDEO, b"reading it ended the process that reads videos. Give another file, or convert it."
        return answer[:1], answer[1:]

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._extract), daemon=True, name="extraction")
        self._process.start()
        theirs.close()

    def _kill(self) -> None:
        with self._guarded:
            process, self._process = self._process, None
            if process is not None:
                process.kill()
                process.join()
                process.close()


def _work(connection: Connection, extract: Extract) -> None:
    """Answer until the server ends."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when to stop
    os.nice(NICER)  # searches come first
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send_bytes(_read(Path(os.fsdecode(connection.recv_bytes())), extract))


def _read(path: Path, extract: Extract) -> bytes:
    try:
        return FEATURES + _pack(extract(path))
    except InputError as error:
        return NO_VIDEO + str(error).encode()
    except VtrError as error:
        return UNABLE + str(error).encode()


def _pack(features: Mapping[str, ExpertFeatures]) -> bytes:
    stored = io.BytesIO()
    arrays = {}
    for name, found in features.items():
        arrays[f"{name}/{VALUES}"] = found.values
        arrays[f"{name}/{STARTS}"], arrays[f"{name}/{ENDS}"] = found.start_seconds, found.end_seconds
    np.savez(stored, **arrays)  # type: ignore[arg-type]
    return stored.getvalue()


def _unpack(content: bytes) -> dict[str, ExpertFeatures]:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        names = dict.fromkeys(key.rpartition("/")[0] for key in stored.files)
        return {name: ExpertFeatures(*(stored[f"{name}/{what}"] for what in (VALUES, STARTS, ENDS))) for name in names}
