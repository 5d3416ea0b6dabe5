"""Annotations and splits in a workspace: videos.parquet, captions.parquet, splits/<name>.json and the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from sys import intern
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vtr.annotations.locators import absolute, relative
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
MAKE = "vtr prepare msrvtt|folder|list ... --out WS"
ROWS_AT_ONCE = 1 << 14
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
        "videos": [_row(video) | {"path": video.path and relative(video.path, root)} for video in annotations.videos],
        "captions": [_row(caption) for caption in annotations.captions],
        "splits": [_row(split) for split in splits],
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
            write_json(temporary / SPLITS / f"{split.name}.json", _row(split))
        made = sorted(path for path in temporary.rglob("*") if path.is_file())
        checksums = {path.relative_to(temporary).as_posix(): sha256_file(path) for path in made}
        write_json(temporary / REPORT, report)
        counts = {"videos": len(annotations.videos), "captions": len(annotations.captions)}
        write_manifest(temporary, "prepare", output=output, inputs={}, checksums=checksums, counts=counts)
    return True


def _row(item: Video | Caption | Split) -> dict[str, Any]:
    """Return what `asdict` does, which copies each value and takes ten times as long."""
    return {name: getattr(item, name) for name in item.__match_args__}


def _is_sound(folder: Path, output: str) -> bool:
    manifest = read_manifest(folder, MAKE)
    return bool(manifest["output"] == output) and all(
        (folder / name).exists() and sha256_file(folder / name) == expected
        for name, expected in manifest["checksums"].items()
    )


def _rows(workspace: Workspace, name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, some thousand in memory at a time."""
    path = workspace.annotations / name
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise WorkspaceError(f"{path} is missing or damaged ({error}). Run `{MAKE}` again.") from error


def load_annotations(workspace: Workspace) -> Annotations:
    """Return the workspace's annotations, video paths absolute.

    Raises:
        WorkspaceError: `vtr prepare` has not been run, or a table is damaged.
    """
    read_manifest(workspace.annotations, MAKE)
    videos = load_videos(workspace)
    ids = {video.id: video.id for video in videos}  # captions hold the videos' own strings, not copies
    captions = (
        Caption(row["id"], ids.get(row["video_id"], row["video_id"]), row["text"]) for row in _rows(workspace, CAPTIONS)
    )
    return Annotations(videos, tuple(captions))


def load_videos(workspace: Workspace) -> tuple[Video, ...]:
    """Return the workspace's videos, paths absolute, without reading the captions.

    Raises:
        WorkspaceError: `vtr prepare` has not been run, or the table is damaged.
    """
    read_manifest(workspace.annotations, MAKE)
    root = workspace.root.resolve()
    videos = []
    for row in _rows(workspace, VIDEOS):
        path, category = row.pop("path"), row.pop("category")
        videos.append(Video(**row, path=path and absolute(path, root), category=category and intern(category)))
    return tuple(videos)


def split_names(workspace: Workspace) -> tuple[str, ...]:
    """Return the names of the workspace's splits, the user's own ones last.

    Raises:
        WorkspaceError: `vtr prepare` has not been run.
    """
    read_manifest(workspace.annotations, MAKE)
    folders = (workspace.annotations / SPLITS, workspace.own_splits)
    names = (name for folder in folders for name in sorted(path.stem for path in folder.glob("[!.]*.json")))
    return tuple(dict.fromkeys(names))


def save_own_split(workspace: Workspace, split: Split) -> Path:
    """Write a split of the user's own and return its file. `vtr prepare` keeps it; the caller holds `prepare_lock`.

    Raises:
        WorkspaceError: the workspace cannot be written.
    """
    path = workspace.own_splits / f"{split.name}.json"
    write_json(path, asdict(split))
    return path


def load_split(workspace: Workspace, name: str) -> Split:
    """Return one split.

    Raises:
        WorkspaceError: there is none of that name (the message lists those there are), or its file is damaged.
    """
    names = split_names(workspace)
    if name not in names:
        hint = nearest(name, list(names))
        raise WorkspaceError(f"{workspace.root} has no split '{name}'.{hint} It has: {', '.join(names)}.")
    own = is_own(workspace, name)
    path, make = workspace.annotations / SPLITS / f"{name}.json", MAKE
    if own:
        path, make = workspace.own_splits / f"{name}.json", f"vtr prepare split|holdout {workspace.root} {name} ..."
    try:
        values = read_json(path)
        train, validation, test = (tuple(values[part]) for part in PARTS)
        queries = values["query_caption_ids"]
        split = Split(name, train, validation, test, None if queries is None else tuple(queries), values["note"])
    except (InputError, KeyError, TypeError) as error:
        raise WorkspaceError(f"{path} is damaged ({error}). Run `{make}` again.") from error
    if own:  # the others were written together with the annotations
        known = {video.id for video in load_videos(workspace)}
        if unknown := [video_id for part in PARTS for video_id in split.part(part) if video_id not in known]:
            raise WorkspaceError(
                f"{path} names {len(unknown)} videos that {workspace.root} does not hold any more, for example "
                f"{unknown[0]}. Run `{make}` again."
            )
    return split


def is_own(workspace: Workspace, name: str) -> bool:
    """Return whether a split is the user's own, not one that `vtr prepare` made with the annotations."""
    return not (workspace.annotations / SPLITS / f"{name}.json").exists() and name in split_names(workspace)


def annotations_fingerprint(workspace: Workspace, split: str | None = None) -> str:
    """Return the fingerprint of the workspace's annotations and splits.

    Args:
        workspace: where they are.
        split: the split that was used; one of the user's own is not among the annotations' and counts too.

    Raises:
        WorkspaceError: `vtr prepare` has not been run.
    """
    output = str(read_manifest(workspace.annotations, MAKE)["output"])
    if split is None or not is_own(workspace, split):
        return output
    return fingerprint([output, asdict(load_split(workspace, split))])
