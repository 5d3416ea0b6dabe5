"""Writing so that nothing half-written is visible: temporary name, fsync, rename; locks that name their holder."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from vtr.errors import InputError, WorkspaceError

if TYPE_CHECKING:  # fsspec takes a while to import, and most commands need none of it
    from upath import UPath

StorePath: TypeAlias = "Path | UPath"
"""A file or folder of a feature store: on this machine, or behind any fsspec URL."""

TEMPORARY_PREFIX = ".tmp-"
PROBES_OUTWAITED = 5
AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of Linux: names are seen from the working folder; two names change places."""


def _temporary(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name}")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it to `path`, on error remove it.

    Raises:
        WorkspaceError: the folder cannot be written or the disk is full.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        raise WorkspaceError(cannot_write(path, error)) from error
    finally:
        with contextlib.suppress(OSError):  # a parent that is a file, or read-only: the error above says so
            temporary.unlink()


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success it takes the place of `path` (an older one is removed), on error it goes.

    Raises:
        WorkspaceError: the parent cannot be written or the disk is full.
    """
    temporary = _temporary(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path_inside in temporary.rglob("*"):
            if path_inside.is_file():
                with path_inside.open("rb") as stream:
                    os.fsync(stream.fileno())
            elif path_inside.is_dir():
                _sync_directory(path_inside)
        _sync_directory(temporary)
        _replace_directory(path, temporary)
        _sync_directory(path.parent)
    except OSError as error:
        raise WorkspaceError(cannot_write(path, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_directory(path: Path, new: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    if _exchange(path, new):
        return  # what took the new one's name is the old one, which its maker removes
    old = _temporary(path)
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two names change places at one stroke; return False where the system or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    done = renameat2(AT_FDCWD, os.fsencode(first.absolute()), AT_FDCWD, os.fsencode(second.absolute()), RENAME_EXCHANGE)
    return bool(done == 0)


def atomic_link(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target`, seen from its folder; a link that was there is replaced.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    temporary = _temporary(path)
    try:
        temporary.symlink_to(target)
        temporary.replace(path)
    except OSError as error:
        raise WorkspaceError(cannot_write(path, error)) from error


def cannot_write(path: StorePath, error: Exception) -> str:
    """Return what a user reads when the disk is full or the output is read-only."""
    return (
        f"cannot write {path}: {getattr(error, 'strerror', None) or error or type(error).__name__}. "
        "Free some disk space or choose a writable output folder, then run the same command again; "
        "finished work is kept."
    )


def write_bytes(path: StorePath, content: bytes | memoryview) -> None:
    """Write a whole file atomically: by renaming on this machine, as one object elsewhere.

    Raises:
        WorkspaceError: it cannot be written or the disk is full.
    """
    if isinstance(path, Path):
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # object stores know no folders, and agree to any
        path.fs.pipe_file(path.path, bytes(content))
    except Exception as error:  # each file system has its own errors
        raise WorkspaceError(cannot_write(path, error)) from error


def write_text(path: StorePath, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    write_bytes(path, text.encode())


def write_json(path: StorePath, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically. NaN and infinity are refused, as JSON has neither."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: StorePath) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing, a directory, not UTF-8, or not whole JSON (the message gives the place).
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Give the path of a JSON file.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a directory, a JSON file was expected. Give the file itself.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. A JSON file was expected.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not whole JSON ({error}). It may have been cut in half: fetch or make it again."
        ) from error


def sha256_file(path: StorePath) -> str:
    """Return the hex SHA-256 of a file's content."""
    if not isinstance(path, Path):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_temporaries(folder: Path) -> None:
    """Remove what an interrupted atomic write left in `folder`. Call it only while holding the folder's lock."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def locked_by(path: Path) -> int | None:
    """Return the process id that holds the lock file `path`, or None when nobody does."""
    if not path.exists():
        return None
    with path.open("r") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(stream.read().strip() or 0)
    return None


def _lock_patiently(stream: IO[str]) -> None:
    """Lock a file for this process alone; `locked_by` in another process may hold it for an instant."""
    for _ in range(PROBES_OUTWAITED):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.02)
    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def lock(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock file `path` while the block runs. The kernel frees it when the process dies, however it dies.

    Args:
        path: the lock file; it holds the process id while it is locked.
        doing: what the lock protects, for the message ("extract features into ws").

    Raises:
        WorkspaceError: another process holds it; the message names its process id.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+")
    except OSError as error:
        raise WorkspaceError(cannot_write(path, error)) from error
    with stream:
        try:
            _lock_patiently(stream)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise WorkspaceError(
                f"cannot {doing}: process {holder} is already at it ({path}). Wait for it to end, or stop it."
            ) from error
        try:
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
        except OSError as error:
            raise WorkspaceError(cannot_write(path, error)) from error
        yield
        stream.truncate(0)
