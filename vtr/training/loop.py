"""The training loop: batch to scores to loss, validation after each epoch, checkpoints that resume exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from vtr.config import TrainConfig
from vtr.data.sampling import Pair, batches_per_epoch, epoch_batches, visits_per_pass
from vtr.errors import VtrError
from vtr.evaluation.metrics import BothWays, evaluate_scores
from vtr.files import atomic_directory
from vtr.models.base import RetrievalModel
from vtr.models.saved import save_model
from vtr.progress import progress
from vtr.similarity import score_matrix
from vtr.training.checkpoint import Learner, load_checkpoint, save_checkpoint
from vtr.training.data import TrainingData
from vtr.training.embedding import embed_texts, embed_videos
from vtr.training.log import TrainingLog
from vtr.training.objective import loss_parameters, make_objective
from vtr.training.optimiser import drop_frozen, make_optimiser, set_rate
from vtr.training.tracking import open_trackers
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


class Trainer:
    """One run. `train` goes on from the last checkpoint, if there is one.

    Args:
        config: the run's configuration.
        model: a new model, on `device`.
        data: what to learn from.
        root: the run's folder.
        device: where the model is.
    """

    def __init__(
        self, config: TrainConfig, model: RetrievalModel, data: TrainingData, root: Path, device: torch.device
    ) -> None:
        self.config, self.model, self.data, self.root, self.device = config, model, data, root, device
        self.objective = make_objective(config, data, device)
        self.optimiser = make_optimiser(config.optimiser, model, loss_parameters(self.objective))
        self.others: dict[str, Learner] = {}
        if any(True for _ in self.objective.loss.parameters()):
            self.others["loss"] = Learner(self.objective.loss, self.objective.optimiser)
        self.best_model = model
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
            self.at = Progress(**load_checkpoint(last, self.model, self.optimiser, self.others, self.device))
        trackers = open_trackers(config, self.root, self.at.step)
        self.log = TrainingLog(self.root / "log.jsonl", trackers, size=self.at.log_bytes)
        visits = visits_per_pass(self.data.train, config.data.sampling)
        per_epoch = batches_per_epoch(visits, config.data)
        self.total_steps = config.epochs * per_epoch
        with self.log, progress("train", (config.epochs - self.at.epoch) * per_epoch, "steps") as advance:
            note = ""
            while self.at.epoch < config.epochs:
                for loss in self._epoch():
                    advance(1, f"epoch {self.at.epoch + 1} of {config.epochs}, loss {loss:.4f}{note}")
                note = self._end_of_epoch()
        return self.at

    def _epoch(self) -> Iterator[float]:
        """Yield the loss of each step of one epoch."""
        started, count = time.monotonic(), 0
        for loss, norm, pairs in self._steps():
            count += pairs
            if self.at.step % LOG_STEPS == 0:
                speed = count / max(time.monotonic() - started, 1e-6)
                self.log.write(
                    "train",
                    self.at.step,
                    epoch=self.at.epoch,
                    loss=loss,
                    learning_rate=self.optimiser.param_groups[0]["lr"],
                    gradient_norm=norm,
                    pairs_per_second=round(speed, 1),
                )
            self.at.step += 1
            yield loss

    def _steps(self) -> Iterator[tuple[float, float, int]]:
        """Do one epoch's steps; yield of each the loss, the norm of the gradient, and the number of pairs."""
        batches = epoch_batches(self.data.train, self.config.data, seed=self.config.seed, epoch=self.at.epoch)
        self.model.train()
        for pairs, batch in self._loaded(batches):
            rate = set_rate(self.optimiser, self.config.optimiser, self.at.step, self.at.epoch, self.total_steps)
            self.objective.prepare(self.model, pairs, self.at.step, rate)
            value = self.objective.value(self.model, batch, pairs)
            yield (*self._descend(self.model, self.optimiser, value, pairs), len(pairs))

    def _loaded(self, batches: Iterable[list[Pair]]) -> Iterator[tuple[list[Pair], Batch]]:
        """Yield each step's pairs and their batch; the next one is loaded while a step is done."""

        def load(pairs: list[Pair], step: int, epoch: int) -> Batch:
            return self.objective.load(pairs, np.random.default_rng((self.config.seed, epoch, step)))

        with ThreadPoolExecutor(max_workers=1) as pool:
            waiting: tuple[list[Pair], Future[Batch]] | None = None
            for step, pairs in enumerate(batches, self.at.step):
                following = pool.submit(load, pairs, step, self.at.epoch)
                if waiting is not None:
                    yield waiting[0], waiting[1].result()
                waiting = pairs, following
            if waiting is not None:
                yield waiting[0], waiting[1].result()

    def _descend(
        self, model: RetrievalModel, optimiser: Optimizer, loss: Tensor, pairs: list[Pair]
    ) -> tuple[float, float]:
        """Follow the gradient of a loss for one step; return the loss and the gradient's norm.

        Raises:
            VtrError: the loss is not finite.
        """
        config = self.config.optimiser
        if not math.isfinite(loss.item()):
            videos = ", ".join(self.data.table.video_ids[video] for video, _ in pairs[:5])
            raise VtrError(
                f"the loss is {loss.item()} at step {self.at.step} (videos {videos}, ...). "
                "Lower optimiser.learning_rate or set optimiser.gradient_clip; the last whole epoch is kept."
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        drop_frozen(optimiser, self.at.step)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip or math.inf)
        optimiser.step()
        return loss.item(), float(norm)

    def _end_of_epoch(self) -> str:
        """Validate, keep the best and the last checkpoint, and return a note for the progress line."""
        self.at.epoch += 1
        note = ""
        metrics = self.validate()
        if metrics is not None:
            self.log.write(
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
        self.at.log_bytes = self.log.flush()
        last = self.root / "checkpoints" / "last"
        save_checkpoint(last, self.model, self.config, self.optimiser, vars(self.at), self.others)
        return note

    def _save_best(self) -> None:
        with atomic_directory(self.root / "checkpoints" / "best") as temporary:
            save_model(temporary, self.best_model, self.config)

    def validate(self) -> BothWays | None:
        """Return the metrics on the validation part, or None where there is none."""
        return self._validate(self.model)

    def _validate(self, model: RetrievalModel) -> BothWays | None:
        data = self.data
        if not data.validation_texts:
            return None
        videos = embed_videos(model, data.table, data.validation_videos, self.device)
        texts = embed_texts(model, data.captions, data.validation_texts, self.device)
        return evaluate_scores(score_matrix(texts, videos), np.asarray(data.video_of_text))
