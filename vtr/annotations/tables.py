"""Annotations and splits in a workspace: videos.parquet, captions.parquet, splits/<name>.json and the manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vtr.errors import WorkspaceError, nearest
from vtr.files import atomic_file, read_json, sha256_file, write_json
from vtr.types import PARTS, Annotations, Caption, Split, Video
from vtr.workspace import MANIFEST, Workspace, fingerprint, read_manifest, write_manifest

VIDEO_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("source_id", pa.string()),
        ("category", pa.string()),
    ]
)
CAPTION_SCHEMA = pa.schema([("id", pa.string()), ("video_id", pa.string()), ("text", pa.string())])
MAKE = "vtr prepare msrvtt|folder ... --out WS"


def save(workspace: Workspace, annotations: Annotations, splits: Sequence[Split], report: dict[str, Any]) -> bool:
    """Write annotations and splits into a workspace, the manifest last. Return False when nothing had changed.

    Video paths are stored relative to the workspace, so that both can be moved together.

    Raises:
        WorkspaceError: the workspace cannot be written.
    """
    root = workspace.root.resolve()
    content = {
        "videos": [asdict(video) | {"path": _relative(video.path, root)} for video in annotations.videos],
        "captions": [asdict(caption) for caption in annotations.captions],
        "splits": [asdict(split) for split in splits],
    }
    output = fingerprint(content)
    folder = workspace.annotations
    if (folder / MANIFEST).exists() and read_manifest(folder, MAKE)["output"] == output:
        return False
    (folder / MANIFEST).unlink(missing_ok=True)
    tables = {"videos": VIDEO_SCHEMA, "captions": CAPTION_SCHEMA}
    for name, schema in tables.items():
        with atomic_file(folder / f"{name}.parquet") as temporary:
            pq.write_table(pa.Table.from_pylist(content[name], schema=schema), temporary)
    for old in (folder / "splits").glob("*.json"):
        old.unlink()
    for split in splits:
        write_json(folder / "splits" / f"{split.name}.json", asdict(split))
    write_json(folder / "report.json", report)
    checksums = {name: sha256_file(folder / f"{name}.parquet") for name in tables}
    counts = {"videos": len(annotations.videos), "captions": len(annotations.captions)}
    write_manifest(folder, "prepare", output=output, inputs={}, checksums=checksums, counts=counts)
    return True


def _relative(path: str | None, root: Path) -> str | None:
    return None if path is None else os.path.relpath(path, root)


def load_annotations(workspace: Workspace) -> Annotations:
    """Return the workspace's annotations, video paths absolute.

    Raises:
        WorkspaceError: `vtr prepare` has not been run.
    """
    read_manifest(workspace.annotations, MAKE)
    root = workspace.root.resolve()
    videos = []
    for row in pq.read_table(workspace.annotations / "videos.parquet").to_pylist():
        path = row.pop("path")
        videos.append(Video(**row, path=None if path is None else os.path.normpath(root / path)))
    captions = pq.read_table(workspace.annotations / "captions.parquet").to_pylist()
    return Annotations(tuple(videos), tuple(Caption(**row) for row in captions))


def split_names(workspace: Workspace) -> tuple[str, ...]:
    """Return the names of the workspace's splits.

    Raises:
        WorkspaceError: `vtr prepare` has not been run.
    """
    read_manifest(workspace.annotations, MAKE)
    return tuple(sorted(path.stem for path in (workspace.annotations / "splits").glob("*.json")))


def load_split(workspace: Workspace, name: str) -> Split:
    """Return one split.

    Raises:
        WorkspaceError: there is none of that name; the message lists those there are.
    """
    names = split_names(workspace)
    if name not in names:
        hint = nearest(name, list(names))
        raise WorkspaceError(f"{workspace.root} has no split '{name}'.{hint} It has: {', '.join(names)}.")
    values = read_json(workspace.annotations / "splits" / f"{name}.json")
    train, validation, test = (tuple(values[part]) for part in PARTS)
    queries = values["query_caption_ids"]
    return Split(name, train, validation, test, None if queries is None else tuple(queries), values["note"])


def annotations_fingerprint(workspace: Workspace) -> str:
    """Return the fingerprint of the workspace's annotations and splits.

    Raises:
        WorkspaceError: `vtr prepare` has not been run.
    """
    return str(read_manifest(workspace.annotations, MAKE)["output"])
