"""The export stage: embeddings in the form another engine takes in, so that it may run on many machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vtr.annotations.tables import load_annotations
from vtr.data.corpus import resolve_part
from vtr.embeddings import CAPTIONS, VIDEOS, HeldPart, PartFiles, PartSource
from vtr.errors import ConfigError, InputError, UnavailableError
from vtr.files import atomic_directory, write_json
from vtr.retrieval.hits import Stretch
from vtr.retrieval.library_source import searched_library
from vtr.similarity import flat_texts, flat_videos
from vtr.types import Annotations, Part
from vtr.workspace import FORMAT, Run, read_manifest

Engine = Literal["parquet", "qdrant-jsonl", "lancedb", "milvus"]
SIDECAR = "vtr.json"
METADATA = {
    VIDEOS: {
        "video_id": pa.string(),
        "start_seconds": pa.float64(),
        "end_seconds": pa.float64(),
        "path": pa.string(),
        "category": pa.string(),
        "source_id": pa.string(),
    },
    CAPTIONS: {"text": pa.string(), "video_id": pa.string()},
}


@dataclass(frozen=True)
class _Source:
    """What is exported: embeddings, their fingerprint and their model's, and what their rows are."""

    part: PartSource
    output: str
    made_by: str
    annotations: Annotations
    stretches: Mapping[str, Stretch]


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        out: the folder.
        engine: whose form it has.
        videos, captions: how many; of the long videos of a library, their stretches are counted.
    """

    out: Path
    engine: Engine
    videos: int
    captions: int

    def __str__(self) -> str:
        return f"{self.videos} videos and {self.captions} captions for {self.engine} in {self.out}"


def export(run: Run, split: str | None, part: Part | None, *, to: Engine, out: Path) -> Exported:
    """Write one embedded part, or the library, as collections of videos and of captions: id, vector, metadata.

    An inner product of a caption's and a video's vector is the score's numerator: with all experts present, the score.
    The sidecar says what the vectors are, and how many numbers they have. `out` is written whole or not at all.

    Args:
        run: a trained run, or one made without training.
        split, part: see `vtr.data.corpus.resolve_part`; the library where `split` is "library", and where neither is
            given and the run has one.
        to: "parquet" (one file a collection), "qdrant-jsonl" (points, one a line), "lancedb" (tables of an embedded
            database), "milvus" (Parquet files for its bulk import).
        out: the folder to make.

    Raises:
        ConfigError: `to` is none of these.
        InputError: `out` exists.
        UnavailableError: the package for the engine is missing.
        WorkspaceError: the part is not embedded, or `out` cannot be written.
    """
    if to not in WRITERS:
        raise ConfigError(f"cannot export to '{to}', one of {', '.join(WRITERS)} was expected.")
    if out.exists():
        raise InputError(f"{out} exists already, a new folder was expected. Choose another --out, or delete it.")
    source = _source(run, split, part)
    counts = {}
    with atomic_directory(out) as temporary:
        for kind, batches in ((VIDEOS, _videos(source)), (CAPTIONS, _captions(source))):
            counts[kind] = WRITERS[to](temporary, kind, batches)
        masked = any(bool((batch.present != 1).any()) for batch in source.part.videos())
        write_json(temporary / SIDECAR, _sidecar(source, to, counts, masked))
    return Exported(out, to, counts[VIDEOS], counts[CAPTIONS])


def _source(run: Run, split: str | None, part: Part | None) -> _Source:
    trained = read_manifest(run.root, f"vtr train WS --config CONFIG --out {run.root}")
    if (library := searched_library(run, split, part)) is not None:
        made_by = str(trained["output"])
        output, opened = str(library.output()), library.open(made_by)
        held = HeldPart(opened.indexed.index.part)
        return _Source(held, output, made_by, load_annotations(opened.workspace), opened.items)
    name, chosen = resolve_part(run.workspace, trained["config"]["split"], split, part)
    files = PartFiles.open(run.embeddings / f"{name}-{chosen}")
    return _Source(files, files.output, files.made_by, load_annotations(run.workspace), {})


def _sidecar(source: _Source, to: Engine, counts: Mapping[str, int], masked: bool) -> dict[str, Any]:
    files = source.part
    return {
        "format": FORMAT,
        "to": to,
        "collections": counts,
        "dim": len(files.experts) * files.dim,
        "metric": "inner product",
        "experts": list(files.experts),
        "dim_of_an_expert": files.dim,
        "masked": masked,
        "exact": "yes"
        if not masked
        else "no: videos lack experts, so the score is the inner product over the weight of "
        "those that a video has; rank the engine's candidates again with `per_expert` of both",
        "coverage": str(files.coverage),
        "embed": source.output,
        "train": source.made_by,
    }


def _videos(source: _Source) -> Iterator[pa.RecordBatch]:
    for batch in source.part.videos():
        stretches = [source.stretches.get(row_id) for row_id in batch.ids]  # None for a whole video
        of = [stretch.video_id if stretch else row_id for row_id, stretch in zip(batch.ids, stretches, strict=True)]
        known = [source.annotations.video_by_id.get(video_id) for video_id in of]
        columns: dict[str, list[Any]] = {"video_id": of}
        columns |= {name: [getattr(row, name, None) for row in stretches] for name in ("start_seconds", "end_seconds")}
        columns |= {name: [getattr(video, name, None) for video in known] for name in ("path", "category", "source_id")}
        yield _batch(VIDEOS, batch.ids, flat_videos(batch).numpy(), batch.present.float().numpy(), columns)


def _captions(source: _Source) -> Iterator[pa.RecordBatch]:
    for batch in source.part.captions():
        owners = [source.annotations.caption_by_id[caption_id].video_id for caption_id in batch.texts.ids]
        columns: dict[str, list[Any]] = {"text": list(batch.plain), "video_id": owners}
        vectors = flat_texts(batch.texts).numpy()
        yield _batch(CAPTIONS, batch.texts.ids, vectors, batch.texts.weights.numpy(), columns)


def _batch(
    kind: str, ids: tuple[str, ...], vectors: Any, per_expert: Any, columns: dict[str, list[Any]]
) -> pa.RecordBatch:
    arrays = [pa.array(ids, pa.string()), _lists(vectors), _lists(per_expert)]
    arrays += [pa.array(columns[name], type_) for name, type_ in METADATA[kind].items()]
    return pa.record_batch(arrays, schema=_schema(kind, vectors.shape[1], per_expert.shape[1]))


def _lists(rows: Any) -> Any:
    flat = pa.array(np.ascontiguousarray(rows, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def _schema(kind: str, width: int, experts: int) -> pa.Schema:
    fixed = {"id": pa.string(), "vector": pa.list_(pa.float32(), width), "per_expert": pa.list_(pa.float32(), experts)}
    return pa.schema(list((fixed | METADATA[kind]).items()))


def _parquet(folder: Path, kind: str, batches: Iterator[pa.RecordBatch]) -> int:
    count, writer = 0, None
    for batch in batches:
        writer = writer or pq.ParquetWriter(folder / f"{kind}.parquet", batch.schema)
        writer.write_batch(batch)
        count += batch.num_rows
    if writer is not None:
        writer.close()
    return count


def _milvus(folder: Path, kind: str, batches: Iterator[pa.RecordBatch]) -> int:
    """Write one Parquet file in a folder of its own; vectors are plain lists, and no value is missing."""
    (folder / kind).mkdir()

    def plain() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            columns = {name: batch[name] for name in batch.schema.names}
            for name in ("vector", "per_expert"):
                columns[name] = columns[name].cast(pa.list_(pa.float32()))
            for name, type_ in METADATA[kind].items():
                columns[name] = columns[name].fill_null("" if type_ == pa.string() else 0.0)
            yield pa.record_batch(columns)

    return _parquet(folder / kind, kind, plain())


def _qdrant(folder: Path, kind: str, batches: Iterator[pa.RecordBatch]) -> int:
    """Write points, one a line: their ids are numbers, the users' ids are in the payload."""
    count = 0
    with (folder / f"{kind}.jsonl").open("w", encoding="utf-8") as stream:
        for batch in batches:
            count = _points(stream, batch, count)
    return count


def _points(stream: IO[str], batch: pa.RecordBatch, number: int) -> int:
    for row in batch.to_pylist():
        vector = row.pop("vector")
        stream.write(json.dumps({"id": number, "vector": vector, "payload": row}, ensure_ascii=False) + "\n")
        number += 1
    return number


def _lancedb(folder: Path, kind: str, batches: Iterator[pa.RecordBatch]) -> int:
    try:
        import lancedb
    except ImportError as error:
        raise UnavailableError(
            "exporting to LanceDB needs the package lancedb, which is not installed. Run `pip install 'vtr[lancedb]'`."
        ) from error
    first = next(batches, None)
    if first is None:
        return 0
    table = lancedb.connect(str(folder)).create_table(kind, pa.Table.from_batches([first]))
    count = int(first.num_rows)
    for batch in batches:
        table.add(pa.Table.from_batches([batch]))
        count += batch.num_rows
    return count


Writer = Callable[[Path, str, Iterator[pa.RecordBatch]], int]

WRITERS: Mapping[str, Writer] = {
    "parquet": _parquet,
    "qdrant-jsonl": _qdrant,
    "lancedb": _lancedb,
    "milvus": _milvus,
}
