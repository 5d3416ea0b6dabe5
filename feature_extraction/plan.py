"""What is to be done: which videos belong to which shard, and which of them which expert has still to read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from feature_extraction.ledger import Ledger
from feature_extraction.spool import Spool
from feature_extraction.worker import Task
from vtr.files import read_json, write_json
from vtr.types import Annotations

PLAN = "plan.json"


def make_groups(folder: Path, annotations: Annotations, size: int) -> list[list[str]]:
    """Return the groups of videos, one a shard, and write them down.

    Groups are only ever appended: shard k holds the same videos in every run, so an interrupted run ends with the
    same files as an uninterrupted one. Videos without a file take no part until they have one.
    """
    path = folder / PLAN
    groups: list[list[str]] = read_json(path)["groups"] if path.exists() else []
    known = {video_id for group in groups for video_id in group}
    new = [video.id for video in annotations.videos if video.path is not None and video.id not in known]
    if new:
        groups = groups + [new[at : at + size] for at in range(0, len(new), size)]
        write_json(path, {"groups": groups})
    return groups


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
        groups: Sequence[Sequence[str]],
        annotations: Annotations,
        examined: Mapping[str, frozenset[str]],
        spool: Spool,
        ledger: Ledger,
    ) -> None:
        self.groups = groups
        self._examined, self._spool, self._ledger = examined, spool, ledger
        self._paths = {video.id: video.path for video in annotations.videos}

    def tasks(self, experts: Collection[str], retry_failed: bool) -> list[Task]:
        """Return the videos that some of `experts` have not read, in plan order.

        Videos that failed before are among them only to be tried again, `retry_failed`.
        """
        return [
            Task(video_id, path, lacking)
            for video_id, path in self._with_file()
            if (lacking := self._lacking(video_id, experts, retry_failed))
        ]

    def done(self) -> int:
        """Return how many of the videos all experts have read."""
        return sum(not self._lacking(video_id, self._examined, True) for video_id, _ in self._with_file())

    def spooled_groups(self) -> list[int]:
        """Return the groups with finished videos that are in no shard yet."""
        return [n for n, group in enumerate(self.groups) if any(self._spool.get(video_id) for video_id in group)]

    def _with_file(self) -> Iterator[tuple[str, str]]:
        for group in self.groups:
            for video_id in group:
                if (path := self._paths.get(video_id)) is not None:
                    yield video_id, path

    def _lacking(self, video_id: str, experts: Collection[str], failed_too: bool) -> tuple[str, ...]:
        left = [
            expert
            for expert in experts
            if video_id not in self._examined[expert] and (failed_too or not self._ledger.failed(video_id, expert))
        ]
        spooled = self._spool.get(video_id) if left else None
        return tuple(expert for expert in left if spooled is None or expert not in spooled.examined)
