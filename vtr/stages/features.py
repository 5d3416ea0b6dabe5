"""What the feature store holds: coverage, dims, sizes; and whether it is sound."""

from __future__ import annotations

from collections import Counter

from vtr.annotations.tables import load_annotations
from vtr.errors import WorkspaceError
from vtr.evaluation.table import align
from vtr.store.ledger import read_ledger
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace


def describe(workspace: Workspace, *, verify: bool) -> str:
    """Return a table of the experts in the store.

    Args:
        verify: also read every shard and check its checksum, shapes and values.

    Raises:
        WorkspaceError: there are no features, or a shard is damaged (each is named).
    """
    store = FeatureStore(workspace.store)
    if not store.experts:
        raise WorkspaceError(f"{workspace.root} has no features yet. Run `vtr extract {workspace.root}`.")
    videos = load_annotations(workspace).videos
    failed = _failed(workspace)
    rows = [("expert", "videos with features", "read", "failed", "dim", "MB", "dtype", "model", "pretrained on")]
    for expert in store.experts:
        spec, manifest = store.spec(expert), store.manifest(expert)
        files = [*store.shards(expert), *store.side_tables(expert)]
        size = sum(path.stat().st_size for path in files if path.exists())
        counts = manifest["counts"]
        rows.append(
            (
                expert,
                f"{counts['present']} of {len(videos)}",
                str(counts["examined"]),
                str(failed[expert] + failed["*"]),
                str(spec.dim),
                f"{size / 1e6:.1f}",
                manifest["config"]["dtype"],
                spec.model_id,
                spec.pretrained_on,
            )
        )
    lines = align(rows)
    if verify:
        problems = [problem for expert in store.experts for problem in store.verify(expert)]
        if problems:
            raise WorkspaceError(
                "the store is damaged: " + "; ".join(problems) + f". Delete these files and run `vtr extract "
                f"{workspace.root}`: their videos are extracted again."
            )
        lines.append("all shards verified: checksums, shapes and values hold")
    if sum(failed.values()):
        lines.append(f"failures are listed by `vtr extract {workspace.root} --report`")
    return "\n".join(lines)


def _failed(workspace: Workspace) -> Counter[str]:
    return Counter(entry.expert for entry in read_ledger(workspace.ledger) if entry.status == "failed")
