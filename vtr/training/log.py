"""The training log: one JSON object a line, and the same in TensorBoard's files."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

from vtr.files import cannot_write


class TrainingLog:
    """Appends to `path` and to a TensorBoard folder. A resumed run cuts off what came after its checkpoint.

    Args:
        path: the JSONL file.
        tensorboard: the folder for event files.
        size: bytes of `path` to keep.
        step: the step training goes on from.

    Raises:
        WorkspaceError: the file cannot be written.
    """

    def __init__(self, path: Path, tensorboard: Path, *, size: int, step: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # tensorboard's own, at import
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(tensorboard), purge_step=step)
        self._path = path
        try:
            self._stream = path.open("ab")
            self._stream.truncate(size)
        except OSError as error:
            raise cannot_write(path, error) from error

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append one line; numbers also go to TensorBoard under `kind`."""
        self._stream.write((json.dumps({"kind": kind, "step": step, **values}) + "\n").encode())
        for name, value in values.items():
            if isinstance(value, (int, float)) and name != "epoch":
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def flush(self) -> int:
        """Put everything on disk and return the file's size in bytes."""
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise cannot_write(self._path, error) from error
        self._writer.flush()
        return self._stream.tell()

    def close(self) -> None:
        """Close both."""
        self._stream.close()
        self._writer.close()
