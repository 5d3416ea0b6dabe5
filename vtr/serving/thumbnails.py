"""Thumbnails: one frame of a video near a moment, painted by processes that can be killed, and kept for a while."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from vtr.serving.batching import BusyError
from vtr.serving.frames import HEADER

WIDTH = 320
PAINTERS = 2
PATIENCE_SECONDS = 10.0
"""How long a picture may take before its painter is killed."""

MOST_CACHED_BYTES = 64 << 20
MOST_WAITING = 400
ENTRY_BYTES = 512
"""What an entry of the cache takes beside its picture."""

Key = tuple[str, int, int, float | None]
COMMAND = (sys.executable, "-m", "vtr.serving.frames")


class Thumbnails:
    """Paints, and keeps the latest. Searches are not delayed: the painters are other processes, of lower priority.

    Args:
        observe: told where each came from: "cache", "made" or "failed".
        command: starts a painter.
        patience_seconds: see `PATIENCE_SECONDS`.
    """

    def __init__(
        self,
        observe: Callable[[str], None],
        command: tuple[str, ...] = COMMAND,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._observe = observe
        self._painters: asyncio.Queue[_Painter] = asyncio.Queue()
        self._all = [_Painter(command, patience_seconds) for _ in range(PAINTERS)]
        for painter in self._all:
            self._painters.put_nowait(painter)
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._bytes = 0
        self._painting: dict[Key, asyncio.Task[bytes]] = {}

    async def jpeg(self, path: Path, at_seconds: float | None) -> bytes:
        """Return a picture, empty where the video has none that can be read.

        Raises:
            BusyError: too many are waiting.
            OSError: the file is gone.
        """
        stat = await asyncio.to_thread(path.stat)
        at_seconds = None if at_seconds is None else round(at_seconds, 1)
        key: Key = (str(path), stat.st_mtime_ns, stat.st_size, at_seconds)
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            self._observe("cache")
            return known
        if key not in self._painting:
            if len(self._painting) >= MOST_WAITING:
                raise BusyError(f"{len(self._painting)} thumbnails are waiting already. Try again in a moment.")
            self._painting[key] = asyncio.create_task(self._paint(key))
        return await asyncio.shield(self._painting[key])  # others may wait for the same one

    async def close(self) -> None:
        """End the painters."""
        for task in list(self._painting.values()):
            task.cancel()
        await asyncio.gather(*self._painting.values(), return_exceptions=True)
        for painter in self._all:
            await painter.kill()

    async def _paint(self, key: Key) -> bytes:
        try:
            painter = await self._painters.get()
            try:
                picture = await painter.paint(key[0], key[3])
            finally:
                self._painters.put_nowait(painter)
            self._keep(key, picture)
            self._observe("made" if picture else "failed")
            return picture
        finally:
            del self._painting[key]

    def _keep(self, key: Key, picture: bytes) -> None:
        self._kept[key] = picture
        self._bytes += len(picture) + ENTRY_BYTES
        while self._bytes > MOST_CACHED_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest) + ENTRY_BYTES


class _Painter:
    """One process, started when it is needed; killed when it hangs, and replaced when it has died."""

    def __init__(self, command: tuple[str, ...], patience_seconds: float) -> None:
        self._command = command
        self._patience_seconds = patience_seconds
        self._process: asyncio.subprocess.Process | None = None

    async def paint(self, path: str, at_seconds: float | None) -> bytes:
        """Return a picture, empty where there is none."""
        request = json.dumps({"path": path, "at": at_seconds, "width": WIDTH}).encode() + b"\n"
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await self._ask(request)
        except (TimeoutError, asyncio.IncompleteReadError, BrokenPipeError, ConnectionResetError):
            await self.kill()
            return b""
        except BaseException:
            await self.kill()  # a half-read answer must not be taken for the next one's
            raise

    async def kill(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, request: bytes) -> bytes:
        if self._process is None:
            pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
            self._process = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe, stderr=null)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request)
        await process.stdin.drain()
        (size,) = HEADER.unpack(await process.stdout.readexactly(HEADER.size))
        return await process.stdout.readexactly(size)
