"""Embeddings to FAISS: one inner-product index of the videos, one of the captions; flat, and so exact, unless asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from torch import Tensor

from vtr.embeddings import EmbeddedPart
from vtr.errors import ConfigError, WorkspaceError
from vtr.files import atomic_file, read_json, sha256_file, write_json
from vtr.similarity import flat_texts, flat_videos
from vtr.workspace import MANIFEST, check_made_from, fingerprint, read_manifest, write_manifest

VIDEOS, CAPTIONS, IDS = "videos.faiss", "captions.faiss", "ids.json"
MAKE = "vtr index RUN"
CHECKED = 4096
"""Vectors that are compared at once."""

FLAT = "Flat"
"""The FAISS factory string of the exact index."""


def build_index(
    folder: Path, part: EmbeddedPart, *, embed_output: str, factory: str = FLAT, parameters: str = ""
) -> None:
    """Write the indexes, the ids of their rows and the manifest into `folder`, each atomically, the manifest last.

    The vectors are `flat_videos` and `flat_texts`, so an inner product is the score's numerator. A part without
    captions gets no caption index.

    Args:
        folder: where to.
        part: the embeddings.
        embed_output: their fingerprint, the `output` of their manifest.
        factory: FAISS's name of the kind of index, for example "IVF64,Flat" or "HNSW32"; "Flat" is exact.
        parameters: FAISS's search parameters, for example "nprobe=8"; set whenever the index is read.

    Raises:
        ConfigError: FAISS does not know the factory or the parameters, or cannot train the index on these vectors.
        WorkspaceError: the folder cannot be written.
    """
    vectors = {VIDEOS: flat_videos(part.videos)}
    if part.texts.ids:
        vectors[CAPTIONS] = flat_texts(part.texts)
    made = {name: _make(rows, factory, parameters) for name, rows in vectors.items()}
    for old in (MANIFEST, CAPTIONS):  # a half-renewed folder must not look finished
        (folder / old).unlink(missing_ok=True)
    for name, index in made.items():
        _write(folder / name, index)
    write_json(folder / IDS, {VIDEOS: part.videos.ids, CAPTIONS: part.texts.ids})
    checksums = {name: sha256_file(folder / name) for name in (*vectors, IDS)}
    write_manifest(
        folder,
        "index",
        output=fingerprint(checksums),
        inputs={"embed": embed_output},
        config={"factory": factory, "parameters": parameters},
        counts={"videos": len(part.videos.ids), "captions": len(part.texts.ids)},
        dim=vectors[VIDEOS].shape[1],
        checksums=checksums,
    )


def is_current(folder: Path, embed_output: str, factory: str = FLAT, parameters: str = "") -> bool:
    """Return whether `folder` holds a finished index of these embeddings and of this kind."""
    if not (folder / MANIFEST).exists() or held_kind(folder) != (factory, parameters):
        return False
    return bool(read_manifest(folder, MAKE)["inputs"].get("embed") == embed_output)


def held_kind(folder: Path) -> tuple[str, str] | None:
    """Return factory and parameters of the index in `folder`, current or stale; None where there is none."""
    return _kind(read_manifest(folder, MAKE)) if (folder / MANIFEST).exists() else None


def _kind(manifest: Mapping[str, Any]) -> tuple[str, str]:
    config = manifest["config"]
    return config.get("factory", FLAT), config.get("parameters", "")  # early indexes, all flat, do not say


@dataclass(frozen=True, slots=True)
class Loaded:
    """The indexes of a part.

    Attributes:
        videos, captions: the index of the videos and that of the captions, None where there are none.
        factory, parameters: see `build_index`.
    """

    videos: faiss.Index
    captions: faiss.Index | None
    factory: str = FLAT
    parameters: str = ""


def load_index(folder: Path, part: EmbeddedPart, *, embed_output: str) -> Loaded:
    """Return the indexes that `build_index` wrote for these embeddings.

    Raises:
        WorkspaceError: the index is missing, damaged, of other embeddings, or made by a newer vtr.
    """
    manifest = read_manifest(folder, MAKE)
    check_made_from(folder, "embed", manifest["inputs"], embed_output, MAKE)
    for name, expected in manifest["checksums"].items():
        if not (folder / name).exists() or sha256_file(folder / name) != expected:
            state = "has changed since it was written" if (folder / name).exists() else "is missing"
            raise _damaged(folder, f"{name} {state}")
    ids = read_json(folder / IDS)
    if (tuple(ids[VIDEOS]), tuple(ids[CAPTIONS])) != (part.videos.ids, part.texts.ids):
        raise _damaged(folder, f"its ids are not those of the {len(part.videos.ids)} videos that were embedded")
    factory, parameters = _kind(manifest)
    videos = _read(folder / VIDEOS, len(part.videos.ids), manifest["dim"])
    captions = _read(folder / CAPTIONS, len(part.texts.ids), manifest["dim"]) if part.texts.ids else None
    for index in (videos, captions):
        if index is not None and parameters:
            faiss.ParameterSpace().set_index_parameters(index, parameters)  # type: ignore[arg-type]
    return Loaded(videos, captions, factory, parameters)


def check_vectors(index: faiss.Index, expected: Tensor, what: str) -> None:
    """Check that an index holds exactly these vectors [N, D].

    Raises:
        WorkspaceError: it holds others.
    """
    for at in range(0, index.ntotal, CHECKED):
        some = expected[at : at + CHECKED]
        if not np.array_equal(index.reconstruct_n(at, len(some)), as_float32(some)):
            raise WorkspaceError(
                f"the index of the {what} holds other vectors than the embeddings. Run `{MAKE}` again."
            )


def as_float32(vectors: Tensor) -> Any:
    """Return the array FAISS wants: float32, on the CPU, rows contiguous."""
    return np.ascontiguousarray(vectors.cpu().numpy(), np.float32)


def _make(vectors: Tensor, factory: str, parameters: str) -> faiss.Index:
    rows = as_float32(vectors)
    try:
        index = faiss.index_factory(rows.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        index.train(rows)
        index.add(rows)
        if parameters:
            faiss.ParameterSpace().set_index_parameters(index, parameters)  # type: ignore[arg-type]
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(
            f"FAISS cannot make an index '{factory}' with parameters '{parameters}' of {len(rows)} vectors of "
            f"{rows.shape[1]}: {reason}. Examples: --factory Flat; --factory IVF64,Flat --parameters nprobe=8."
        ) from error
    return index


def _write(path: Path, index: faiss.Index) -> None:
    with atomic_file(path) as temporary:
        try:
            faiss.write_index(index, str(temporary))
        except RuntimeError as error:  # how FAISS reports a full disk
            raise OSError(str(error).strip().splitlines()[-1]) from error


def _read(path: Path, count: int, dim: int) -> faiss.Index:
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise _damaged(path.parent, f"FAISS cannot read {path.name}") from error
    if (index.ntotal, index.d) != (count, dim):
        raise _damaged(
            path.parent, f"{path.name} holds {index.ntotal} vectors of {index.d}, {count} of {dim} were expected"
        )
    return index


def _damaged(folder: Path, what: str) -> WorkspaceError:
    return WorkspaceError(f"the index {folder} is damaged: {what}. Delete the folder and run `{MAKE}` again.")
