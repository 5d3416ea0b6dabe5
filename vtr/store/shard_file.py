"""Reading one file of the feature store, a shard or a side table: checked before anything of it is believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vtr.errors import WorkspaceError
from vtr.files import StorePath
from vtr.store.found import FOUND_SCHEMA, TEXTS, decode_found
from vtr.store.schema import BLOBS, SCHEMA, decode_row, metadata_examined, metadata_spec
from vtr.store.texts import FoundText
from vtr.types import ExpertFeatures, ExpertSpec


def mend(path: StorePath) -> str:
    """Return what to do about a damaged or missing file of a store, or about an expert's folder."""
    if path.parent.name == TEXTS:  # a side table comes again with its shard
        path = path.parent.parent / path.name
    workspace = (path if path.suffix else path / "part").parents[2] if isinstance(path, Path) else "WS"
    gone = path.suffix == ".parquet" and not path.exists()
    begin = "Run" if gone else f"Delete {path}, and run"
    return f"{begin} `vtr extract {workspace}` to extract its videos again."


def rows_of(
    path: StorePath,
    wanted: frozenset[str] | None = None,
    columns: Sequence[str] = SCHEMA.names,
    spec: ExpertSpec | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a shard's rows, or those of the videos `wanted`; blobs as buffers, without a copy.

    Raises:
        WorkspaceError: the shard is damaged, or holds another expert than `spec`.
    """
    with _open(path, whole=True) as file:
        held = metadata_spec(_metadata(path, file))
        if spec is not None and held != spec:
            raise WorkspaceError(f"{path} was made by {held}, the store's manifest says {spec}. {mend(path.parent)}")
        try:
            groups = list(range(file.num_row_groups)) if wanted is None else _groups_of(file, wanted)
            table = file.read_row_groups(groups, columns=list(columns))
        except (OSError, pa.ArrowException) as error:
            raise WorkspaceError(f"{path} is damaged ({error}). {mend(path)}") from error
    if wanted is not None:
        table = table.filter(pc.is_in(table["video_id"], value_set=pa.array(sorted(wanted), pa.string())))
    for cells in zip(*(_cells(name, table[name]) for name in columns), strict=True):
        yield dict(zip(columns, cells, strict=True))


def _groups_of(file: pq.ParquetFile, wanted: frozenset[str]) -> list[int]:
    """Return the row groups that hold some of the videos."""
    numbers = range(file.num_row_groups)
    ids = (file.read_row_group(number, columns=["video_id"])["video_id"].to_pylist() for number in numbers)
    return [number for number, held in zip(numbers, ids, strict=True) if not wanted.isdisjoint(held)]


def _cells(name: str, column: pa.ChunkedArray) -> Iterator[Any]:
    """Yield a column's cells; of blobs, buffers that share the column's memory."""
    for chunk in column.chunks:
        if name not in BLOBS:
            yield from chunk.to_pylist()
        elif len(chunk):
            _, ends, content = chunk.buffers()
            places = np.frombuffer(ends, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
            for start, end in pairwise(places):
                yield content.slice(start, end - start)


def decoded(path: StorePath, row: dict[str, Any], spec: ExpertSpec) -> ExpertFeatures:
    """Return the features of a row.

    Raises:
        WorkspaceError: its blobs and shape do not agree, or its dim is not the expert's.
    """
    try:
        features = decode_row(row)
    except ValueError as error:
        raise WorkspaceError(f"{path}, {row['video_id']}: {error}. {mend(path)}") from error
    if features.dim != spec.dim:
        raise WorkspaceError(
            f"{path}, {row['video_id']}: features have shape {list(features.values.shape)}, expert {spec.name} has dim "
            f"{spec.dim}, shape [T, {spec.dim}] was expected. {mend(path.parent)}"
        )
    return features


def covered_by(path: StorePath) -> list[str]:
    """Return all video ids a shard covers, present or absent.

    Raises:
        WorkspaceError: the file is damaged.
    """
    with _open(path, whole=False) as file:
        return metadata_examined(_metadata(path, file))


def read_shard(path: StorePath) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the ids a shard covers, and its rows as stored.

    Raises:
        WorkspaceError: the file is damaged.
    """
    rows = [
        {name: value.to_pybytes() if isinstance(value, pa.Buffer) else value for name, value in row.items()}
        for row in rows_of(path)
    ]
    return covered_by(path), rows


def read_metadata(path: StorePath) -> dict[bytes, bytes]:
    """Return a shard's metadata.

    Raises:
        WorkspaceError: the file is damaged.
    """
    with _open(path, whole=False) as file:
        return _metadata(path, file)


def side_table(shard: StorePath) -> StorePath:
    """Return where a shard's side table is, if it has one."""
    return shard.parent / TEXTS / shard.name


def read_found(path: StorePath) -> Iterator[tuple[str, FoundText]]:
    """Yield the finds of a side table, each with its video's id.

    Raises:
        WorkspaceError: the file is damaged, or is no side table.
    """
    with _open(path, whole=True) as file:
        _check_columns(path, file, FOUND_SCHEMA)
        try:
            rows = file.read().to_pylist()
            found = [(row["video_id"], decode_found(row)) for row in rows]
        except (OSError, pa.ArrowException, ValueError) as error:
            raise WorkspaceError(f"{path} is damaged ({error}). {mend(path)}") from error
    yield from found


def _open(path: StorePath, *, whole: bool) -> pq.ParquetFile:
    """Open a file; from elsewhere it is fetched in one piece when the `whole` of it will be read."""
    try:
        if isinstance(path, Path):
            return pq.ParquetFile(path, page_checksum_verification=True)
        source = pa.BufferReader(path.read_bytes()) if whole else path.open("rb")
        return pq.ParquetFile(source, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}). {mend(path)}") from error


def _metadata(path: StorePath, file: pq.ParquetFile) -> dict[bytes, bytes]:
    _check_columns(path, file, SCHEMA)
    metadata: dict[bytes, bytes] = file.schema_arrow.metadata or {}
    if missing := [key for key in ("vtr.expert", "vtr.examined") if key.encode() not in metadata]:
        raise WorkspaceError(f"{path} lacks the metadata {', '.join(missing)}: vtr did not write it. {mend(path)}")
    return metadata


def _check_columns(path: StorePath, file: pq.ParquetFile, schema: pa.Schema) -> None:
    if not file.schema_arrow.equals(schema):
        found, expected = (", ".join(f"{field.name} {field.type}" for field in s) for s in (file.schema_arrow, schema))
        raise WorkspaceError(f"{path} has the columns {found}; {expected} expected. {mend(path)}")
