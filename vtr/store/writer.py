"""Writing the feature store: one shard at a time, atomically, and the manifest that lists them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vtr.files import StorePath, write_bytes
from vtr.store.found import FOUND_SCHEMA, encode_found
from vtr.store.schema import BLOBS, ROW_GROUP_ROWS, SCHEMA, file_metadata
from vtr.store.texts import FoundText
from vtr.types import ExpertSpec
from vtr.workspace import FORMAT, fingerprint, write_manifest

COMPRESSION = {name: "none" if name in BLOBS else "zstd" for name in [*SCHEMA.names, "texts.list.element"]}
"""Blobs are left as they are: of real features zstd saves 6 to 37 %, and makes writing and reading a shard three times
as slow."""

MOST_BYTES = 2**31 - 1
"""What the 32-bit offsets of a column reach."""


def shard_name(number: int) -> str:
    """Return the file name of shard `number` of a store whose shards are numbered."""
    return f"part-{number:05d}.parquet"


def write_shard(
    path: StorePath,
    spec: ExpertSpec,
    rows: Sequence[Mapping[str, Any]],
    examined: Sequence[str],
    made_with: Mapping[str, Any],
) -> str:
    """Write one shard, whole or not at all, and return its SHA-256.

    Args:
        path: the file, on this machine or elsewhere.
        spec: what the features are; every row must have its dim.
        rows: encoded rows (`schema.encode_row`), one a video that has features.
        examined: all video ids the shard covers, present or absent.
        made_with: decoder, scaler, settings and versions.

    Raises:
        ValueError: a row's dim is not the spec's, or a row's video is not among `examined`.
        WorkspaceError: the file cannot be written.
    """
    covered = set(examined)
    for row in rows:
        if row["dim"] != spec.dim:
            raise ValueError(f"{row['video_id']}: features have dim {row['dim']}, expert {spec.name} has {spec.dim}")
        if row["video_id"] not in covered:
            raise ValueError(f"{row['video_id']} is not among the videos of {path}")
    metadata = file_metadata(spec, list(examined), made_with, FORMAT)
    columns = [_column([row[field.name] for row in rows], field.type) for field in SCHEMA]
    table = pa.Table.from_arrays(columns, schema=SCHEMA.with_metadata(metadata))
    return _put(
        path,
        table,
        row_group_size=ROW_GROUP_ROWS,
        compression=COMPRESSION,
        use_dictionary=False,  # blobs do not repeat; a dictionary of them makes reading twice as slow
    )


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return a column; blobs are joined at once, which is faster than pyarrow's way, one by one."""
    if kind != pa.binary() or sum(map(len, values)) > MOST_BYTES:
        return pa.array(values, kind)
    ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(values))])


def write_found(path: StorePath, found: Mapping[str, Sequence[FoundText]]) -> str:
    """Write the side table of one shard, whole or not at all, and return its SHA-256.

    Args:
        path: the file.
        found: video id -> what was read or heard in it, in the shard's order.

    Raises:
        WorkspaceError: the file cannot be written.
    """
    rows = [{"video_id": video_id, **encode_found(text)} for video_id, texts in found.items() for text in texts]
    return _put(path, pa.Table.from_pylist(rows, schema=FOUND_SCHEMA), compression="zstd")


def _put(path: StorePath, table: pa.Table, **options: Any) -> str:
    """Write a table as one file; it is hashed while the disk is at work."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_statistics=False, write_page_checksum=True, **options)
    content = memoryview(sink.getvalue())
    with ThreadPoolExecutor(1) as beside:
        checksum = beside.submit(hashlib.sha256, content)
        write_bytes(path, content)
    return checksum.result().hexdigest()


def write_expert_manifest(
    folder: StorePath,
    spec: ExpertSpec,
    checksums: Mapping[str, str],
    *,
    inputs: Mapping[str, str],
    config: Mapping[str, Any],
    counts: Mapping[str, int],
    counts_by_shard: Mapping[str, list[int]],
    texts: Mapping[str, str] | None = None,
    output: str | None = None,
) -> None:
    """Write an expert's manifest, after the files that it lists.

    Args:
        folder: the expert's.
        spec: what its features are.
        checksums: shard -> SHA-256.
        inputs, config: see `vtr.workspace.write_manifest`.
        counts: how many videos the shards cover, and how many of those have features.
        counts_by_shard: the same by shard, [examined, present].
        texts: shard -> SHA-256 of its side table, for shards that have one.
        output: the fingerprint of features that only moved from shard to shard; by default it follows the shards.
    """
    held = [asdict(spec), dict(sorted(checksums.items())), *([dict(sorted(texts.items()))] if texts else [])]
    write_manifest(
        folder,
        "extract",
        output=output or fingerprint(held),
        inputs=inputs,
        config=dict(config),
        expert=asdict(spec),
        shards=dict(sorted(checksums.items())),
        texts=dict(sorted((texts or {}).items())),
        counts=dict(counts),
        counts_by_shard=dict(counts_by_shard),
    )
