"""Taking videos over into a library from the workspace a run was trained on: annotations, features, embeddings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from vtr.embeddings import EmbeddedPart
from vtr.index.search import text_rows, video_rows
from vtr.retrieval.library import coverage
from vtr.store.reader import FeatureStore
from vtr.store.shard_file import read_found, read_metadata, rows_of, side_table
from vtr.store.texts import FoundText
from vtr.store.writer import write_expert_manifest, write_found, write_shard
from vtr.workspace import MANIFEST, Workspace

SHARD_VIDEOS = 256


def copy_features(source: Workspace, into: Workspace, video_ids: Collection[str]) -> None:
    """Copy what every expert found in some videos from one workspace's store to another's; what is there stays.

    A killed copy is taken up again: an expert's manifest is written when all of its shards are.
    """
    held, store = FeatureStore(source.store), FeatureStore(into.store)
    for expert in held.experts:
        there = store.examined(expert) if (store.root / expert / MANIFEST).exists() else frozenset()
        wanted = sorted(held.examined(expert).intersection(video_ids) - there)
        if wanted:
            _copy_expert(held, store, expert, wanted)


def _copy_expert(held: FeatureStore, store: FeatureStore, expert: str, wanted: Sequence[str]) -> None:
    spec, manifest = held.spec(expert), held.manifest(expert)
    folder = store.root / expert
    before: dict[str, Any] = store.manifest(expert) if (folder / MANIFEST).exists() else {}
    shards, texts = dict(before.get("shards", {})), dict(before.get("texts", {}))
    counts = {name: list(count) for name, count in before.get("counts_by_shard", {}).items()}
    for at in range(0, len(wanted), SHARD_VIDEOS):
        ids = wanted[at : at + SHARD_VIDEOS]
        name = f"part-{hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:12]}.parquet"
        rows, found, made_with = _of(held, expert, frozenset(ids))
        if found:
            texts[name] = write_found(side_table(folder / name), found)
        shards[name] = write_shard(folder / name, spec, rows, ids, made_with)
        counts[name] = [len(ids), len(rows)]
    write_expert_manifest(
        folder,
        spec,
        shards,
        inputs=manifest["inputs"],
        config=manifest["config"],
        counts={"examined": sum(e for e, _ in counts.values()), "present": sum(p for _, p in counts.values())},
        counts_by_shard=counts,
        texts=texts,
    )


def _of(
    held: FeatureStore, expert: str, ids: frozenset[str]
) -> tuple[list[dict[str, Any]], dict[str, list[FoundText]], dict[str, Any]]:
    """Return the rows of some videos, what was read or heard in them, and how they were made."""
    rows: dict[str, dict[str, Any]] = {}
    made_with: dict[str, Any] = {}
    for path in held.shards(expert):
        for row in rows_of(path, ids):
            rows.setdefault(row["video_id"], row)
            made_with = made_with or json.loads(read_metadata(path).get(b"vtr.made_with", b"{}"))
    found: dict[str, list[FoundText]] = {}
    for table in held.side_tables(expert):
        for video_id, text in read_found(table):
            if video_id in rows:
                found.setdefault(video_id, []).append(text)
    return [rows[i] for i in sorted(rows)], {i: found[i] for i in sorted(found)}, made_with


def chosen_rows(part: EmbeddedPart, video_ids: Iterable[str]) -> EmbeddedPart:
    """Return some videos of a part, in its order, with their captions."""
    wanted = frozenset(video_ids)
    rows = np.array([row for row, video_id in enumerate(part.videos.ids) if video_id in wanted], np.int64)
    place = np.full(len(part.videos.ids), -1, np.int64)
    place[rows] = np.arange(len(rows))
    told = np.flatnonzero(place[part.video_of_text] >= 0) if len(part.video_of_text) else np.zeros(0, np.int64)
    return EmbeddedPart(
        part.experts,
        video_rows(part.videos, rows),
        text_rows(part.texts, told),
        tuple(part.texts_plain[row] for row in told),
        place[part.video_of_text[told]],
        coverage(len(rows)),
    )
