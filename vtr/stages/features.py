"""What the feature store holds: coverage, dims, sizes; and whether it is sound."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from vtr.annotations.tables import load_videos
from vtr.errors import WorkspaceError, counted
from vtr.evaluation.table import align
from vtr.store.ledger import ALL_EXPERTS, read_ledger
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace

HEAD: tuple[str, ...]
HEAD = ("expert", "videos with features", "read", "failed", "dim", "MB", "dtype", "model", "pretrained on")


@dataclass(frozen=True, slots=True)
class ExpertCounts:
    """What an expert's store holds of some videos; every one is read, failed or left.

    Attributes:
        present: videos with features.
        read: videos that were read, whether anything was found or not.
        failed: videos that failed and were not read before.
        others: ids in the store that are none of these videos.
    """

    present: int
    read: int
    failed: int
    others: frozenset[str]


def count(store: FeatureStore, expert: str, ids: Set[str], failed: Set[tuple[str, str]]) -> ExpertCounts:
    """Return the counts of one expert.

    Args:
        store: the store.
        expert: the expert.
        ids: the videos that count.
        failed: (video id, expert or ALL_EXPERTS) of the failures that stand.

    Raises:
        WorkspaceError: the store does not hold the expert, or a shard cannot be read.
    """
    examined = store.examined(expert)
    others = examined - ids
    present = store.manifest(expert)["counts"]["present"]
    if others:
        present = sum(video_id in ids for video_id in store.video_ids(expert))
    lost = sum(bool({(video_id, expert), (video_id, ALL_EXPERTS)} & failed) for video_id in ids - examined)
    return ExpertCounts(present, len(examined & ids), lost, others)


def failed_videos(workspace: Workspace, ids: Set[str]) -> frozenset[tuple[str, str]]:
    """Return (video id, expert or ALL_EXPERTS) of the failures that stand; of `ids`, as others may have left since."""
    entries = read_ledger(workspace.ledger)
    return frozenset((e.video_id, e.expert) for e in entries if e.status == "failed" and e.video_id in ids)


def describe(workspace: Workspace, *, verify: bool) -> str:
    """Return a table of the experts in the store.

    Args:
        workspace: the workspace; only videos that it holds now are counted.
        verify: also read every shard and check its checksum, shapes and values.

    Raises:
        WorkspaceError: there are no features, or a shard is damaged (each is named).
    """
    store = FeatureStore(workspace.store)
    if not store.experts:
        raise WorkspaceError(f"{workspace.root} has no features yet. Run `vtr extract {workspace.root}`.")
    if verify and (problems := [problem for expert in store.experts for problem in store.verify(expert)]):
        told = "; ".join(problem.rstrip(".") for problem in problems)
        raise WorkspaceError(
            f"the store is damaged: {told}. Delete these files and run `vtr extract {workspace.root}`: their videos "
            "are extracted again."
        )
    ids = {video.id for video in load_videos(workspace)}
    failed = failed_videos(workspace, ids)
    rows = [HEAD]
    others: set[str] = set()
    for expert in store.experts:
        counts = count(store, expert, ids, failed)
        others |= counts.others
        rows.append(_row(store, expert, counts, len(ids)))
    lines = align(rows)
    if others:
        lines.append(
            f"not counted: {counted(len(others), 'video')} in the store that {workspace.root} does not hold now"
        )
    if verify:
        lines.append("all shards verified: checksums, shapes and values hold")
    if failed:
        lines.append(f"failures are listed by `vtr extract {workspace.root} --report`")
    return "\n".join(lines)


def _row(store: FeatureStore, expert: str, counts: ExpertCounts, num_videos: int) -> tuple[str, ...]:
    spec, files = store.spec(expert), [*store.shards(expert), *store.side_tables(expert)]
    size = sum(path.stat().st_size for path in files if path.exists())
    return (
        expert,
        f"{counts.present} of {num_videos}",
        str(counts.read),
        str(counts.failed),
        str(spec.dim),
        f"{size / 1e6:.1f}",
        store.manifest(expert)["config"]["dtype"],
        spec.model_id,
        spec.pretrained_on,
    )
