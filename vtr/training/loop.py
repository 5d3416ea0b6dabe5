"""The training loop: batches to scores to loss to a step, validation, and checkpoints that resume to the bit."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from vtr.config import TrainConfig
from vtr.data.sampling import Pair, batches_per_epoch, epoch_batches, visits_per_pass
from vtr.errors import ConfigError
from vtr.evaluation.metrics import BothWays, evaluate_scores
from vtr.files import atomic_directory
from vtr.models.base import RetrievalModel
from vtr.models.saved import save_model
from vtr.progress import progress, say
from vtr.similarity import score_matrix
from vtr.training.averaging import WeightAverage
from vtr.training.checkpoint import (
    BEST,
    Learner,
    keep_newest,
    load_checkpoint,
    newest,
    random_state,
    save_checkpoint,
    step_folder,
    write_state,
)
from vtr.training.code import check_made_with, made_with
from vtr.training.data import TrainingData
from vtr.training.device import compile_transformers, enter
from vtr.training.distributed import World, check_rest
from vtr.training.divergence import Watchdog
from vtr.training.embedding import embed_texts, embed_videos
from vtr.training.log import TrainingLog
from vtr.training.objective import loss_parameters, make_objective
from vtr.training.optimiser import drop_frozen, make_optimiser, set_rate
from vtr.training.state import Progress
from vtr.training.tracking import open_trackers
from vtr.types import Batch

LOG_STEPS = 10
"""A line in the log every so many steps."""

MINUTE = 60.0

RANK_SEED = 7919
"""Added to the seed for what each further process draws."""

Loaded = tuple[list[Pair], Batch]


class Trainer:
    """One run. `train` goes on from the newest checkpoint, if there is one.

    Args:
        config: the run's configuration.
        model: a new model, on `device`.
        data: what to learn from.
        root: the run's folder.
        device: where the model is.
        world: the processes that train together; None for this one alone.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: RetrievalModel,
        data: TrainingData,
        root: Path,
        device: torch.device,
        world: World | None = None,
    ) -> None:
        self.config, self.model, self.data, self.root, self.device = config, model, data, root, device
        self.world = world or World()
        self.objective = make_objective(config, data, device, self.world)
        self.of_loss = loss_parameters(self.objective)
        self.optimiser = make_optimiser(config.optimiser, model, self.of_loss)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.watchdog = Watchdog(root, data, late=device.type == "cuda", writes=self.world.first)
        self.others: dict[str, Learner] = {}
        if any(True for _ in self.objective.loss.parameters()):
            self.others["loss"] = Learner(self.objective.loss, self.objective.optimiser)
        self.average = None if config.ema is None else WeightAverage(model, config.ema)
        if self.average is not None:
            self.others["average"] = Learner(self.average, None)
        self.best_model = model if self.average is None else cast(RetrievalModel, self.average.module)
        visits = visits_per_pass(data.train, config.data.sampling)
        check_rest(visits, config.data, self.world)
        if config.patience is not None and not data.validation_texts:
            raise ConfigError(
                f"patience is {config.patience}, and split {config.split} has no validation part to be patient with. "
                "Use --set patience=null, or another split."
            )
        self.batches_per_epoch = batches_per_epoch(visits, config.data)
        self.steps_per_epoch = math.ceil(self.batches_per_epoch / config.accumulate)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.at = Progress()
        if config.compile:
            compile_transformers(model)

    def train(self, *, allow_changed_code: bool = False) -> Progress:
        """Train to the configured number of epochs, or until validation gets no better for long enough.

        Args:
            allow_changed_code: go on from a checkpoint that other code or other versions made.

        Raises:
            ConfigError: other code, versions or numbers of processes made the checkpoint.
            VtrError: the loss is not finite.
            WorkspaceError: the run's folder cannot be written.
        """
        self._saved_at, self._saved_step = time.monotonic(), -1
        self._resume(allow_changed_code)
        with contextlib.ExitStack() as open_logs:
            self.log = open_logs.enter_context(self._open_log()) if self.world.first else None
            show = progress("train", self.total_steps, "steps", done=self.at.step, quiet=not self.world.first)
            advance = open_logs.enter_context(show)
            while not self.at.finished(self.config):
                for loss in self._epoch():
                    advance(1, self._note(loss))
            self._finish()
        return self.at

    def _open_log(self) -> TrainingLog:
        trackers = open_trackers(self.config, self.root, self.at.step)
        return TrainingLog(self.root / "log.jsonl", trackers, size=self.at.log_bytes)

    def _resume(self, allow_changed_code: bool) -> None:
        """Go back to the newest checkpoint, if there is one."""
        found = newest(self.root / "checkpoints")
        if found is None:
            if self.world.rank:
                torch.manual_seed(self.config.seed + RANK_SEED * self.world.rank)  # or all would drop out alike
            return
        now = made_with(self.world.size, self.device.type)
        for difference in check_made_with(found, now, allow_changed=allow_changed_code):
            say(f"goes on from a checkpoint of other code: {difference}")
        self.at = Progress.read(
            load_checkpoint(found, self.model, self.optimiser, self.others, self.device, rank=self.world.rank)
        )
        self._saved_step = self.at.step
        self.objective.monitor.load_state(self.at.epoch_means)
        self.scaler.load_state_dict(self.at.scale)

    def _note(self, loss: float) -> str:
        """Return what stands behind the progress bar."""
        epoch = self.at.epoch + (1 if self.at.batch else 0)
        note = f"epoch {epoch} of {self.config.epochs}, loss {loss:.4f}"
        note += f", {self._speed:.0f} pairs/s"
        if self.at.last_rsum is not None:
            note += f", validation RSUM {self.at.last_rsum:.1f} (best {self.at.best_rsum:.1f})"
        return note

    def _epoch(self) -> Iterator[float]:
        """Yield the loss of each step that is left of one epoch, and end it."""
        started, count = time.monotonic(), 0
        done: float | None = None
        for loss, norm, pairs in self._steps():
            if done is not None:
                yield done
            count += pairs
            self._speed = count / max(time.monotonic() - started, 1e-6)
            if self.at.step % LOG_STEPS == 0:
                self._write(
                    "train",
                    epoch=self.at.epoch,
                    loss=loss,
                    learning_rate=self.optimiser.param_groups[0]["lr"],
                    gradient_norm=float(norm),
                    pairs_per_second=round(self._speed, 1),
                )
            self.at.step += 1
            self._after_step()
            done = loss
        self._end_of_epoch()  # before the last step is told, so that its line shows what it came to
        if done is not None:
            yield done

    def _steps(self) -> Iterator[tuple[float, Tensor, int]]:
        """Do the steps that are left of an epoch; yield of each the loss, the gradient's norm, and how many pairs."""
        batches = epoch_batches(self.data.train, self.config.data, seed=self.config.seed, epoch=self.at.epoch)
        self.model.train()
        loaded = self._loaded(islice(batches, self.at.batch, None))
        while (left := self.batches_per_epoch - self.at.batch) > 0:
            size = min(self.config.accumulate, left)
            rate = set_rate(self.optimiser, self.config.optimiser, self.at.step, self.at.epoch, self.total_steps)
            self.optimiser.zero_grad(set_to_none=True)
            losses, count = [], 0
            for pairs, batch in islice(loaded, size):
                self.objective.prepare(self.model, pairs, self.at.step, rate)
                self.objective.gradient_scale = self.scaler.get_scale() * self.world.size / size
                value = self.objective.value(self.model, batch, pairs)
                losses.append(self._backward(value, pairs, 1 / size))
                count += len(pairs)
            norm = self._update(self.model, self.optimiser, pairs)
            self.at.batch += size
            yield sum(losses) / size, norm, count

    def _loaded(self, batches: Iterable[list[Pair]]) -> Iterator[Loaded]:
        """Yield the pairs of each batch and this process's share of it; the next is loaded while a step is done."""
        first = self.at.epoch * self.batches_per_epoch + self.at.batch

        def load(pairs: list[Pair], number: int, epoch: int) -> Batch:
            return self.objective.load(pairs, np.random.default_rng((self.config.seed, epoch, number)))

        with ThreadPoolExecutor(max_workers=1, initializer=enter, initargs=(self.device,)) as pool:
            waiting: tuple[list[Pair], Future[Batch]] | None = None
            for number, pairs in enumerate(batches, first):
                following = pool.submit(load, pairs, number, self.at.epoch)
                if waiting is not None:
                    yield waiting[0], waiting[1].result()
                waiting = pairs, following
            if waiting is not None:
                yield waiting[0], waiting[1].result()

    def _backward(self, loss: Tensor, pairs: list[Pair], share: float = 1.0) -> float:
        """Add a share of a loss's gradient to the parameters', and return the latest loss that is known.

        Raises:
            VtrError: it is not finite.
        """
        known = self.watchdog.add("loss", loss, pairs, self.at.step)
        # DistributedDataParallel averages over processes what is to be summed: their number makes up for it
        self.scaler.scale(loss * (share * self.world.size)).backward()  # type: ignore[no-untyped-call]
        return known

    def _update(self, model: RetrievalModel, optimiser: Optimizer, pairs: list[Pair]) -> Tensor:
        """Follow the gradient, and return its norm before clipping.

        Raises:
            VtrError: it is not finite, and precision is not float16, whose scaler leaves such steps out.
        """
        scale = self.scaler.get_scale()
        self.scaler.unscale_(optimiser)
        drop_frozen(optimiser, self.at.step)
        if self.world.size > 1:
            for parameter in self.of_loss:
                if parameter.grad is not None:
                    parameter.grad /= self.world.size  # every process has the whole of it already
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), self.config.optimiser.gradient_clip or math.inf)
        if not self.scaler.is_enabled():
            self.watchdog.add("gradient norm", norm, pairs, self.at.step)
        self.scaler.step(optimiser)
        self.scaler.update()
        taken = self.scaler.get_scale() >= scale
        if self.average is not None and taken:
            self.average.update()
        return norm

    def _after_step(self) -> None:
        """Validate and save where the configuration wants it after so many steps."""
        config, step = self.config, self.at.step
        if config.validate_every != "epoch" and step % config.validate_every == 0:
            self._validate_and_select()
        if isinstance(config.checkpoint_every, int) and step % config.checkpoint_every == 0:
            self._save()

    def _end_of_epoch(self) -> None:
        """Log the epoch, and validate and save where the configuration wants it after each epoch."""
        self.at.epoch += 1
        self.at.batch = 0
        self._write("epoch", epoch=self.at.epoch, **self.objective.monitor.means())
        self.objective.monitor.reset()
        if self.config.validate_every == "epoch":
            self._validate_and_select()
        self.at.stopped = self.config.patience is not None and self.at.waited >= self.config.patience
        wanted = self.config.checkpoint_every
        if wanted == "epoch" or (wanted == "minute" and self.world.tell(time.monotonic() - self._saved_at > MINUTE)):
            self._save()

    def _finish(self) -> None:
        """Validate the last step, choose the run's model, and save."""
        if self.at.validated_step != self.at.step:
            self._validate_and_select()
        if self.world.first and (self.config.select == "last" or self.at.best_rsum is None):
            self._save_best()
        self._save(again=True)

    def _validate_and_select(self) -> None:
        """Validate, and keep the model if it is the best so far."""
        self.watchdog.flush()
        metrics = self.validate() if self.world.first else None
        self._to_training()
        rsum = self.world.tell(None if metrics is None else metrics.rsum)
        if rsum is None:
            return
        at = self.at
        epoch = at.epoch + round(at.batch / self.batches_per_epoch, 3)
        epoch = int(epoch) if epoch == int(epoch) else epoch
        at.last_rsum, at.validated_step = rsum, at.step
        at.waited += 1
        if metrics is not None:
            recalls = {f"t2v_R{k}": value for k, value in metrics.text_to_video.recall.items()}
            recalls |= {f"v2t_R{k}": value for k, value in metrics.video_to_text.recall.items()}
            self._write("validation", epoch=epoch, rsum=rsum, **recalls)
        if at.best_rsum is None or rsum > at.best_rsum:
            at.best_rsum, at.best_epoch, at.waited = rsum, epoch, 0
            if self.world.first and self.config.select == "best":
                self._save_best()

    def _to_training(self) -> None:
        self.model.train()

    def _write(self, kind: str, **values: Any) -> None:
        if self.log is not None:
            self.log.write(kind, self.at.step, **values)

    def _save(self, *, again: bool = False) -> None:
        """Write a checkpoint, from which training goes on to the same bits.

        Args:
            again: where there is one of this step, write down anew how far training is.
        """
        there = self._saved_step == self.at.step
        if there and not again:
            return
        self.watchdog.flush()
        states = self.world.collect(random_state())
        if self.log is not None:
            folder, made = self.root / "checkpoints", made_with(self.world.size, self.device.type)
            self.at.log_bytes = self.log.flush()
            self.at.epoch_means = self.objective.monitor.state()
            self.at.scale = self.scaler.state_dict()
            here, progress = step_folder(folder, self.at.step), asdict(self.at)
            if there:
                write_state(here, progress, made)
            else:
                learners = (self.model, self.config, self.optimiser)
                save_checkpoint(here, *learners, progress, self.others, random=states, made_with=made)
            keep_newest(folder, self.config.keep_checkpoints)
        self._saved_at, self._saved_step = time.monotonic(), self.at.step

    def _save_best(self) -> None:
        with atomic_directory(self.root / "checkpoints" / BEST) as temporary:
            save_model(temporary, self.best_model, self.config)

    def validate(self) -> BothWays | None:
        """Return the metrics on the validation part, or None where there is none."""
        return self._validate(self.best_model)

    def _validate(self, model: RetrievalModel) -> BothWays | None:
        data = self.data
        if not data.validation_texts:
            return None
        videos = embed_videos(model, data.table, data.validation_videos, self.device)
        texts = embed_texts(model, data.captions, data.validation_texts, self.device)
        return evaluate_scores(score_matrix(texts, videos), np.asarray(data.video_of_text))
