"""The failure ledger: which video failed for which expert, at which stage, and why. One JSON object a line."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from vtr.errors import WorkspaceError
from vtr.files import write_text

ALL_EXPERTS = "*"
"""The expert of a failure that concerns the whole video: it could not be decoded, or a worker died over it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure.

    Attributes:
        video_id: the video.
        expert: the expert, or ALL_EXPERTS.
        stage: "open", "decode", "timeout", "crash", "sound", "extract", "store" or "worker".
        reason: why, in words.
        at: when, ISO 8601 in UTC.
    """

    video_id: str
    expert: str
    stage: str
    reason: str
    at: str = ""


class Ledger:
    """The failures that stand, kept on disk.

    Raises:
        WorkspaceError: the file is damaged or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failures: dict[tuple[str, str], Failure] = {}
        if path.exists():
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                try:
                    failure = Failure(**json.loads(line))
                except (ValueError, TypeError) as error:
                    raise WorkspaceError(f"{path}, line {number} is damaged ({error}). Remove the line.") from error
                self._failures[failure.video_id, failure.expert] = failure

    def __len__(self) -> int:
        return len(self._failures)

    def __iter__(self) -> Iterator[Failure]:
        return iter(self._failures.values())

    def failed(self, video_id: str, expert: str) -> bool:
        """Return whether the video stands as failed for the expert."""
        return (video_id, expert) in self._failures or (video_id, ALL_EXPERTS) in self._failures

    def add(self, failures: Iterable[Failure]) -> None:
        """Record failures and write the ledger."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        before = len(self._failures)
        for failure in failures:
            values = asdict(failure) | {"at": failure.at or now}
            self._failures.setdefault((failure.video_id, failure.expert), Failure(**values))
        if len(self._failures) != before:
            self._write()

    def forget(self, experts: Iterable[str]) -> list[Failure]:
        """Remove and return the failures of some experts and of whole videos, so that they are tried again."""
        tried = {*experts, ALL_EXPERTS}
        forgotten = [failure for failure in self._failures.values() if failure.expert in tried]
        for failure in forgotten:
            del self._failures[failure.video_id, failure.expert]
        if forgotten:
            self._write()
        return forgotten

    def _write(self) -> None:
        lines = [json.dumps(asdict(failure), ensure_ascii=False) for failure in self._failures.values()]
        write_text(self._path, "".join(f"{line}\n" for line in lines))
