"""The embeddings of one part of a split on disk: what `vtr embed` writes and index, evaluate and serve read.

Videos and captions are Parquet files, one each or many, in the order of their names; many are read a batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtr.coverage import Coverage
from vtr.errors import WorkspaceError
from vtr.files import atomic_file, sha256_file
from vtr.types import TextEmbeddings, VideoEmbeddings
from vtr.workspace import fingerprint, read_manifest, write_manifest

BATCH_BYTES = 1 << 25
"""Vectors that are read, or written as one row group, at once."""

VIDEOS, CAPTIONS = "videos", "captions"


@dataclass(frozen=True, slots=True)
class EmbeddedPart:
    """A part's videos and query captions, embedded.

    Attributes:
        experts: E expert names, the order of axis 1 of the vectors.
        videos: V videos, the gallery.
        texts: T query captions.
        texts_plain: the T captions' text.
        video_of_text: [T] int64, the row in `videos` that each caption describes.
        coverage: how much of the part this is.
    """

    experts: tuple[str, ...]
    videos: VideoEmbeddings
    texts: TextEmbeddings
    texts_plain: tuple[str, ...]
    video_of_text: NDArray[np.int64]
    coverage: Coverage

    def __post_init__(self) -> None:
        if not len(self.texts_plain) == len(self.texts.ids) == len(self.video_of_text):
            raise ValueError(
                f"{len(self.texts.ids)} caption ids, {len(self.texts_plain)} texts and {len(self.video_of_text)} "
                "video rows: equal counts expected"
            )


@dataclass(frozen=True, slots=True)
class CaptionBatch:
    """Some captions of a part: embeddings, the texts, and [n] int64, the row of each one's video among all videos."""

    texts: TextEmbeddings
    plain: tuple[str, ...]
    video_of_text: NDArray[np.int64]


class PartSource(Protocol):
    """A part that may exceed memory: it is read a batch at a time, as often as one likes, in the same order."""

    @property
    def experts(self) -> tuple[str, ...]:
        """E expert names."""
        ...

    @property
    def dim(self) -> int:
        """D, the length of an expert's vector."""
        ...

    @property
    def coverage(self) -> Coverage:
        """How much of a part it is."""
        ...

    def videos(self) -> Iterator[VideoEmbeddings]:
        """Yield the videos, some at a time."""
        ...

    def captions(self) -> Iterator[CaptionBatch]:
        """Yield the captions, some at a time."""
        ...


@dataclass(frozen=True, slots=True)
class HeldPart:
    """A part in memory, as a source."""

    part: EmbeddedPart

    @property
    def experts(self) -> tuple[str, ...]:
        """E expert names."""
        return self.part.experts

    @property
    def dim(self) -> int:
        """D."""
        return int(self.part.videos.vectors.shape[2])

    @property
    def coverage(self) -> Coverage:
        """How much of a part it is."""
        return self.part.coverage

    def videos(self) -> Iterator[VideoEmbeddings]:
        """Yield all videos at once."""
        yield self.part.videos

    def captions(self) -> Iterator[CaptionBatch]:
        """Yield all captions at once, where there are any."""
        if self.part.texts.ids:
            yield CaptionBatch(self.part.texts, self.part.texts_plain, self.part.video_of_text)


@dataclass(frozen=True, slots=True)
class PartFiles:
    """A part on disk, as a source.

    Attributes:
        folder: where `save_part` or `save_parts` wrote it.
        output: its fingerprint.
        made_by: the fingerprint of the model, "" where that is not known.
    """

    folder: Path
    experts: tuple[str, ...]
    dim: int
    coverage: Coverage
    output: str
    made_by: str
    names: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path) -> PartFiles:
        """Open what `save_part` or `save_parts` wrote.

        Raises:
            WorkspaceError: the folder is missing or unfinished.
        """
        manifest = read_manifest(folder, "vtr embed RUN")
        return cls(
            folder,
            tuple(manifest["experts"]),
            manifest["dim"],
            Coverage(**manifest["coverage"]),
            str(manifest["output"]),
            str(manifest["inputs"].get("train", "")),
            tuple(sorted(manifest["checksums"])),
        )

    def videos(self) -> Iterator[VideoEmbeddings]:
        """Yield the videos, some at a time.

        Raises:
            WorkspaceError: a file is missing or damaged.
        """
        for batch in self._batches(VIDEOS):
            yield VideoEmbeddings(tuple(batch["id"].to_pylist()), *self._tensors(batch))

    def captions(self) -> Iterator[CaptionBatch]:
        """Yield the captions, some at a time.

        Raises:
            WorkspaceError: a file is missing or damaged.
        """
        for batch in self._batches(CAPTIONS):
            texts = TextEmbeddings(tuple(batch["id"].to_pylist()), *self._tensors(batch))
            yield CaptionBatch(texts, tuple(batch["text"].to_pylist()), batch["video"].to_numpy().astype(np.int64))

    def _batches(self, kind: str) -> Iterator[pa.RecordBatch]:
        rows = _rows_at_once(len(self.experts), self.dim)
        for name in self.names:
            if not name.startswith(kind):
                continue
            try:
                with pq.ParquetFile(self.folder / name, pre_buffer=False) as file:
                    yield from (batch for batch in file.iter_batches(rows) if batch.num_rows)
            except (OSError, pa.ArrowInvalid) as error:
                raise WorkspaceError(
                    f"{self.folder / name} cannot be read ({error}). Delete {self.folder}, then run `vtr embed RUN`."
                ) from error

    def _tensors(self, batch: pa.RecordBatch) -> tuple[Tensor, Tensor]:
        count, experts = batch.num_rows, len(self.experts)
        return _tensor(batch["vectors"], (count, experts, self.dim)), _tensor(batch["per_expert"], (count, experts))


def _rows_at_once(experts: int, dim: int) -> int:
    return max(1, BATCH_BYTES // (4 * experts * dim))


def _table(ids: tuple[str, ...], vectors: Tensor, per_item: Tensor, **columns: Any) -> pa.Table:
    flat = np.ascontiguousarray(vectors.cpu().flatten(1).numpy(), np.float32)
    weights = np.ascontiguousarray(per_item.cpu().numpy(), np.float32)
    arrays: dict[str, Any] = {
        "id": pa.array(ids, pa.string()),
        "vectors": pa.array([row.tobytes() for row in flat], pa.binary()),
        "per_expert": pa.array([row.tobytes() for row in weights], pa.binary()),
    }
    return pa.table(arrays | columns)


def _tensor(column: Any, shape: tuple[int, ...]) -> Tensor:
    values = np.frombuffer(b"".join(column.to_pylist()), np.float32).reshape(shape)
    return torch.from_numpy(values.copy())


def save_part(folder: Path, part: EmbeddedPart, *, inputs: Mapping[str, str], config: Any = None) -> None:
    """Write videos.parquet, captions.parquet and the manifest into `folder`, each atomically, the manifest last."""
    _save(folder, {"": part}.items(), part.coverage, inputs, config)


def save_parts(
    folder: Path, parts: Iterable[EmbeddedPart], coverage: Coverage, *, inputs: Mapping[str, str], config: Any = None
) -> None:
    """Write a part that exceeds memory, some of it at a time: files of each, and the manifest last.

    Args:
        folder: where to.
        parts: pieces with the same experts; `video_of_text` counts within each piece.
        coverage: of the whole.
        inputs, config: see `write_manifest`.
    """
    _save(folder, ((f"-{number:05d}", part) for number, part in enumerate(parts)), coverage, inputs, config)


def _save(
    folder: Path,
    pieces: Iterable[tuple[str, EmbeddedPart]],
    coverage: Coverage,
    inputs: Mapping[str, str],
    config: Any,
) -> None:
    (folder / "manifest.json").unlink(missing_ok=True)  # a half-renewed folder must not look finished
    checksums: dict[str, str] = {}
    shape: tuple[tuple[str, ...], int] | None = None
    before = 0
    for suffix, part in pieces:
        found = part.experts, int(part.videos.vectors.shape[2])
        if shape not in (None, found):
            raise ValueError(f"a piece has experts and dim {found}, those before it {shape}: equal ones expected")
        shape = found
        for kind, table in _tables(part, before).items():
            name = f"{kind}{suffix}.parquet"
            with atomic_file(folder / name) as temporary:
                pq.write_table(table, temporary, row_group_size=_rows_at_once(len(found[0]), found[1]))
            checksums[name] = sha256_file(folder / name)
        before += len(part.videos.ids)
    if shape is None:
        raise ValueError("there are no pieces to write, one at least was expected")
    for old in (*folder.glob(f"{VIDEOS}*.parquet"), *folder.glob(f"{CAPTIONS}*.parquet")):
        if old.name not in checksums:
            old.unlink()
    write_manifest(
        folder,
        "embed",
        output="".join(_digest(checksums, kind) for kind in (VIDEOS, CAPTIONS)),
        inputs=inputs,
        config=config,
        experts=list(shape[0]),
        dim=shape[1],
        coverage=asdict(coverage),
        checksums=checksums,
    )


def _tables(part: EmbeddedPart, before: int) -> dict[str, pa.Table]:
    return {
        VIDEOS: _table(part.videos.ids, part.videos.vectors, part.videos.present),
        CAPTIONS: _table(
            part.texts.ids,
            part.texts.vectors,
            part.texts.weights,
            text=pa.array(part.texts_plain, pa.string()),
            video=pa.array(part.video_of_text + before, pa.int64()),
        ),
    }


def _digest(checksums: Mapping[str, str], kind: str) -> str:
    """Return eight letters for the files of a kind: those of the one file's checksum, where there is one."""
    held = [checksums[name] for name in sorted(checksums) if name.startswith(kind)]
    if len(held) == 1:
        return held[0][:8]
    return fingerprint(held)[:8]


def load_part(folder: Path) -> EmbeddedPart:
    """Read what `save_part` or `save_parts` wrote, all of it into memory.

    Raises:
        WorkspaceError: the folder is missing or unfinished, or a file is damaged.
    """
    return gather(PartFiles.open(folder))


def gather(source: PartSource) -> EmbeddedPart:
    """Return all of a source in memory."""
    videos, captions = list(source.videos()), list(source.captions())
    e, d = len(source.experts), source.dim
    return EmbeddedPart(
        source.experts,
        VideoEmbeddings(
            _joined(batch.ids for batch in videos),
            torch.cat([batch.vectors for batch in videos] or [torch.zeros((0, e, d))]),
            torch.cat([batch.present for batch in videos] or [torch.zeros((0, e))]),
        ),
        TextEmbeddings(
            _joined(batch.texts.ids for batch in captions),
            torch.cat([batch.texts.vectors for batch in captions] or [torch.zeros((0, e, d))]),
            torch.cat([batch.texts.weights for batch in captions] or [torch.zeros((0, e))]),
        ),
        _joined(batch.plain for batch in captions),
        np.concatenate([batch.video_of_text for batch in captions] or [np.zeros(0, np.int64)]),
        source.coverage,
    )


def _joined(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(value for group in groups for value in group)
