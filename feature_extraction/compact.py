"""`vtr features compact`: the small shards that a growing collection leaves become full ones, row for row the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from feature_extraction.plan import Group, cut, read_groups, replace_groups
from feature_extraction.shards import Shard, Written, listed, write_listing
from vtr.errors import WorkspaceError
from vtr.extract_config import ExtractConfig
from vtr.files import lock
from vtr.store.found import TEXTS
from vtr.store.reader import FeatureStore
from vtr.store.shard_file import covered_by
from vtr.workspace import IMPORT_RECORD, Workspace

Coverage = Mapping[str, Mapping[str, frozenset[str]]]
"""Expert -> shard -> the videos it covers, of the shards that are not as planned."""


def compact(workspace: Workspace, shard_videos: int | None = None) -> str:
    """Merge small shards into full ones. What was trained on the features stays current.

    Kill it at any moment and run it again: the manifest lists every video once at all times, and a `FeatureStore` that
    finds a shard gone goes on with those that took its place.

    Args:
        workspace: the workspace.
        shard_videos: videos of a full shard; by default those of the largest, or `vtr extract`'s default.

    Returns:
        What was done, in words.

    Raises:
        WorkspaceError: features are being extracted; they were imported; a shard is damaged or cannot be written.
    """
    if (workspace.root / IMPORT_RECORD).exists():
        raise WorkspaceError(f"the features of {workspace.root} were imported, their shards are full already.")
    with lock(workspace.features / ".lock", f"compact the features of {workspace.root}"):
        store, planned = FeatureStore(workspace.store), read_groups(workspace.features)
        largest = max((len(group.ids) for group in planned), default=0)
        size = shard_videos or max(ExtractConfig().shard_videos, largest)
        small = [group for group in planned if len(group.ids) < size]
        merged = cut([i for group in small for i in group.ids], size) if len(small) > 1 else small
        kept = [group for group in planned if len(group.ids) >= size]
        coverage = {expert: _coverage(store, expert, kept) for expert in store.experts}
        merged = [_unused(group, coverage) for group in merged]
        counts = [_compact_expert(store, expert, merged, coverage[expert]) for expert in store.experts]
        if kept + merged != planned:
            replace_groups(workspace.features, kept + merged)
    before, after = (sum(numbers) for numbers in zip(*counts, strict=True)) if counts else (0, 0)
    if not before:
        return f"{workspace.root}: nothing to merge"
    return f"{workspace.root}: {before} small shards of {len(counts)} experts merged into {after}"


def _coverage(store: FeatureStore, expert: str, kept: Sequence[Group]) -> dict[str, frozenset[str]]:
    """Return shard -> the videos it covers, of the expert's shards that are to be merged, or have been."""
    stay = {group.name for group in kept}
    names = [name for name in listed(store, expert) if name not in stay]
    return {name: frozenset(covered_by(store.root / expert / name)) for name in names}


def _unused(group: Group, coverage: Coverage) -> Group:
    """Return the group under a name that no expert has given to a part of it only: what is listed stays as it is."""
    name, ids = group.name, set(group.ids)
    while any(
        name in shards and any(other != name and not ids.isdisjoint(shards[other]) for other in shards)
        for shards in coverage.values()
    ):
        name = f"part-{hashlib.sha256(name.encode()).hexdigest()[:12]}.parquet"
    return Group(name, group.ids)


def _compact_expert(
    store: FeatureStore, expert: str, merged: Sequence[Group], coverage: Mapping[str, frozenset[str]]
) -> tuple[int, int]:
    """Merge one expert's shards, and return how many were merged into how many.

    The new ones are written first, then the manifest, then the old ones go.

    Raises:
        WorkspaceError: a shard that the manifest lists is missing.
    """
    folder, manifest, spec = store.root / expert, store.manifest(expert), store.spec(expert)
    shards = listed(store, expert)
    if shards.keys() != manifest["shards"].keys():
        raise WorkspaceError(f"{folder} lacks shards that its manifest lists. Run `vtr extract` first.")
    planned = {video_id for group in merged for video_id in group.ids}
    done = {group.name for group in merged}
    sources = {n: ids for n, ids in coverage.items() if n not in done and ids <= planned}
    new: dict[str, Written] = {}
    for group in merged:
        parts = [folder / name for name, ids in sources.items() if not ids.isdisjoint(group.ids)]
        if parts:
            whole = _joined([Shard.read(path) for path in sorted(parts)], set(group.ids))
            new[group.name] = whole.write(folder / group.name, spec, group.ids)
    if new:
        left = {name: written for name, written in shards.items() if name not in sources} | new
        facts = {"inputs": manifest["inputs"], "config": manifest["config"]}
        write_listing(folder, spec, left, manifest["output"], **facts)
    _remove_unlisted(store, expert)
    return len(sources), len(new)


def _joined(parts: Sequence[Shard], ids: set[str]) -> Shard:
    """Return what some shards hold of the videos `ids`."""
    whole = Shard(made_with=_made_with([part.made_with for part in parts]))
    for part in parts:
        whole.examined |= part.examined & ids
        whole.rows |= {video_id: row for video_id, row in part.rows.items() if video_id in ids}
        whole.found |= {video_id: texts for video_id, texts in part.found.items() if video_id in ids}
    return whole


def _made_with(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how a merged shard was made; where its parts were made differently, each way."""
    ways: list[dict[str, Any]] = []
    for way in (way for fact in facts for way in fact.get("merged", [fact])):
        ways += [] if way in ways else [way]
    same = [{name: value for name, value in way.items() if name != "decoders"} for way in ways]
    if len(ways) > 1 and all(way == same[0] for way in same):
        return same[0] | {"decoders": sorted({name for way in ways for name in way.get("decoders", ())})}
    return ways[0] if len(ways) == 1 else {"merged": ways}


def _remove_unlisted(store: FeatureStore, expert: str) -> None:
    """Remove what was merged, and what killed runs wrote and never listed: its videos are still spooled."""
    folder, manifest = store.root / expert, store.manifest(expert)
    for place, names in ((folder, manifest["shards"]), (folder / TEXTS, manifest.get("texts", {}))):
        for name in {path.name for path in place.glob("*.parquet")} - set(names):
            (place / name).unlink(missing_ok=True)
