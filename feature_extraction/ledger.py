"""The failure ledger: which video failed for which expert, at which stage, and why. One JSON object a line."""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from vtr.errors import WorkspaceError
from vtr.files import write_text

ALL_EXPERTS = "*"
"""The expert of a failure that concerns the whole video: it could not be decoded, or a worker died over it."""

Kind = Literal[
    "unreadable",
    "truncated",
    "no_video",
    "no_audio",
    "timeout",
    "out_of_memory",
    "crash",
    "expert_error",
    "store_error",
]
"""Why, as a class: the file is damaged or no video; it ends early or has holes; it has no video stream; a sound expert
found no sound track (`absent`); a time limit was reached; memory ran out; a process died; an expert raised; features
could not be stored (a wrong shape, NaN)."""
Status = Literal["failed", "partial", "absent"]
"""failed: no features. partial: features of the readable part. absent: there is nothing for the expert to read."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with one video for one expert.

    Attributes:
        video_id: the video.
        expert: the expert, or ALL_EXPERTS.
        stage: "fetch", "open", "decode", "sound", "extract" or "store".
        kind: the class of reason.
        message: why, in words.
        status: whether features are missing.
        decoder: "decord", "pyav", "images" or "ffmpeg", where one was at it.
        attempts: how often it was tried.
        at: when it was last tried, ISO 8601 in UTC.
    """

    video_id: str
    expert: str
    stage: str
    kind: Kind
    message: str
    status: Status = "failed"
    decoder: str = ""
    attempts: int = 1
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

    def settle(self, video_id: str, read_by: Iterable[str], failures: Iterable[Failure]) -> None:
        """Record how reading a video ended, and write the ledger if that is news.

        Args:
            video_id: the video.
            read_by: the experts that read it; their earlier failures are over.
            failures: what went wrong, in place of what went wrong before. Without one of the whole video, an earlier
                one is over too.
        """
        before = dict(self._failures)
        new = {failure.expert: failure for failure in failures}
        over = {*read_by, *new} | ({ALL_EXPERTS} if ALL_EXPERTS not in new else set())
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for expert in over:
            self._failures.pop((video_id, expert), None)
        for expert, failure in new.items():
            held = before.get((video_id, expert))
            same = held is not None and (held.stage, held.reason) == (failure.stage, failure.reason)
            self._failures[video_id, expert] = held if held and same else replace(failure, at=failure.at or now)
        if self._failures != before:
            self._write()

    def keep(self, video_ids: Collection[str]) -> None:
        """Drop the failures of all other videos: they have left the workspace, or their files have."""
        gone = [key for key in self._failures if key[0] not in video_ids]
        for key in gone:
            del self._failures[key]
        if gone:
            self._write()

    def _write(self) -> None:
        lines = [json.dumps(asdict(failure), ensure_ascii=False) for failure in self._failures.values()]
        write_text(self._path, "".join(f"{line}\n" for line in lines))
