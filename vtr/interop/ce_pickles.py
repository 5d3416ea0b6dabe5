"""Reading CE's pickles of features, of videos or of captions, into a store's shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtr.errors import InputError
from vtr.interop.ce_layout import ReleasedFile
from vtr.interop.features import (
    PIECES,
    Identity,
    Piece,
    ShardFacts,
    Skipped,
    checked_values,
    is_whole,
    keep_or_write,
    read_piece,
    stamp,
    write_piece,
)
from vtr.progress import progress
from vtr.safe_pickle import load_pickle
from vtr.store.schema import encode_row
from vtr.store.writer import shard_name
from vtr.types import ExpertFeatures, ExpertSpec
from vtr.workspace import Workspace

AGAIN = "Fetch the file again, or pass --skip-bad to go on without it."


@dataclass(frozen=True)
class Job:
    """What reading a pickle needs to know.

    Attributes:
        workspace, identity: of the import.
        captions_stamp: of the captions' file, which say what the text features belong to.
        videos: the listed videos whose captions are not bad.
        captions: video id -> its captions.
        skip_bad: pass over what is bad.
    """

    workspace: Workspace
    identity: Identity
    captions_stamp: list[int] | None
    videos: Sequence[str]
    captions: Mapping[str, Sequence[str]]
    skip_bad: bool


def load_dictionary(path: Path, what: str) -> dict[str, Any]:
    """Return a pickle that maps video ids to `what`.

    Raises:
        InputError: it is damaged, would run code, or holds something else.
    """
    content = load_pickle(path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path} holds {type(content).__name__}, video ids with {what} were expected. Fetch it again.")
    return content


def read_all(job: Job, files: Sequence[ReleasedFile]) -> tuple[list[Piece], int]:
    """Read the files that are not finished yet. Return a piece a file, and how many files were read.

    Raises:
        InputError: a file is damaged or would run code, or (unless skipped) holds what it should not.
    """
    pieces: dict[str, Piece] = {}
    for file in files:
        store = file.store(job.workspace)
        piece = read_piece(store / PIECES / f"{file.name}.json", _key(job, file))
        if piece is not None and is_whole(store, piece, job.identity):
            pieces[file.label] = piece
    todo = [file for file in files if file.label not in pieces]
    if todo:
        with progress("import", len(todo) * len(job.videos), "videos") as advance:
            for file in todo:
                pieces[file.label] = read_file(job, file, advance)
    return [pieces[file.label] for file in files], len(todo)


def _key(job: Job, file: ReleasedFile) -> Any:
    return [stamp(file.path), job.captions_stamp]


def read_file(job: Job, file: ReleasedFile, advance: Callable[[int, str], None]) -> Piece:
    """Read one pickle into shards, and write the piece down as the last act.

    Raises:
        InputError: the file is damaged or would run code, or (unless skipped) holds what it should not.
    """
    key, store, content = _key(job, file), file.store(job.workspace), load_dictionary(file.path, "arrays")
    spec: ExpertSpec | None = None
    examined: dict[int, list[str]] = {}
    shards: dict[int, ShardFacts] = {}
    skipped: list[Skipped] = []
    size = job.identity.shard_videos
    for number, at in enumerate(range(0, len(job.videos), size)):
        group = job.videos[at : at + size]
        values = {video_id: content.pop(video_id, None) for video_id in group}  # popped: memory is freed on the way
        examined[number], rows, bad = _read_group(job, file, values, None if spec is None else spec.dim)
        skipped += bad
        if rows:
            spec = spec or file.spec(rows[0]["dim"])
            path = store / file.name / shard_name(number)
            shards[number] = keep_or_write(path, spec, rows, examined[number], job.identity)
        advance(len(group), file.label)
    made = {} if spec is None else {file.name: spec}
    piece = Piece(key, examined, dict.fromkeys(made, shards), made, {}, skipped)
    write_piece(store / PIECES / f"{file.name}.json", piece)
    return piece


def _read_group(
    job: Job, file: ReleasedFile, values: Mapping[str, Any], dim: int | None
) -> tuple[list[str], list[dict[str, Any]], list[Skipped]]:
    """Return the ids that were read, the encoded rows, and the videos passed over."""
    ids: list[str] = []
    rows: list[dict[str, Any]] = []
    skipped = []
    for video_id, value in values.items():
        try:
            rows += _rows(job, file, video_id, value, dim)
            ids += file.items(video_id, job.captions)
        except InputError as error:
            if not job.skip_bad:
                raise
            skipped.append(Skipped(video_id, file.label, "features", str(error)))
        dim = rows[0]["dim"] if rows else dim
    return ids, rows, skipped


def _rows(job: Job, file: ReleasedFile, video_id: str, value: Any, dim: int | None) -> list[dict[str, Any]]:
    """Return a video's encoded rows: one, or one a caption; none where it has no features."""
    where = f"{file.path}: {video_id}"
    items = file.items(video_id, job.captions)
    values = [value]
    if file.is_text:
        values = [] if _is_nan(value) or value is None else value
        if not isinstance(values, list | tuple | np.ndarray) or len(values) > len(items):
            found = f"{len(values)} arrays" if isinstance(values, list | tuple | np.ndarray) else repr(value)[:80]
            raise InputError(f"{where} has {found}, one for each of its {len(items)} captions was expected. {AGAIN}")
    rows: list[dict[str, Any]] = []
    for item, array in zip(items, values, strict=False):  # the release lacks the text features of some captions
        matrix = _matrix(where if not file.is_text else f"{where}, caption {item}", array, dim)
        if matrix is None:
            continue
        dim = matrix.shape[1]
        none = np.full(len(matrix), np.nan, np.float32)
        try:
            rows.append(encode_row(item, ExpertFeatures(matrix, none, none), None, job.identity.dtype))
        except ValueError as error:
            raise InputError(f"{where}: {error}. Import with --dtype float32, or pass --skip-bad.") from error
    return rows


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def _matrix(where: str, value: Any, dim: int | None) -> NDArray[np.float32] | None:
    """Return features [T, D] in float32, or None where they are missing: NaN, empty, or starting with NaN."""
    if value is None or _is_nan(value):
        return None
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{where} is not an array ({error}), [T, {dim or 'D'}] was expected. {AGAIN}") from error
    if array.size == 0 and array.ndim:
        return None
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        found = f"shape {list(array.shape)} and type {array.dtype}" if array.ndim else repr(value)[:80]
        raise InputError(f"{where} has {found}, an array [T, {dim or 'D'}] was expected. {AGAIN}")
    array = array.reshape(-1, array.shape[-1])
    if np.isnan(array[0, 0]):
        return None
    if dim is not None and array.shape[1] != dim:
        raise InputError(f"{where} has shape {list(array.shape)}, [T, {dim}] was expected like the first. {AGAIN}")
    return checked_values(where, array, AGAIN)
