"""From where a video lies to files that a decoder can open: tar members and URLs are copied to a folder first."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal

import fsspec

from vtr.annotations.locators import Locator, parse
from vtr.annotations.tars import Member, TarIndex, find_images, read_index
from vtr.errors import InputError, VtrError, WorkspaceError
from vtr.files import TEMPORARY_PREFIX, cannot_write
from vtr.packaged import lacking

CHUNK_BYTES = 1 << 20
TARS_KNOWN = 64
"""Tar files whose indexes a process keeps; one of 10,000 videos takes about 3 MB."""


class SourceError(VtrError):
    """A video cannot be fetched.

    Attributes:
        kind: the class of reason, as the failure ledger has it.
        reason: why, in words.
    """

    def __init__(self, kind: Literal["not_fetched", "unreadable", "truncated", "timeout"], reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A video on this machine.

    Attributes:
        path: its file, or its folder of images.
        images_per_second: the rate of the images, None for a file.
    """

    path: Path
    images_per_second: float | None = None


@contextlib.contextmanager
def local_copy(locator: str, folder: Path, timeout_seconds: float = 120.0) -> Iterator[LocalSource]:
    """Yield a video as a file or a folder of images of this machine.

    Local files and folders are yielded as they are. What is copied is removed at the end; a killed process leaves it
    in `folder`, under a name that `vtr.files.remove_temporaries` knows.

    Args:
        locator: see `vtr.annotations.locators`; local paths absolute.
        folder: where copies go; it is there.
        timeout_seconds: the most that fetching may take.

    Raises:
        SourceError: it is not there, cannot be read, or takes too long.
        WorkspaceError: `folder` cannot be written; on the whole the disk is full.
    """
    try:
        found = parse(locator)
    except InputError as error:
        raise SourceError("not_fetched", str(error)) from error
    rate = found.images_per_second
    if found.is_local and found.member is None:
        path = Path(found.path)
        if not (path.is_file() if rate is None else path.is_dir()):
            expected = "a file" if rate is None else "a folder of images"
            raise SourceError("not_fetched", f"{path} is not there, {expected} was expected")
        _check_holds_something(path, path)
        yield LocalSource(path, rate)
        return
    suffix = "" if rate is not None else Path(found.name).suffix
    copy = _Copy(folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}{suffix}")
    try:
        copy.run(found, timeout_seconds)
        _check_holds_something(copy.target, found)
        yield LocalSource(copy.target, rate)
    finally:
        copy.remove()


def _check_holds_something(path: Path, named: object) -> None:
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError("unreadable", f"the file is empty: {named} has 0 bytes")


class _GivenUpError(Exception):
    """Nobody waits for the copy any more."""


@dataclass
class _Copy:
    """A copy in the making, by a thread: a file system that hangs cannot be interrupted, but left behind."""

    target: Path
    _unwanted: threading.Event = field(default_factory=threading.Event)
    _error: list[BaseException] = field(default_factory=list)

    def run(self, found: Locator, timeout_seconds: float) -> None:
        """Copy within the time limit.

        Raises:
            SourceError: it cannot be fetched, or not in time; see `local_copy`.
            WorkspaceError: the copy cannot be written.
        """
        begun = time.monotonic()
        thread = threading.Thread(target=self._work, args=(found,), name="fetch", daemon=True)
        thread.start()
        thread.join(timeout_seconds)
        if thread.is_alive():
            seconds = time.monotonic() - begun
            raise SourceError("timeout", f"{found} was not fetched within {seconds:.0f} seconds")
        if self._error:
            error = _explained(found, self.target, self._error[0])
            raise error

    def remove(self) -> None:
        """Remove what was copied, now and, where the thread still hangs, when it goes on."""
        self._unwanted.set()
        if self.target.is_dir():
            shutil.rmtree(self.target, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                self.target.unlink()

    def _work(self, found: Locator) -> None:
        try:
            if found.member is None:
                if found.images_per_second is not None:
                    raise SourceError("not_fetched", f"{found}: a folder of images must be on this machine or in a tar")
                with _opened(found) as stream:
                    self._write(self.target, lambda: stream.read(CHUNK_BYTES))
            else:
                self._unpack(found, found.member)
        except BaseException as error:
            self._error.append(error)
        finally:
            if self._unwanted.is_set():  # what came after the first removal
                self.remove()

    def _unpack(self, found: Locator, member: str) -> None:
        index = _index(found)
        with _opened(found) as stream:
            if found.images_per_second is None:
                if member not in index.members:
                    raise _not_in(found, index)
                self._write_member(stream, index.members[member], self.target)
                return
            images = list(find_images(index.members, member))
            if not images:
                raise _not_in(found, index)
            self.target.mkdir()
            for image in images:
                self._write_member(stream, image, self.target / image.name.removeprefix(f"{member}."))

    def _write_member(self, stream: IO[bytes], member: Member, target: Path) -> None:
        stream.seek(member.offset)
        left = member.size

        def read() -> bytes:
            nonlocal left
            chunk = stream.read(min(CHUNK_BYTES, left))
            left -= len(chunk)
            return chunk

        self._write(target, read)
        if left:
            raise SourceError("truncated", f"the tar file ends within {member.name}, {left} bytes are missing")

    def _write(self, target: Path, read: Callable[[], bytes]) -> None:
        with target.open("wb") as copy:
            while chunk := read():
                if self._unwanted.is_set():
                    raise _GivenUpError
                copy.write(chunk)


def _explained(found: Locator, target: Path, error: BaseException) -> VtrError:
    if isinstance(error, VtrError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return WorkspaceError(cannot_write(target, error))
    if isinstance(error, FileNotFoundError) and not target.parent.is_dir():
        return WorkspaceError(cannot_write(target, error))
    if isinstance(error, FileNotFoundError):
        where = "" if found.is_local else ", or cannot be reached"
        return SourceError("not_fetched", f"{found.path} is not there{where}")
    if isinstance(error, ImportError):
        return SourceError("not_fetched", f"{found.path} cannot be read here: {lacking(found.path, error)}")
    if isinstance(error, TimeoutError):
        return SourceError("timeout", f"{found.path} did not answer in time ({error})")
    words = " ".join(str(error).split()) or "no reason given"
    return SourceError("not_fetched", f"{found.path} cannot be read: {type(error).__name__}: {words}")


def _not_in(found: Locator, index: TarIndex) -> SourceError:
    if index.damage is not None:
        return SourceError("truncated", f"{found.path} is damaged ({index.damage}); {found.member} is not before that")
    return SourceError("not_fetched", f"{found.path} holds no file {found.member}")


def _opened(found: Locator) -> contextlib.AbstractContextManager[IO[bytes]]:
    if found.is_local:
        return Path(found.path).open("rb")
    opened: contextlib.AbstractContextManager[IO[bytes]] = fsspec.open(found.path, "rb")
    return opened


def _index(found: Locator) -> TarIndex:
    """Return the index of a tar file. A local one that has changed is read again."""
    stamp = 0
    if found.is_local:
        status = Path(found.path).stat()
        stamp = hash((status.st_mtime_ns, status.st_size))
    return _known_index(found.path, stamp)


@lru_cache(maxsize=TARS_KNOWN)
def _known_index(path: str, stamp: int) -> TarIndex:
    del stamp  # only tells versions of a file apart
    with _opened(Locator(path)) as stream:
        return read_index(stream)
