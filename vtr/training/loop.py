"""The training loop: batch to scores to loss, validation after each epoch, checkpoints that resume exactly."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vtr.config import TrainConfig
from vtr.data.corpus import Corpus
from vtr.data.features import FeatureTable
from vtr.data.sampling import batches_per_epoch, epoch_batches
from vtr.data.texts import CaptionTable
from vtr.errors import VtrError
from vtr.evaluation.metrics import BothWays, evaluate_scores
from vtr.files import atomic_directory
from vtr.losses import build_loss
from vtr.models.mmt import MMT
from vtr.models.saved import save_model
from vtr.progress import progress
from vtr.similarity import score_matrix
from vtr.training.checkpoint import load_checkpoint, save_checkpoint
from vtr.training.embedding import embed_texts, embed_videos
from vtr.training.log import TrainingLog
from vtr.training.optimiser import make_optimiser, set_rate
from vtr.types import Batch

LOG_STEPS = 10
"""A line in the log every so many steps."""


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        epoch: epochs finished.
        step: steps finished.
        best_rsum, best_epoch: of the best validation so far; None without a validation part.
        log_bytes: size of the log when this was saved.
    """

    epoch: int = 0
    step: int = 0
    best_rsum: float | None = None
    best_epoch: int | None = None
    log_bytes: int = 0


@dataclass(frozen=True)
class TrainingData:
    """What the loop reads.

    Attributes:
        table, captions: the features and captions of the training and validation parts.
        train: video row -> its caption rows.
        validation_videos, validation_texts: rows of the validation part; empty where the split has none.
        video_of_text: for each validation text, its place among the validation videos.
    """

    table: FeatureTable
    captions: CaptionTable
    train: dict[int, list[int]]
    validation_videos: list[int]
    validation_texts: list[int]
    video_of_text: list[int] = field(default_factory=list)


def make_data(corpus: Corpus, captions: CaptionTable) -> TrainingData:
    """Return the training and validation parts of a corpus as rows of one feature table and one caption table."""
    train, validation = corpus.video_ids("train"), corpus.video_ids("validation")
    table = FeatureTable.load(corpus.store, train + validation, corpus.experts)
    video_row = {video_id: row for row, video_id in enumerate(table.video_ids)}
    caption_row = {caption.id: row for row, caption in enumerate(captions.captions)}
    by_video = corpus.annotations.captions_by_video
    queries = corpus.queries("validation")
    return TrainingData(
        table,
        captions,
        {video_row[v]: [caption_row[c.id] for c in by_video[v]] for v in train},
        [video_row[video_id] for video_id in validation],
        [caption_row[caption.id] for caption in queries],
        [video_row[caption.video_id] - len(train) for caption in queries],
    )


class Trainer:
    """One run. `train` goes on from the last checkpoint, if there is one.

    Args:
        config: the run's configuration.
        model: a new model, on `device`.
        data: what to learn from.
        root: the run's folder.
        device: where the model is.
    """

    def __init__(self, config: TrainConfig, model: MMT, data: TrainingData, root: Path, device: torch.device) -> None:
        self.config, self.model, self.data, self.root, self.device = config, model, data, root, device
        self.loss = build_loss(config.loss)
        self.optimiser = make_optimiser(config.optimiser, model)
        self.at = Progress()

    def train(self) -> Progress:
        """Train to the configured number of epochs.

        Raises:
            VtrError: the loss is not finite.
            WorkspaceError: the run's folder cannot be written.
        """
        config = self.config
        last = self.root / "checkpoints" / "last"
        if last.exists():
            self.at = Progress(**load_checkpoint(last, self.model, self.optimiser, self.device))
        log = TrainingLog(self.root / "log.jsonl", self.root / "tensorboard", size=self.at.log_bytes, step=self.at.step)
        trained = [video for video, captions in self.data.train.items() if captions]
        per_epoch = batches_per_epoch(len(trained), config.data.batch_size, config.data.passes)
        try:
            with progress("train", (config.epochs - self.at.epoch) * per_epoch, "steps") as advance:
                note = ""
                while self.at.epoch < config.epochs:
                    for loss in self._epoch(log):
                        advance(1, f"epoch {self.at.epoch + 1} of {config.epochs}, loss {loss:.4f}{note}")
                    note = self._end_of_epoch(log)
        finally:
            log.close()
        return self.at

    def _epoch(self, log: TrainingLog) -> Any:
        """Yield the loss of each step of one epoch."""
        config, started = self.config, time.monotonic()
        pairs = epoch_batches(
            self.data.train,
            config.data.batch_size,
            seed=config.seed,
            epoch=self.at.epoch,
            passes=config.data.passes,
        )
        self.model.train()
        count = 0
        for batch in pairs:
            rate = set_rate(self.optimiser, config.optimiser, self.at.step)
            loss, norm = self._step(batch)
            count += len(batch)
            if self.at.step % LOG_STEPS == 0:
                speed = count / max(time.monotonic() - started, 1e-6)
                log.write(
                    "train",
                    self.at.step,
                    epoch=self.at.epoch,
                    loss=loss,
                    learning_rate=rate,
                    gradient_norm=norm,
                    pairs_per_second=round(speed, 1),
                )
            self.at.step += 1
            yield loss

    def _step(self, pairs: list[tuple[int, int]]) -> tuple[float, float]:
        """Do one step and return its loss and the norm of its gradient."""
        config = self.config
        generator = np.random.default_rng((config.seed, self.at.epoch, self.at.step))
        batch = Batch(
            self.data.table.batch([video for video, _ in pairs], config.data.max_features, generator),
            self.data.captions.batch([caption for _, caption in pairs]),
        ).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            scores: Tensor = self.model(batch)
        loss: Tensor = self.loss(scores.float())
        if not math.isfinite(loss.item()):
            raise VtrError(
                f"the loss is {loss.item()} at step {self.at.step} (videos {', '.join(batch.videos.ids[:5])}, ...). "
                "Lower optimiser.learning_rate or set optimiser.gradient_clip; the last whole epoch is kept."
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        limit = config.optimiser.gradient_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.optimiser.step()
        return loss.item(), float(norm)

    def _end_of_epoch(self, log: TrainingLog) -> str:
        """Validate, keep the best and the last checkpoint, and return a note for the progress line."""
        self.at.epoch += 1
        note = ""
        metrics = self.validate()
        if metrics is not None:
            log.write(
                "validation",
                self.at.step,
                epoch=self.at.epoch,
                rsum=metrics.rsum,
                **{f"t2v_R{k}": value for k, value in metrics.text_to_video.recall.items()},
                **{f"v2t_R{k}": value for k, value in metrics.video_to_text.recall.items()},
            )
            if self.at.best_rsum is None or metrics.rsum > self.at.best_rsum:
                self.at.best_rsum, self.at.best_epoch = metrics.rsum, self.at.epoch
                self._save_best()
            note = f", validation RSUM {metrics.rsum:.1f} (best {self.at.best_rsum:.1f})"
        elif self.at.epoch == self.config.epochs:
            self._save_best()
        self.at.log_bytes = log.flush()
        save_checkpoint(self.root / "checkpoints" / "last", self.model, self.config, self.optimiser, vars(self.at))
        return note

    def _save_best(self) -> None:
        with atomic_directory(self.root / "checkpoints" / "best") as temporary:
            save_model(temporary, self.model, self.config)

    def validate(self) -> BothWays | None:
        """Return the metrics on the validation part, or None where there is none."""
        data = self.data
        if not data.validation_texts:
            return None
        videos = embed_videos(
            self.model, data.table, data.validation_videos, self.config.data.max_features, self.device
        )
        texts = embed_texts(self.model, data.captions, data.validation_texts, self.device)
        return evaluate_scores(score_matrix(texts, videos), np.asarray(data.video_of_text))
