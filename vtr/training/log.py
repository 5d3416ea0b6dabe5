"""The training log: one JSON object a line, and its numbers for whatever tracks the run."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vtr.errors import WorkspaceError
from vtr.files import cannot_write
from vtr.progress import say
from vtr.training.tracking import Tracker


class TrainingLog:
    """Appends to `path` and gives numbers to trackers. A resumed run cuts off what came after its checkpoint.

    A tracker that fails is left out from then on, which is said once: training goes on, and `path` has everything.

    Args:
        path: the JSONL file.
        trackers: name -> tracker; closed with the log.
        size: bytes of `path` to keep.

    Raises:
        WorkspaceError: the file cannot be written.
    """

    def __init__(self, path: Path, trackers: Mapping[str, Tracker], *, size: int) -> None:
        self._path, self._trackers = path, dict(trackers)
        try:
            self._stream = path.open("ab")
            self._stream.truncate(size)
            self._stream.seek(size)
        except OSError as error:
            self._each(lambda tracker: tracker.close(failed=True))
            raise WorkspaceError(cannot_write(path, error)) from error

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(failed=kind is not None)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append one line; numbers also go to the trackers, as `kind/name`. What is not finite is left out."""
        values = {name: value for name, value in values.items() if not _not_finite(value)}
        self._stream.write((json.dumps({"kind": kind, "step": step, **values}) + "\n").encode())
        numbers = {
            f"{kind}/{name}": value
            for name, value in values.items()
            if isinstance(value, (int, float)) and name != "epoch"
        }
        self._each(lambda tracker: tracker.write(numbers, step))

    def flush(self) -> int:
        """Put everything on disk and return the file's size in bytes.

        Raises:
            WorkspaceError: the file cannot be written or the disk is full.
        """
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise WorkspaceError(cannot_write(self._path, error)) from error
        self._each(lambda tracker: tracker.flush())
        return self._stream.tell()

    def close(self, *, failed: bool = False) -> None:
        """Close all; `failed` where training was interrupted or went wrong."""
        self._stream.close()
        self._each(lambda tracker: tracker.close(failed=failed))

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                do(tracker)
            except Exception as error:
                del self._trackers[name]
                say(
                    f"tracking: {name} failed ({' '.join(str(error).split())}) and gets nothing more of this training; "
                    f"{self._path} has everything"
                )


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
