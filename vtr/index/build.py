"""Embeddings to FAISS: one flat inner-product index of the videos, one of the captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from torch import Tensor

from vtr.embeddings import EmbeddedPart
from vtr.errors import WorkspaceError
from vtr.files import atomic_file, read_json, sha256_file, write_json
from vtr.similarity import flat_texts, flat_videos
from vtr.workspace import MANIFEST, check_made_from, fingerprint, read_manifest, write_manifest

VIDEOS, CAPTIONS, IDS = "videos.faiss", "captions.faiss", "ids.json"
MAKE = "vtr index RUN"


def build_index(folder: Path, part: EmbeddedPart, *, embed_output: str) -> None:
    """Write the indexes, the ids of their rows and the manifest into `folder`, each atomically, the manifest last.

    The vectors are `flat_videos` and `flat_texts`, so an inner product is the score's numerator. A part without
    captions gets no caption index.

    Args:
        folder: where to.
        part: the embeddings.
        embed_output: their fingerprint, the `output` of their manifest.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    vectors = {VIDEOS: flat_videos(part.videos)}
    if part.texts.ids:
        vectors[CAPTIONS] = flat_texts(part.texts)
    for old in (MANIFEST, CAPTIONS):  # a half-renewed folder must not look finished
        (folder / old).unlink(missing_ok=True)
    for name, rows in vectors.items():
        _write(folder / name, rows)
    write_json(folder / IDS, {VIDEOS: part.videos.ids, CAPTIONS: part.texts.ids})
    checksums = {name: sha256_file(folder / name) for name in (*vectors, IDS)}
    write_manifest(
        folder,
        "index",
        output=fingerprint(checksums),
        inputs={"embed": embed_output},
        config={"kind": "flat inner product"},
        counts={"videos": len(part.videos.ids), "captions": len(part.texts.ids)},
        dim=vectors[VIDEOS].shape[1],
        checksums=checksums,
    )


def is_current(folder: Path, embed_output: str) -> bool:
    """Return whether `folder` holds a finished index of these embeddings."""
    return (folder / MANIFEST).exists() and read_manifest(folder, MAKE)["inputs"].get("embed") == embed_output


def load_index(folder: Path, part: EmbeddedPart, *, embed_output: str) -> tuple[faiss.Index, faiss.Index | None]:
    """Return the index of the videos and that of the captions (None where there are none).

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
    videos = _read(folder / VIDEOS, len(part.videos.ids), manifest["dim"])
    captions = _read(folder / CAPTIONS, len(part.texts.ids), manifest["dim"]) if part.texts.ids else None
    return videos, captions


def check_vectors(index: faiss.Index, expected: Tensor, what: str) -> None:
    """Check that an index holds exactly these vectors [N, D].

    Raises:
        WorkspaceError: it holds others.
    """
    held: Any = index.reconstruct_n(0, index.ntotal)
    if not np.array_equal(held, as_float32(expected)):
        raise WorkspaceError(f"the index of the {what} holds other vectors than the embeddings. Run `{MAKE}` again.")


def as_float32(vectors: Tensor) -> Any:
    """Return the array FAISS wants: float32, on the CPU, rows contiguous."""
    return np.ascontiguousarray(vectors.cpu().numpy(), np.float32)


def _write(path: Path, vectors: Tensor) -> None:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(as_float32(vectors))
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
