"""The embeddings of one part of a split on disk: what `vtr embed` writes and index, evaluate and serve read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtr.coverage import Coverage
from vtr.files import atomic_file, sha256_file
from vtr.types import TextEmbeddings, VideoEmbeddings
from vtr.workspace import read_manifest, write_manifest


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
    (folder / "manifest.json").unlink(missing_ok=True)  # a half-renewed folder must not look finished
    tables = {
        "videos.parquet": _table(part.videos.ids, part.videos.vectors, part.videos.present),
        "captions.parquet": _table(
            part.texts.ids,
            part.texts.vectors,
            part.texts.weights,
            text=pa.array(part.texts_plain, pa.string()),
            video=pa.array(part.video_of_text, pa.int64()),
        ),
    }
    checksums = {}
    for name, table in tables.items():
        with atomic_file(folder / name) as temporary:
            pq.write_table(table, temporary)
        checksums[name] = sha256_file(folder / name)
    write_manifest(
        folder,
        "embed",
        output=checksums["videos.parquet"][:8] + checksums["captions.parquet"][:8],
        inputs=inputs,
        config=config,
        experts=list(part.experts),
        dim=part.videos.vectors.shape[2],
        coverage=asdict(part.coverage),
        checksums=checksums,
    )


def load_part(folder: Path) -> EmbeddedPart:
    """Read what `save_part` wrote.

    Raises:
        WorkspaceError: the folder is missing or unfinished.
    """
    manifest = read_manifest(folder, "vtr embed RUN")
    experts, dim = tuple(manifest["experts"]), manifest["dim"]
    videos, captions = pq.read_table(folder / "videos.parquet"), pq.read_table(folder / "captions.parquet")
    v, t, e = videos.num_rows, captions.num_rows, len(experts)
    return EmbeddedPart(
        experts,
        VideoEmbeddings(
            tuple(videos["id"].to_pylist()),
            _tensor(videos["vectors"], (v, e, dim)),
            _tensor(videos["per_expert"], (v, e)),
        ),
        TextEmbeddings(
            tuple(captions["id"].to_pylist()),
            _tensor(captions["vectors"], (t, e, dim)),
            _tensor(captions["per_expert"], (t, e)),
        ),
        tuple(captions["text"].to_pylist()),
        captions["video"].to_numpy().astype(np.int64),
        Coverage(**manifest["coverage"]),
    )
