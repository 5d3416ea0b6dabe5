"""The failure ledger: which video failed for which expert, at which stage, and why.

On disk it is a log, `failures.jsonl`: one JSON object a line, appended and never changed. A line is an entry (the
fields of `Failure`), or {"video_id": ..., "expert": ..., "over": true} where an entry has come to its end; of the lines
about one video and expert the last counts. Lines are ASCII, so that no reader trips over a name that is no UTF-8.

A kill in mid-write leaves a last line without its end: it is dropped, for its event is then repeated. A damaged line
anywhere else is an error. When most lines are out of date, the next `Ledger` writes the file anew.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from vtr.errors import WorkspaceError
from vtr.files import cannot_write, write_text

ALL_EXPERTS = "*"
"""The expert of a failure that concerns the whole video: it could not be decoded, or a worker died over it."""

Kind = Literal[
    "not_fetched",
    "unreadable",
    "truncated",
    "no_video",
    "no_audio",
    "too_little",
    "timeout",
    "out_of_memory",
    "crash",
    "expert_error",
    "store_error",
]
"""Why, as a class: the file is not there, or could not be fetched; it is damaged or no video; it ends early or has
holes; it has no video stream; a sound expert found no sound track (`absent`); there is too little
for the expert (`absent`: silence, frames too far apart); a time limit was reached; memory ran out;
a process died; an expert raised; features could not be stored (a wrong shape, NaN)."""
Status = Literal["failed", "partial", "absent"]
"""failed: no features. partial: features of the readable part. absent: there is nothing for the expert to read."""

KIND_OF_STAGE: Mapping[str, Kind] = {
    "fetch": "not_fetched",
    "open": "unreadable",
    "decode": "unreadable",
    "sound": "unreadable",
    "timeout": "timeout",
    "worker": "crash",
    "crash": "crash",
    "extract": "expert_error",
    "store": "store_error",
    "features": "store_error",
    "captions": "store_error",
}
"""Former ledgers and those of imports give a stage and a reason; this is the kind that the stage stands for."""

STALE_LINES = 1000
"""So many lines may be out of date, or as many as there are entries, before the file is written anew."""


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


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
        at: when it was last tried, ISO 8601 in UTC; by default now. It tells one try from the next.
    """

    video_id: str
    expert: str
    stage: str
    kind: Kind
    message: str
    status: Status = "failed"
    decoder: str = ""
    attempts: int = 1
    at: str = field(default_factory=_now, compare=False)


def refuses(failures: Iterable[Failure], expert: str) -> bool:
    """Return whether failures of one video say that under `--strict` it is too damaged for the expert.

    Then also the features go that were made of its readable part before. A tar file that is damaged says nothing of
    the video in it.
    """
    return any(
        (entry.expert, entry.status, entry.kind) == (expert, "failed", "truncated") and entry.stage != "fetch"
        for entry in failures
    )


Key = tuple[str, str]
Entries = dict[Key, Failure]


class Ledger:
    """The failures that stand, for the one process that holds the lock on the features. `read_ledger` only looks.

    Args:
        path: the file; it need not exist.

    Raises:
        WorkspaceError: the file is damaged or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries, lines, whole = _read(path)
        self._failed = sum(entry.status == "failed" for entry in self._entries.values())
        if lines - len(self._entries) > max(STALE_LINES, len(self._entries)):
            write_text(path, "".join(map(_line, self._entries.values())))
        elif whole is not None:
            self._cut(whole)

    def __len__(self) -> int:
        """Return how many entries are failures: not those of partly read videos or of absent sound."""
        return self._failed

    def __iter__(self) -> Iterator[Failure]:
        """Yield all entries, of any status; those that changed last come last."""
        return iter(self._entries.values())

    def counts(self) -> Counter[Kind]:
        """Return how many failures there are of each kind."""
        return Counter(entry.kind for entry in self if entry.status == "failed")

    def failed(self, video_id: str, expert: str) -> bool:
        """Return whether the video stands as failed for the expert, by itself or as a whole."""
        held = (self._entries.get((video_id, name)) for name in (expert, ALL_EXPERTS))
        return any(entry is not None and entry.status == "failed" for entry in held)

    def settle(self, video_id: str, read_by: Iterable[str], failures: Iterable[Failure]) -> None:
        """Record how reading a video ended, and append to the file what is news.

        Args:
            video_id: the video.
            read_by: the experts that read it, or refused it (`refuses`); their earlier entries are over.
            failures: what went wrong, in place of what went wrong before. Without one of the whole video, an earlier
                one is over too. A failure that stood before counts up its attempts, unless it is the very same try
                (it has the same `at`): so a video may be settled twice. Of several of one expert a failed one counts.
        """
        new = {entry.expert: entry for entry in sorted(failures, key=lambda entry: entry.status == "failed")}
        over = sorted({*read_by, ALL_EXPERTS} - new.keys())
        ended = [(video_id, expert) for expert in over if (video_id, expert) in self._entries]
        changed = []
        for expert, failure in new.items():
            held = self._entries.get((video_id, expert))
            if held is not None and held.at == failure.at:
                continue
            tried = failure.attempts + (held.attempts if held is not None else 0)
            changed.append(replace(failure, video_id=video_id, attempts=tried, at=failure.at or _now()))
        self._record(ended, changed)

    def keep(self, video_ids: Collection[str]) -> None:
        """Drop the entries of all other videos: they have left the workspace, or their files have."""
        self._record([key for key in self._entries if key[0] not in video_ids], [])

    def _record(self, ended: Collection[Key], changed: Collection[Failure]) -> None:
        """Append events to the file, then take them over."""
        lines = [_over(key) for key in ended] + [_line(entry) for entry in changed]
        if lines:
            _append(self._path, "".join(lines).encode("ascii"))
        for key in ended:
            self._failed -= self._entries.pop(key).status == "failed"
        for entry in changed:
            before = self._entries.pop((entry.video_id, entry.expert), None)
            self._failed += (entry.status == "failed") - (before is not None and before.status == "failed")
            self._entries[entry.video_id, entry.expert] = entry

    def _cut(self, length: int) -> None:
        try:
            os.truncate(self._path, length)
        except OSError as error:
            raise WorkspaceError(cannot_write(self._path, error)) from error


def read_ledger(path: Path) -> tuple[Failure, ...]:
    """Return the entries of a ledger, of any status. Another process may be writing it.

    Raises:
        WorkspaceError: the file is damaged or cannot be read.
    """
    return tuple(_read(path)[0].values())


def _read(path: Path) -> tuple[Entries, int, int | None]:
    """Return the entries, the number of lines, and the length of the whole lines where the last one is torn."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}, 0, None
    except OSError as error:
        raise WorkspaceError(
            f"{path} cannot be read: {error.strerror or error}. The failure ledger was expected there."
        ) from error
    entries: Entries = {}
    *lines, torn = content.split(b"\n")  # not splitlines: old ledgers hold other line ends within their messages
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            key = (_text(event["video_id"]), _text(event["expert"]))
            entry = None if event.get("over") else _entry(event)
        except (ValueError, TypeError, KeyError) as error:
            raise WorkspaceError(
                f"{path}, line {number} is damaged ({type(error).__name__}: {error}), an entry of the failure ledger "
                "was expected. Remove the line; its video is then tried again."
            ) from error
        entries.pop(key, None)
        if entry is not None:
            entries[key] = entry
    return entries, len(lines), len(content) - len(torn) if torn else None


def _entry(event: Mapping[str, Any]) -> Failure:
    """Return a line's entry.

    Raises:
        ValueError: its kind or status is none that is known.
        TypeError: a value is of another type.
        KeyError: it has no stage.
    """
    fields = dict(event)
    if "kind" not in fields:
        fields["kind"] = KIND_OF_STAGE.get(fields["stage"], "unreadable")
        fields["message"] = fields.pop("reason")
    entry = Failure(**fields)
    for value in (entry.stage, entry.message, entry.decoder, entry.at):
        _text(value)
    if not isinstance(entry.attempts, int):
        raise TypeError(f"attempts {entry.attempts!r}")
    if entry.kind not in get_args(Kind) or entry.status not in get_args(Status):
        raise ValueError(f"kind {entry.kind!r} with status {entry.status!r}")
    return entry


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r}, text expected")
    return value


def _line(entry: Failure) -> str:
    return json.dumps(asdict(entry)) + "\n"


def _over(key: Key) -> str:
    return json.dumps({"video_id": key[0], "expert": key[1], "over": True}) + "\n"


def _append(path: Path, data: bytes) -> None:
    """Append to a file and fsync it: all of the data, or an error and none of it.

    Raises:
        WorkspaceError: the file cannot be written or the disk is full.
    """  # noqa: DOC501 (the OSError becomes the WorkspaceError)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as stream:
            length = stream.tell()
            try:
                if stream.write(data) != len(data):
                    raise OSError("only a part could be written; is the disk full?")
                os.fsync(stream.fileno())
            except BaseException:
                with contextlib.suppress(OSError):
                    stream.truncate(length)
                raise
    except OSError as error:
        raise WorkspaceError(cannot_write(path, error)) from error
