"""Banks of training queries for QB-Norm: made once for a run and a gallery, then used for a whole part or one query."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtr.annotations.splits import place
from vtr.coverage import Coverage
from vtr.data.corpus import load_corpus
from vtr.embeddings import EmbeddedPart, load_part, save_part
from vtr.evaluation.postprocess import QB_NORM, QueryBank, check_scale
from vtr.evaluation.scores import row_blocks
from vtr.files import lock
from vtr.index.search import Rows, text_rows, video_rows
from vtr.similarity import exact_scores
from vtr.stages.index import Indexed
from vtr.training.embed import embed_some
from vtr.workspace import MANIFEST, Run, fingerprint, read_manifest, write_manifest

BANK_SIZE = 5000
"""Training captions, and training videos, a bank holds at most: chosen by the hash of their ids."""

TEXTS, VIDEOS = "texts.npz", "videos.npz"
MAKE = "vtr evaluate RUN --post qb_norm"


@dataclass(frozen=True, slots=True)
class Banks:
    """What training queries say about a gallery.

    Attributes:
        texts: training captions against the gallery's videos.
        videos: training videos against the gallery's captions, None where it has none.
    """

    texts: QueryBank
    videos: QueryBank | None


def query_banks(run: Run, indexed: Indexed, *, beta: float | None = None, device: str = "auto") -> Banks:
    """Return the banks of a run for a gallery; what is there and current stays.

    The queries are of the training part of the split that the run was trained on.

    Args:
        run: a trained run.
        indexed: the gallery.
        beta: the factor of the scores in the exponent, None for the published one.
        device: where the model embeds the training queries.

    Raises:
        InputError: beta is not positive.
        WorkspaceError: the training videos have no features any more.
    """
    beta = QB_NORM.scale if beta is None else beta
    check_scale("beta", beta)
    folder = run.query_bank / f"{indexed.split}-{indexed.part}"
    queries = _training_queries(run, device)
    inputs = {"index": indexed.output, "query bank": str(read_manifest(_training(run), MAKE)["output"])}
    config = {"beta": beta, "k": 1}
    if not _is_current(folder, inputs, config):
        with lock(folder / ".lock", f"query bank in {folder}"):
            (folder / MANIFEST).unlink(missing_ok=True)
            gallery = indexed.embedded
            QueryBank.gather(_texts_of(queries, gallery), beta=beta).save(folder / TEXTS)
            if gallery.texts.ids:
                QueryBank.gather(_videos_of(queries, gallery), beta=beta).save(folder / VIDEOS)
            counts = {"texts": len(queries.texts.ids), "videos": len(queries.videos.ids)}
            output = fingerprint({**inputs, **config})
            write_manifest(folder, "query bank", output=output, inputs=inputs, config=config, counts=counts)
    videos = QueryBank.load(folder / VIDEOS) if indexed.embedded.texts.ids else None
    return Banks(QueryBank.load(folder / TEXTS), videos)


def _is_current(folder: Path, inputs: dict[str, str], config: dict[str, Any]) -> bool:
    if not (folder / MANIFEST).exists():
        return False
    manifest = read_manifest(folder, MAKE)
    return bool(manifest["inputs"] == inputs and manifest["config"] == config)


def _training(run: Run) -> Path:
    return Run.open(run.root).query_bank / "training"


def _training_queries(run: Run, device: str) -> EmbeddedPart:
    """Return the embeddings of the bank's training videos and captions."""
    own, folder = Run.open(run.root), _training(run)
    trained = read_manifest(run.root, f"vtr train WS --config CONFIG --out {run.root}")
    split, text_features = trained["config"]["split"], trained["config"]["text"].get("features")
    corpus = load_corpus(
        own.workspace, split, trained["experts"], parts=("train",), available_only=True, text_features=text_features
    )
    inputs = {"train": str(trained["output"]), **corpus.fingerprints(own.workspace)}
    if not (folder / MANIFEST).exists() or read_manifest(folder, MAKE)["inputs"] != inputs:
        described = {caption.video_id for caption in corpus.captions("train")}
        ids = sorted(described, key=lambda video_id: place(video_id, "query bank"))[:BANK_SIZE]
        chosen = frozenset(ids)
        captions = [caption for caption in corpus.captions("train") if caption.video_id in chosen]
        captions = sorted(captions, key=lambda caption: place(caption.id, "query bank"))[:BANK_SIZE]
        coverage = Coverage(split, "train", len(ids), len(corpus.split.train))
        with lock(folder / ".lock", f"query bank in {folder}"):
            save_part(folder, embed_some(own, corpus, ids, captions, coverage, device=device), inputs=inputs)
    return load_part(folder)


def _texts_of(queries: EmbeddedPart, gallery: EmbeddedPart) -> Iterator[NDArray[np.float32]]:
    for rows in row_blocks(len(queries.texts.ids), len(gallery.videos.ids)):
        yield exact_scores(text_rows(queries.texts, _range(rows)), gallery.videos).numpy()


def _videos_of(queries: EmbeddedPart, gallery: EmbeddedPart) -> Iterator[NDArray[np.float32]]:
    for rows in row_blocks(len(queries.videos.ids), len(gallery.texts.ids)):
        yield exact_scores(gallery.texts, video_rows(queries.videos, _range(rows))).numpy().T


def _range(rows: slice) -> Rows:
    return np.arange(rows.start, rows.stop)
