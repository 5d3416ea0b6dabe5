"""The mine stage: a trained run finds the hardest negatives of every training caption and video."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from vtr.data.corpus import Corpus, load_corpus
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.data.positives import KnownPositives
from vtr.data.texts import CaptionTable
from vtr.errors import InputError
from vtr.files import lock, sha256_file
from vtr.models.saved import load_model
from vtr.models.text import TextInput
from vtr.progress import progress
from vtr.training.device import choose_device
from vtr.training.embedding import embed_texts, embed_videos
from vtr.training.offline import TEXTS, TOP, VIDEOS, hardest_negatives, write_negatives
from vtr.types import Caption
from vtr.workspace import MANIFEST, Run, read_manifest, write_manifest


@dataclass(frozen=True)
class MineSummary:
    """What was mined.

    Attributes:
        run: the first run, which holds the lists.
        fresh: False when they were there and current.
    """

    run: Run
    captions: int
    videos: int
    top: int
    fresh: bool

    def __str__(self) -> str:
        state = "" if self.fresh else " (current, nothing to do)"
        command = ["vtr", "train", str(self.run.workspace.root), "--config", str(self.run.config)]
        command += ["--set", "loss.name=offline_quintuplet", "--set", f"loss.negatives={self.run.root}", "--out", "RUN"]
        return (
            f"up to {self.top} hardest negatives of {self.captions} captions and {self.videos} videos in "
            f"{self.run.offline_negatives}{state}\nnext: {shlex.join(command)}"
        )


def mine(run: Run, *, top: int = TOP, device: str = "auto", available_only: bool = False) -> MineSummary:
    """Find and store the hardest negatives of the run's training part. What is there and current stays.

    Captions with the same words count as matching all the videos they were written for, so none of those is mined.

    Args:
        run: a trained run, the first model.
        top: negatives kept of each item.
        device: "auto", "cpu" or "cuda".
        available_only: mine among the videos that have features, though others are missing.

    Raises:
        InputError: the training part has fewer than two videos or no captions.
        WorkspaceError: the run is not trained, or features are missing.
    """
    trained = read_manifest(run.root, f"vtr train WS --config CONFIG --out {run.root}")
    experts, split = trained["experts"], trained["config"]["split"]
    corpus = load_corpus(
        run.workspace,
        split,
        experts,
        parts=("train",),
        available_only=available_only,
        text_features=trained["config"]["text"].get("features"),
    )
    video_ids, folder = corpus.video_ids("train"), run.offline_negatives
    captions = list(corpus.captions("train"))
    if len(video_ids) < 2 or not captions:
        raise InputError(
            f"{split} train has {len(video_ids)} videos and {len(captions)} captions: two videos at least, and "
            "captions, were expected to mine negatives of."
        )
    inputs = {"train": str(trained["output"]), **corpus.fingerprints(run.workspace)}
    settings = {"top": top, "coverage": str(corpus.coverage("train"))}
    manifest = read_manifest(folder, "vtr mine") if (folder / MANIFEST).exists() else None
    fresh = manifest is None or manifest["inputs"] != inputs or manifest["config"] != settings
    if fresh:
        with lock(folder / ".lock", f"mine into {folder}"):
            (folder / MANIFEST).unlink(missing_ok=True)  # a half-renewed folder must not look finished
            _mine(run, corpus, video_ids, captions, top, device)
            output = sha256_file(folder / TEXTS)[:8] + sha256_file(folder / VIDEOS)[:8]
            write_manifest(folder, "mine", output=output, inputs=inputs, config=settings)
    return MineSummary(run, len(captions), len(video_ids), top, fresh)


def _mine(run: Run, corpus: Corpus, video_ids: tuple[str, ...], captions: list[Caption], top: int, device: str) -> None:
    place = choose_device(device)
    model, config = load_model(run.checkpoints / "best", place)
    features = FeatureTable.open(corpus.store, video_ids, corpus.experts, FeatureChoice.of(config))
    table = CaptionTable(captions, TextInput(config.text), run.workspace)
    with progress("embed", len(video_ids) + len(captions), "items") as advance:
        videos = embed_videos(model, features, range(len(video_ids)), place, lambda n: advance(n, ""))
        texts = embed_texts(model, table, range(len(captions)), place, lambda n: advance(n, ""))
    row_of = {video_id: row for row, video_id in enumerate(video_ids)}
    words, own = [c.text for c in captions], [row_of[c.video_id] for c in captions]
    positives = KnownPositives(words, own)
    with progress("mine", len(captions), "captions") as advance:
        lists = hardest_negatives(texts, videos, positives, top, lambda n: advance(n, ""))
    write_negatives(run.offline_negatives, texts.ids, videos.ids, *lists)
