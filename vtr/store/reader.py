"""Reading the feature store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vtr.errors import WorkspaceError, nearest
from vtr.files import sha256_file
from vtr.store.schema import BLOBS, SCHEMA, decode_row, metadata_examined, metadata_spec
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
        return frozenset(video_id for path in self.shards(expert) for video_id in covered_by(path))

    def video_ids(self, expert: str) -> tuple[str, ...]:
        """Return the ids of the videos that have features, in stored order."""
        return tuple(row["video_id"] for _, row in self._rows(expert, columns=("video_id",)))

    def read(self, expert: str, video_ids: Collection[str] | None = None) -> dict[str, ExpertFeatures]:
        """Return video id -> features, for all videos or those asked for that have any.

        Values come in the stored precision (float16 or float32), as read-only views.

        Raises:
            WorkspaceError: the expert is not in the store, or a shard is damaged or does not fit the expert's spec.
        """
        wanted = None if video_ids is None else frozenset(video_ids)
        spec = self.spec(expert)
        return {row["video_id"]: _decode(path, row, spec) for path, row in self._rows(expert, wanted, spec=spec)}

    def texts(self, expert: str) -> dict[str, tuple[str, ...]]:
        """Return video id -> the texts an expert kept (words on screen, words spoken); empty for other experts."""
        rows = self._rows(expert, columns=("video_id", "texts"))
        return {row["video_id"]: tuple(row["texts"]) for _, row in rows if row["texts"] is not None}

    def fingerprint(self, experts: Collection[str] | None = None) -> str:
        """Return one hash of what the store holds, of all experts or some."""
        return fingerprint({name: self.manifest(name)["output"] for name in sorted(experts or self.experts)})

    def verify(self, expert: str) -> list[str]:
        """Return what is wrong with an expert's shards, in words; empty when all checksums, shapes and values hold."""
        problems = []
        spec = self.spec(expert)
        held: Counter[str] = Counter()
        for name, expected in sorted(self.manifest(expert)["shards"].items()):
            path = self.root / expert / name
            if not path.exists():
                problems.append(f"{path} is missing")
                continue
            if sha256_file(path) != expected:
                problems.append(f"{path} has changed since it was written (checksum differs)")
            try:
                for row in _rows_of(path, spec=spec):
                    _decode(path, row, spec)
                held.update(covered_by(path))
            except WorkspaceError as error:
                problems.append(str(error))
        if twice := [video_id for video_id, count in held.items() if count > 1]:
            problems.append(f"{self.root / expert} covers {len(twice)} videos more than once, {twice[0]} among them")
        return problems

    def _rows(
        self,
        expert: str,
        wanted: frozenset[str] | None = None,
        columns: Sequence[str] = SCHEMA.names,
        spec: ExpertSpec | None = None,
    ) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in self.shards(expert):
            for row in _rows_of(path, wanted, columns, spec):
                yield path, row


def _rows_of(
    path: Path,
    wanted: frozenset[str] | None = None,
    columns: Sequence[str] = SCHEMA.names,
    spec: ExpertSpec | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a shard's rows, or those of the videos `wanted`; blobs as buffers, without a copy.

    Raises:
        WorkspaceError: the shard is damaged, or holds another expert than `spec`.
    """
    with _open(path) as file:
        held = metadata_spec(file.schema_arrow.metadata)
        if spec is not None and held != spec:
            raise WorkspaceError(f"{path} was made by {held}, the store's manifest says {spec}. {_mend(path.parent)}")
        try:
            if wanted is not None and wanted.isdisjoint(file.read(columns=["video_id"])["video_id"].to_pylist()):
                return
            table = file.read(columns=list(columns))
        except (OSError, pa.ArrowException) as error:
            raise WorkspaceError(f"{path} is damaged ({error}). {_mend(path)}") from error
    if wanted is not None:
        table = table.filter(pc.is_in(table["video_id"], value_set=pa.array(sorted(wanted), pa.string())))
    for cells in zip(*(table[name] for name in columns), strict=True):
        yield {n: cell.as_buffer() if n in BLOBS else cell.as_py() for n, cell in zip(columns, cells, strict=True)}


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}). {_mend(path)}") from error
    schema = file.schema_arrow
    if not schema.equals(SCHEMA):
        found = ", ".join(f"{field.name} {field.type}" for field in schema)
        expected = ", ".join(f"{field.name} {field.type}" for field in SCHEMA)
        raise WorkspaceError(f"{path} has the columns {found}; {expected} expected. {_mend(path)}")
    if missing := [key for key in ("vtr.expert", "vtr.examined") if key.encode() not in (schema.metadata or {})]:
        raise WorkspaceError(f"{path} lacks the metadata {', '.join(missing)}: vtr did not write it. {_mend(path)}")
    return file


def _decode(path: Path, row: dict[str, Any], spec: ExpertSpec) -> ExpertFeatures:
    try:
        features = decode_row(row)
    except ValueError as error:
        raise WorkspaceError(f"{path}, {row['video_id']}: {error}. {_mend(path)}") from error
    if features.dim != spec.dim:
        raise WorkspaceError(
            f"{path}, {row['video_id']}: features have shape {list(features.values.shape)}, expert {spec.name} has dim "
            f"{spec.dim}, shape [T, {spec.dim}] was expected. {_mend(path.parent)}"
        )
    return features


def _mend(path: Path) -> str:
    workspace = (path if path.suffix else path / "part").parents[2]
    return f"Delete {path}, and run `vtr extract {workspace}` to extract its videos again."


def covered_by(path: Path) -> list[str]:
    """Return all video ids a shard covers, present or absent.

    Raises:
        WorkspaceError: the file is damaged.
    """
    with _open(path) as file:
        return metadata_examined(file.schema_arrow.metadata)


def read_shard(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the ids a shard covers, and its rows as stored.

    Raises:
        WorkspaceError: the file is damaged.
    """
    rows = [
        {name: value.to_pybytes() if isinstance(value, pa.Buffer) else value for name, value in row.items()}
        for row in _rows_of(path)
    ]
    return covered_by(path), rows
