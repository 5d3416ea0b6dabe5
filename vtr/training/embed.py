"""The embed stage: the best checkpoint and the features become the embeddings of one part of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vtr.coverage import Coverage
from vtr.data.corpus import Corpus, load_corpus, resolve_part
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.data.texts import CaptionTable
from vtr.embeddings import EmbeddedPart, save_part
from vtr.errors import WorkspaceError
from vtr.files import lock
from vtr.models import text_input
from vtr.models.saved import load_model
from vtr.progress import progress
from vtr.training.device import choose_device
from vtr.training.embedding import embed_texts, embed_videos
from vtr.types import Caption, Part
from vtr.workspace import MANIFEST, Run, read_manifest


@dataclass(frozen=True)
class EmbedSummary:
    """What was embedded.

    Attributes:
        folder: where the embeddings are.
        fresh: False when they were there and current.
    """

    folder: Path
    split: str
    part: Part
    videos: int
    captions: int
    coverage: Coverage
    fresh: bool

    def __str__(self) -> str:
        state = "" if self.fresh else " (current, nothing to do)"
        return f"{self.coverage}; {self.videos} videos and {self.captions} captions embedded in {self.folder}{state}"


def embed(
    run: Run, split: str | None, part: Part | None, *, device: str = "auto", available_only: bool = False
) -> EmbedSummary:
    """Embed the videos and query captions of one part of a split. What is there and current stays.

    Args:
        run: a trained run.
        split, part: see `vtr.data.corpus.resolve_part`.
        device: "auto", "cpu" or "cuda".
        available_only: embed the videos that have features, though others are missing.

    Raises:
        WorkspaceError: the run is not trained, the split does not exist, or features are missing or of other dims.
    """
    trained = read_manifest(run.root, f"vtr train WS --config CONFIG --out {run.root}")
    split_name, part_name = resolve_part(run.workspace, trained["config"]["split"], split, part)
    experts = trained["experts"]
    corpus = load_corpus(
        run.workspace,
        split_name,
        experts,
        parts=(part_name,),
        available_only=available_only,
        text_features=trained["config"]["text"].get("features"),
    )
    folder = run.embeddings / f"{split_name}-{part_name}"
    inputs = {"train": str(trained["output"]), **corpus.fingerprints(run.workspace)}
    video_ids, queries, coverage = corpus.video_ids(part_name), corpus.queries(part_name), corpus.coverage(part_name)
    fresh = not (folder / MANIFEST).exists() or read_manifest(folder, "vtr embed")["inputs"] != inputs
    if fresh:
        with lock(folder / ".lock", f"embed into {folder}"):
            embedded = embed_some(run, corpus, video_ids, queries, coverage, device=device)
            save_part(folder, embedded, inputs=inputs, config=trained["config"])
    return EmbedSummary(folder, split_name, part_name, len(video_ids), len(queries), coverage, fresh)


def embed_some(
    run: Run,
    corpus: Corpus,
    video_ids: Sequence[str],
    captions: Sequence[Caption],
    coverage: Coverage,
    *,
    device: str = "auto",
) -> EmbeddedPart:
    """Embed some videos and captions with a run's best checkpoint.

    Args:
        run: a trained run.
        corpus: holds their features.
        video_ids: the videos.
        captions: of these videos.
        coverage: what they are of.
        device: "auto", "cpu" or "cuda".

    Raises:
        WorkspaceError: the features are of other dims than those the run was trained on.
    """
    place = choose_device(device)
    model, config = load_model(run.checkpoints / "best", place)
    table = FeatureTable.open(corpus.store, video_ids, corpus.experts, FeatureChoice.of(config))
    if table.dims != dict(model.expert_dims):
        raise WorkspaceError(
            f"{run.root} was trained on features of dims {dict(model.expert_dims)}; {run.workspace.store} has "
            f"{table.dims}. Extract with the same experts, or train again."
        )
    texts = CaptionTable(captions, text_input(config), run.workspace)
    with progress("embed", len(video_ids) + len(captions), "items") as advance:
        videos = embed_videos(model, table, range(len(video_ids)), place, lambda n: advance(n, ""))
        embedded = embed_texts(model, texts, range(len(captions)), place, lambda n: advance(n, ""))
    row = {video_id: place_ for place_, video_id in enumerate(video_ids)}
    video_of_text = np.array([row[caption.video_id] for caption in captions], np.int64)
    plain = tuple(caption.text for caption in captions)
    return EmbeddedPart(model.scored, videos, embedded, plain, video_of_text, coverage)
