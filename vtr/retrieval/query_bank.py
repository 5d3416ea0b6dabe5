"""Banks of training queries for QB-Norm: made once for a run and a gallery, then used for a whole part or one query."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtr.annotations.splits import place
from vtr.coverage import Coverage
from vtr.data.corpus import load_corpus
from vtr.embeddings import EmbeddedPart, load_part, save_part
from vtr.evaluation.postprocess import QB_NORM, QueryBank, check_scale
from vtr.files import lock
from vtr.index.search import text_rows, video_rows
from vtr.retrieval.galleries import Indexed
from vtr.similarity import ExactGallery, exact_scores
from vtr.training.embed import embed_some
from vtr.workspace import MANIFEST, Run, fingerprint, read_manifest, write_manifest

BANK_SIZE = 5000
"""Training captions, and training videos, a bank holds at most: chosen by the hash of their ids."""

BLOCK = 512
"""Queries of a bank that are scored at once."""

TEXTS, VIDEOS = "texts.npz", "videos.npz"
MAKE = "vtr evaluate RUN --post qb_norm"


@dataclass(frozen=True, slots=True)
class Banks:
    """What training queries say about a gallery.

    Attributes:
        texts: training captions against the gallery's videos.
        videos: training videos against the gallery's captions, None where it has none or they were not asked for.
    """

    texts: QueryBank
    videos: QueryBank | None


def query_banks(
    run: Run, indexed: Indexed, *, beta: float | None = None, device: str = "auto", captions: bool = True
) -> Banks:
    """Return the banks of a run for a gallery; what is there and current stays.

    The queries are of the training part of the split that the run was trained on.

    Args:
        run: a trained run.
        indexed: the gallery.
        beta: the factor of the scores in the exponent, None for the published one.
        device: where the model embeds the training queries.
        captions: also make the bank of training videos, which orders the gallery's captions.

    Raises:
        InputError: beta is not positive.
        WorkspaceError: the training videos have no features any more.
    """
    beta = QB_NORM.scale if beta is None else beta
    check_scale("beta", beta)
    queries = _training_queries(run, device)
    inputs = {"index": indexed.output, "query bank": str(read_manifest(_training(run), MAKE)["output"])}
    folder = run.query_bank / f"{indexed.split}-{indexed.part}-beta{beta:.10g}"
    gallery = indexed.index.part
    wanted = [TEXTS, VIDEOS] if captions and gallery.texts.ids else [TEXTS]

    def is_there() -> bool:
        return _is_current(folder, inputs) and all((folder / name).exists() for name in wanted)

    if not is_there():
        with lock(folder / ".lock", f"make the query bank {folder}"):
            if not _is_current(folder, inputs):
                for old in (MANIFEST, TEXTS, VIDEOS):
                    (folder / old).unlink(missing_ok=True)
            blocks = {TEXTS: _texts_of, VIDEOS: _videos_of}
            for name in wanted:
                if not (folder / name).exists():
                    QueryBank.gather(blocks[name](queries, gallery), beta=beta).save(folder / name)
            counts = {"texts": len(queries.texts.ids), "videos": len(queries.videos.ids)}
            output = fingerprint({**inputs, "beta": beta})
            write_manifest(folder, "query bank", output=output, inputs=inputs, config={"beta": beta}, counts=counts)
    videos = QueryBank.load(folder / VIDEOS) if VIDEOS in wanted else None
    return Banks(QueryBank.load(folder / TEXTS), videos)


def _is_current(folder: Path, inputs: dict[str, str]) -> bool:
    return (folder / MANIFEST).exists() and bool(read_manifest(folder, MAKE)["inputs"] == inputs)


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
    if not _is_current(folder, inputs):
        described = corpus.captions("train")
        by_hash = sorted({c.video_id for c in described}, key=lambda video_id: place(video_id, "query bank"))
        ids = by_hash[:BANK_SIZE]
        chosen = frozenset(ids)
        captions = [caption for caption in described if caption.video_id in chosen]
        captions = sorted(captions, key=lambda caption: place(caption.id, "query bank"))[:BANK_SIZE]
        coverage = Coverage(split, "train", len(ids), len(corpus.split.train))
        with lock(folder / ".lock", f"embed the queries of the bank in {folder}"):
            save_part(folder, embed_some(own, corpus, ids, captions, coverage, device=device), inputs=inputs)
    return load_part(folder)


def _texts_of(queries: EmbeddedPart, gallery: EmbeddedPart) -> Iterator[NDArray[np.float32]]:
    videos = ExactGallery(gallery.videos)
    for at in range(0, len(queries.texts.ids), BLOCK):
        rows = np.arange(at, min(at + BLOCK, len(queries.texts.ids)))
        yield videos.score(text_rows(queries.texts, rows)).numpy()


def _videos_of(queries: EmbeddedPart, gallery: EmbeddedPart) -> Iterator[NDArray[np.float32]]:
    for at in range(0, len(queries.videos.ids), BLOCK):
        rows = np.arange(at, min(at + BLOCK, len(queries.videos.ids)))
        yield exact_scores(gallery.texts, video_rows(queries.videos, rows)).numpy().T
