"""What is to be done: which videos belong to which shard, and which of them which expert has still to read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feature_extraction.ledger import Failure, Ledger
from feature_extraction.spool import Spool, Spooled
from vtr.errors import WorkspaceError
from vtr.files import cannot_write, read_json, write_text
from vtr.store.writer import shard_name
from vtr.types import Annotations

PLAN = "plan.jsonl"
"""One group a line, only ever appended to; `vtr features compact` replaces it as a whole."""
NUMBERED = "plan.json"
"""The groups of stores made by earlier versions, whose shards are numbered."""


@dataclass(frozen=True, slots=True)
class Task:
    """One video to read, for the experts that still lack it.

    Attributes:
        redo: it was read before, and what is not read now is lost.
    """

    video_id: str
    path: str
    experts: tuple[str, ...]
    redo: bool = False

    def nothing_read(self, failures: Sequence[Failure]) -> Spooled:
        """Return how it ended where the video could not be read at all."""
        return Spooled(self.video_id, {}, (), tuple(failures), refused=self.experts if self.redo else ())


@dataclass(frozen=True, slots=True)
class Group:
    """The videos of one shard.

    Attributes:
        name: the shard's file name, the same for all experts.
        ids: the videos, in the shard's order.
    """

    name: str
    ids: tuple[str, ...]


def make_group(ids: Sequence[str]) -> Group:
    """Return the group of some videos, named by the hash of their ids."""
    digest = hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()
    return Group(f"part-{digest[:12]}.parquet", tuple(ids))


def cut(ids: Collection[str], size: int) -> list[Group]:
    """Return videos as groups of `size`, in the order of the SHA-256 of their ids; the last may be smaller."""
    ordered = sorted(ids, key=lambda video_id: hashlib.sha256(video_id.encode()).digest())
    return [make_group(ordered[at : at + size]) for at in range(0, len(ordered), size)]


def make_groups(folder: Path, annotations: Annotations, size: int) -> list[Group]:
    """Return the groups of videos, one a shard, and write down those that are new.

    A group never changes once it is planned: a collection that grows gets new groups, and an interrupted run ends with
    the same files as an uninterrupted one. Videos without a file take no part until they have one.

    Args:
        folder: where the plan is; call this only while holding its lock.
        annotations: the videos.
        size: videos a group.

    Raises:
        WorkspaceError: the plan is damaged, or cannot be written.
    """
    groups = read_groups(folder)
    known = {video_id for group in groups for video_id in group.ids}
    new = cut({video.id for video in annotations.videos if video.path is not None and video.id not in known}, size)
    if new:
        _append(folder / PLAN, new)
    return groups + new


def read_groups(folder: Path) -> list[Group]:
    """Return the groups that are planned. A last line that a killed run did not end is taken away.

    Raises:
        WorkspaceError: the plan is damaged.
    """
    groups = _read_lines(folder / PLAN) if (folder / PLAN).exists() else []
    if not (folder / NUMBERED).exists():
        return groups
    known = {video_id for group in groups for video_id in group.ids}  # a merged plan that has just replaced it
    numbered = [Group(shard_name(n), tuple(ids)) for n, ids in enumerate(read_json(folder / NUMBERED)["groups"])]
    return [group for group in numbered if known.isdisjoint(group.ids)] + groups


def _read_lines(path: Path) -> list[Group]:
    groups, content, at = [], path.read_bytes(), 0
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        group = _parsed(line) if line.endswith(b"\n") else None
        if group is None and at + len(line) < len(content):
            raise WorkspaceError(
                f"{path}, line {number} is damaged. Delete the line: its videos are planned anew, and those that are "
                "in the store are not read again."
            )
        if group is None:
            os.truncate(path, at)
            break
        groups.append(group)
        at += len(line)
    return groups


def _parsed(line: bytes) -> Group | None:
    """Return the group of a line; None for a line that is not whole: the check is a hash of the rest."""
    try:
        content = json.loads(line)
        group = Group(content["name"], tuple(content["ids"]))
        return group if content["check"] == _check(group) else None
    except (ValueError, KeyError, TypeError):
        return None


def _line(group: Group) -> str:
    return json.dumps({"name": group.name, "ids": group.ids, "check": _check(group)}) + "\n"


def _check(group: Group) -> str:
    return hashlib.sha256(json.dumps([group.name, group.ids]).encode()).hexdigest()[:12]


def _append(path: Path, groups: Sequence[Group]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.writelines(_line(group) for group in groups)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise WorkspaceError(cannot_write(path, error)) from error


def replace_groups(folder: Path, groups: Sequence[Group]) -> None:
    """Write down other groups in place of those planned, at one stroke."""
    write_text(folder / PLAN, "".join(map(_line, groups)))
    (folder / NUMBERED).unlink(missing_ok=True)


class Plan:
    """The state of one extraction: what each shard holds, and what is still to be read.

    Args:
        groups: the videos of each shard.
        annotations: where the videos' files are.
        examined: expert -> the videos its shards cover.
        spool: finished videos that are in no shard yet.
        ledger: failures that stand.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        annotations: Annotations,
        examined: Mapping[str, frozenset[str]],
        spool: Spool,
        ledger: Ledger,
    ) -> None:
        self.groups = groups
        self._examined, self._spool, self._ledger = examined, spool, ledger
        self._paths = {video.id: video.path for video in annotations.videos}

    def tasks(
        self, experts: Collection[str], retry_failed: bool, strict: bool = False, redo: Collection[str] = ()
    ) -> list[Task]:
        """Return the videos that some of `experts` have not read, in plan order.

        Videos that failed before are among them only to be tried again, `retry_failed`; those of which only a part was
        readable also to be refused, `strict`. The videos `redo` are read by all of them in any case.
        """
        tasks, again = [], retry_failed or strict
        partly = {(entry.video_id, entry.expert) for entry in self._ledger if entry.status == "partial" and again}
        if not retry_failed:
            partly = {key for key in partly if not self._ledger.failed(*key)}
        for video_id, path, lacking in self._lacking(experts):
            if video_id in redo:
                tasks.append(Task(video_id, path, tuple(experts), redo=True))
                continue
            chosen = tuple(e for e in lacking if retry_failed or not self._ledger.failed(video_id, e))
            chosen += tuple(e for e in experts if (video_id, e) in partly and e not in chosen)
            if chosen:
                tasks.append(Task(video_id, path, chosen))
        return tasks

    def done(self, experts: Collection[str], again: Collection[Task] = ()) -> int:
        """Return how many of the videos all of `experts` have read; those of the tasks `again` do not count."""
        tried = {task.video_id for task in again}
        return sum(not lacking and video_id not in tried for video_id, _, lacking in self._lacking(experts))

    def spooled_groups(self, experts: Collection[str]) -> list[int]:
        """Return the groups with videos that `experts` have finished or refused since their shards were written."""
        awaited = self._spool.awaited().items()
        spooled = {video_id for video_id, names in awaited if not names.isdisjoint(experts)}
        return [n for n, group in enumerate(self.groups) if not spooled.isdisjoint(group.ids)] if spooled else []

    def _lacking(self, experts: Collection[str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield each planned video with its file and the experts that have not read it, in plan order."""
        spooled = self._spool.examined()
        for group in self.groups:
            for video_id in group.ids:
                if (path := self._paths.get(video_id)) is not None:
                    read_by = spooled.get(video_id, frozenset())
                    lacking = (e for e in experts if video_id not in self._examined[e] and e not in read_by)
                    yield video_id, path, tuple(lacking)
