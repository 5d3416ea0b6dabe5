"""Annotations and splits in a workspace: videos.parquet, captions.parquet, splits/<name>.json and the manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vtr.errors import InputError, WorkspaceError, nearest
from vtr.files import atomic_directory, read_json, sha256_file, write_json
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
VIDEOS, CAPTIONS, SPLITS, REPORT = "videos.parquet", "captions.parquet", "splits", "report.json"


def save(workspace: Workspace, annotations: Annotations, splits: Sequence[Split], report: dict[str, Any]) -> bool:
    """Write annotations and splits into a workspace, all or nothing. Return False when nothing had changed.

    Video paths are stored relative to the workspace, so that both can be moved together. The caller holds
    `prepare_lock`.

    Raises:
        WorkspaceError: the workspace cannot be written, or a newer vtr wrote the annotations it holds.
    """
    root, folder = workspace.root.resolve(), workspace.annotations
    content = {
        "videos": [asdict(video) | {"path": _relative(video.path, root)} for video in annotations.videos],
        "captions": [asdict(caption) for caption in annotations.captions],
        "splits": [asdict(split) for split in splits],
    }
    output = fingerprint(content)
    if (folder / MANIFEST).exists() and _is_sound(folder, output):
        if not (folder / REPORT).exists() or read_json(folder / REPORT) != report:
            write_json(folder / REPORT, report)
        return False
    with atomic_directory(folder) as temporary:
        for name, key, schema in ((VIDEOS, "videos", VIDEO_SCHEMA), (CAPTIONS, "captions", CAPTION_SCHEMA)):
            pq.write_table(pa.Table.from_pylist(content[key], schema=schema), temporary / name)
        for split in splits:
            write_json(temporary / SPLITS / f"{split.name}.json", asdict(split))
        made = sorted(path for path in temporary.rglob("*") if path.is_file())
        checksums = {path.relative_to(temporary).as_posix(): sha256_file(path) for path in made}
        write_json(temporary / REPORT, report)
        counts = {"videos": len(annotations.videos), "captions": len(annotations.captions)}
        write_manifest(temporary, "prepare", output=output, inputs={}, checksums=checksums, counts=counts)
    return True


def _relative(path: str | None, root: Path) -> str | None:
    return None if path is None else os.path.relpath(path, root)


def _is_sound(folder: Path, output: str) -> bool:
    manifest = read_manifest(folder, MAKE)
    return bool(manifest["output"] == output) and all(
        (folder / name).exists() and sha256_file(folder / name) == expected
        for name, expected in manifest["checksums"].items()
    )


def _rows(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    path = workspace.annotations / name
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise WorkspaceError(f"{path} is missing or damaged ({error}). Run `{MAKE}` again.") from error
    return rows


def load_annotations(workspace: Workspace) -> Annotations:
    """Return the workspace's annotations, video paths absolute.

    Raises:
        WorkspaceError: `vtr prepare` has not been run, or a table is damaged.
    """
    read_manifest(workspace.annotations, MAKE)
    captions = tuple(Caption(**row) for row in _rows(workspace, CAPTIONS))
    return Annotations(load_videos(workspace), captions)


def load_videos(workspace: Workspace) -> tuple[Video, ...]:
    """Return the workspace's videos, paths absolute, without reading the captions.

    Raises:
        WorkspaceError: `vtr prepare` has not been run, or the table is damaged.
    """
    read_manifest(workspace.annotations, MAKE)
    root = workspace.root.resolve()
    videos = []
    for row in _rows(workspace, VIDEOS):
        path = row.pop("path")
        videos.append(Video(**row, path=None if path is None else os.path.normpath(root / path)))
    return tuple(videos)


def split_names(workspace: Workspace) -> tuple[str, ...]:
    """Return the names of the workspace's splits.

    Raises:
        WorkspaceError: `vtr prepare` has not been run.
    """
    read_manifest(workspace.annotations, MAKE)
    return tuple(sorted(path.stem for path in (workspace.annotations / SPLITS).glob("*.json")))


def load_split(workspace: Workspace, name: str) -> Split:
    """Return one split.

    Raises:
        WorkspaceError: there is none of that name (the message lists those there are), or its file is damaged.
    """
    names = split_names(workspace)
    if name not in names:
        hint = nearest(name, list(names))
        raise WorkspaceError(f"{workspace.root} has no split '{name}'.{hint} It has: {', '.join(names)}.")
    path = workspace.annotations / SPLITS / f"{name}.json"
    try:
        values = read_json(path)
        train, validation, test = (tuple(values[part]) for part in PARTS)
        queries = values["query_caption_ids"]
        return Split(name, train, validation, test, None if queries is None else tuple(queries), values["note"])
    except (InputError, KeyError, TypeError) as error:
        raise WorkspaceError(f"{path} is damaged ({error}). Run `{MAKE}` again.") from error


def annotations_fingerprint(workspace: Workspace) -> str:
    """Return the fingerprint of the workspace's annotations and splits.

    Raises:
        WorkspaceError: `vtr prepare` has not been run.
    """
    return str(read_manifest(workspace.annotations, MAKE)["output"])
