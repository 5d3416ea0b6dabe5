"""Reading the feature store."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vtr.errors import WorkspaceError, nearest
from vtr.files import sha256_file
from vtr.store.schema import SCHEMA, decode_row, metadata_examined, metadata_spec
from vtr.types import ExpertFeatures, ExpertSpec
from vtr.workspace import MANIFEST, fingerprint, read_manifest

MAKE = "vtr extract WS"


class FeatureStore:
    """The experts' features under one folder: `<root>/<expert>/part-*.parquet`, each with a manifest.

    Args:
        root: the folder, `workspace.features`. It may be empty or missing: then there are no experts.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts that have features, in alphabetical order."""
        return tuple(sorted(path.parent.name for path in self.root.glob(f"*/{MANIFEST}")))

    def manifest(self, expert: str) -> dict[str, Any]:
        """Return an expert's manifest.

        Raises:
            WorkspaceError: the store does not hold the expert, or a newer vtr wrote it.
        """
        if not (self.root / expert / MANIFEST).exists():
            held = self.experts
            listed = f"it holds: {', '.join(held)}" if held else "it holds no experts yet"
            raise WorkspaceError(
                f"{self.root} has no expert '{expert}';{nearest(expert, list(held))} {listed}. Run `{MAKE}`."
            )
        return read_manifest(self.root / expert, MAKE)

    def spec(self, expert: str) -> ExpertSpec:
        """Return what an expert's features are."""
        return ExpertSpec(**self.manifest(expert)["expert"])

    def shards(self, expert: str) -> list[Path]:
        """Return an expert's shards in order."""
        return [self.root / expert / name for name in sorted(self.manifest(expert)["shards"])]

    def examined(self, expert: str) -> frozenset[str]:
        """Return the ids of the videos the expert has read, whether it found anything or not."""
        return frozenset(
            video_id for path in self.shards(expert) for video_id in metadata_examined(_schema(path).metadata)
        )

    def video_ids(self, expert: str) -> tuple[str, ...]:
        """Return the ids of the videos that have features, in stored order."""
        return tuple(
            video_id
            for path in self.shards(expert)
            for video_id in _open(path).read(columns=["video_id"])["video_id"].to_pylist()
        )

    def read(self, expert: str, video_ids: Collection[str] | None = None) -> dict[str, ExpertFeatures]:
        """Return video id -> features in the stored precision, for all videos or those asked for that have any.

        Raises:
            WorkspaceError: the expert is not in the store, or a shard is damaged or does not fit the expert's spec.
        """
        wanted = None if video_ids is None else set(video_ids)
        spec = self.spec(expert)
        return {
            row["video_id"]: _decode(path, row, spec)
            for path, row in self._rows(expert)
            if wanted is None or row["video_id"] in wanted
        }

    def texts(self, expert: str) -> dict[str, tuple[str, ...]]:
        """Return video id -> the texts an expert kept (words on screen, words spoken); empty for other experts."""
        return {row["video_id"]: tuple(row["texts"]) for _, row in self._rows(expert) if row["texts"] is not None}

    def fingerprint(self, experts: Collection[str] | None = None) -> str:
        """Return one hash of what the store holds, of all experts or some."""
        return fingerprint({name: self.manifest(name)["output"] for name in sorted(experts or self.experts)})

    def verify(self, expert: str) -> list[str]:
        """Return what is wrong with an expert's shards, in words; empty when all checksums, shapes and values hold."""
        problems = []
        spec = self.spec(expert)
        for name, expected in sorted(self.manifest(expert)["shards"].items()):
            path = self.root / expert / name
            if not path.exists():
                problems.append(f"{path} is missing")
                continue
            if sha256_file(path) != expected:
                problems.append(f"{path} has changed since it was written (checksum differs)")
            try:
                for row in _table(path).to_pylist():
                    _decode(path, row, spec)
            except WorkspaceError as error:
                problems.append(str(error))
        return problems

    def _rows(self, expert: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in self.shards(expert):
            for row in _table(path).to_pylist():
                yield path, row


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise WorkspaceError(
            f"{path} cannot be read ({error}). Delete it, and run `{MAKE}` to extract its videos again."
        ) from error


def _schema(path: Path) -> pa.Schema:
    schema = _open(path).schema_arrow
    if not schema.equals(SCHEMA):
        raise WorkspaceError(f"{path} has the columns {', '.join(schema.names)}; {', '.join(SCHEMA.names)} expected.")
    return schema


def _table(path: Path) -> pa.Table:
    _schema(path)
    try:
        return _open(path).read()
    except (OSError, pa.ArrowException) as error:
        raise WorkspaceError(
            f"{path} is damaged ({error}). Delete it, and run `{MAKE}` to extract its videos again."
        ) from error


def _decode(path: Path, row: dict[str, Any], spec: ExpertSpec) -> ExpertFeatures:
    try:
        features = decode_row(row)
    except ValueError as error:
        raise WorkspaceError(
            f"{path}, {row['video_id']}: {error}. Delete the file, and run `{MAKE}` to extract its videos again."
        ) from error
    if features.dim != spec.dim:
        raise WorkspaceError(
            f"{path}, {row['video_id']}: features have shape {list(features.values.shape)}, expert {spec.name} has dim "
            f"{spec.dim}. Delete {path.parent}, and run `{MAKE}`."
        )
    return features


def read_shard(path: Path) -> tuple[ExpertSpec, list[str], list[dict[str, Any]]]:
    """Return a shard's spec, the ids it covers, and its rows as stored.

    Raises:
        WorkspaceError: the file is damaged.
    """
    metadata = _schema(path).metadata
    return metadata_spec(metadata), metadata_examined(metadata), _table(path).to_pylist()
