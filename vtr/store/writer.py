"""Writing the feature store: one shard at a time, atomically, and the manifest that lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vtr.files import atomic_file, sha256_file
from vtr.store.schema import ROW_GROUP_ROWS, SCHEMA, file_metadata
from vtr.types import ExpertSpec
from vtr.workspace import FORMAT, fingerprint, write_manifest


def shard_name(number: int) -> str:
    """Return the file name of shard `number`."""
    return f"part-{number:05d}.parquet"


def write_shard(
    path: Path,
    spec: ExpertSpec,
    rows: Sequence[Mapping[str, Any]],
    examined: Sequence[str],
    made_with: Mapping[str, Any],
) -> str:
    """Write one shard atomically and return its SHA-256.

    Args:
        path: the file.
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
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA.with_metadata(metadata))
    with atomic_file(path) as temporary:
        pq.write_table(
            table,
            temporary,
            row_group_size=ROW_GROUP_ROWS,
            compression="zstd",
            use_dictionary=False,  # blobs do not repeat; a dictionary of them makes reading twice as slow
            write_statistics=False,
            write_page_checksum=True,
        )
    return sha256_file(path)


def write_expert_manifest(
    folder: Path,
    spec: ExpertSpec,
    checksums: Mapping[str, str],
    *,
    inputs: Mapping[str, str],
    config: Mapping[str, Any],
    counts: Mapping[str, int],
    counts_by_shard: Mapping[str, list[int]],
) -> None:
    """Write an expert's manifest: its spec, its shards with their checksums, how many videos they cover and how
    many of those have features: in all, and as [examined, present] by shard."""
    write_manifest(
        folder,
        "extract",
        output=fingerprint([asdict(spec), dict(sorted(checksums.items()))]),
        inputs=inputs,
        config=dict(config),
        expert=asdict(spec),
        shards=dict(sorted(checksums.items())),
        counts=dict(counts),
        counts_by_shard=dict(counts_by_shard),
    )
