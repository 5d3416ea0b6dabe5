"""Training on pairs of which some do not match: two peers that judge the pairs for each other (NCR).

Huang et al. 2021, "Learning with Noisy Correspondence for Cross-modal Matching". docs/losses.md says where this departs
from the released code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from vtr.config import NoisyCorrespondenceConfig, TrainConfig
from vtr.data.sampling import Pair, epoch_batches
from vtr.errors import ConfigError
from vtr.evaluation.metrics import BothWays
from vtr.files import atomic_file
from vtr.models.base import RetrievalModel
from vtr.training.checkpoint import Learner
from vtr.training.correspondence import clean_probability, judge, soft_labels
from vtr.training.data import TrainingData
from vtr.training.loop import Trainer
from vtr.training.optimiser import make_optimiser, set_rate

PEER_SEED = 1_000_003
"""Added to the seed for what the second peer draws."""

JUDGED = "correspondence.parquet"
"""In the run's folder: what the peers think of every pair, as of the last epoch."""


@dataclass(frozen=True)
class Lesson:
    """What one peer learns from in an epoch.

    Attributes:
        clean, noisy: video row -> caption rows.
        labels: soft labels by caption row; None where all pairs count as matching.
    """

    clean: Mapping[int, list[int]]
    noisy: Mapping[int, list[int]]
    labels: NDArray[np.float32] | None


class NoisyTrainer(Trainer):
    """One run of two peers. The better one on validation becomes the run's model.

    Args:
        config: the run's configuration, with `noisy_correspondence`.
        model, peer: new models, on `device`, that differ.
        data, root, device: see `Trainer`.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: RetrievalModel,
        peer: RetrievalModel,
        data: TrainingData,
        root: Path,
        device: torch.device,
    ) -> None:
        super().__init__(config, model, data, root, device)
        assert config.noisy_correspondence is not None
        _check(config)
        self.noisy: NoisyCorrespondenceConfig = config.noisy_correspondence
        self.peers = (model, peer)
        self.optimisers = (self.optimiser, make_optimiser(config.optimiser, peer))
        self.others["peer"] = Learner(peer, self.optimisers[1])
        self.pairs = [(video, caption) for video, captions in data.train.items() for caption in captions]

    def _steps(self) -> Iterator[tuple[float, torch.Tensor, int]]:
        """Yield the mean loss, the first peer's gradient norm and the number of pairs of each step: of both peers."""
        lessons = self._lessons()
        self._to_training()
        streams = [
            zip(self._batches(k, lesson.clean), self._noisy_batches(k, lesson), strict=False)
            for k, lesson in enumerate(lessons)
        ]
        for batches in zip_longest(*streams):
            losses, norms, count = [], [], 0
            for k, batch in enumerate(batches):
                if batch is not None:
                    loss, norm = self._peer_step(k, lessons[k], *batch)
                    losses.append(loss)
                    norms.append(norm)
                    count += len(batch[0])
            yield float(np.mean(losses)), norms[0], count

    def _peer_step(
        self, k: int, lesson: Lesson, clean: list[Pair], noisy: list[Pair] | None
    ) -> tuple[float, torch.Tensor]:
        """Do one peer's step on clean pairs, and noisy ones if given; return its loss and its gradient's norm."""
        generator = np.random.default_rng((self.config.seed, self.at.epoch, self.at.step, k))
        model, optimiser = self.peers[k], self.optimisers[k]
        self.objective.gradient_scale = self.scaler.get_scale()
        set_rate(optimiser, self.config.optimiser, self.at.step, self.at.epoch, self.total_steps)
        value = self.objective.value(model, self.objective.load(clean, generator), clean, _labels(lesson, clean))
        if noisy is not None:
            batch = self.objective.load(noisy, generator)
            value = value + self.objective.value(model, batch, noisy, _labels(lesson, noisy))
        optimiser.zero_grad(set_to_none=True)
        loss = self._backward(value, clean)
        return loss, self._update(model, optimiser, clean)

    def _batches(self, k: int, captions_of: Mapping[int, list[int]]) -> Iterator[list[Pair]]:
        seed = self.config.seed + k * PEER_SEED
        return epoch_batches(captions_of, self.config.data, seed=seed, epoch=self.at.epoch)

    def _noisy_batches(self, k: int, lesson: Lesson) -> Iterator[list[Pair] | None]:
        """Yield a batch of noisy pairs for every step, again and again; None where they are not learnt from."""
        begun = self.at.epoch >= self.noisy.noisy_from * self.config.epochs
        batches = list(self._batches(k, lesson.noisy)) if begun and lesson.labels is not None else []
        return cycle(batches or [None])

    def _lessons(self) -> tuple[Lesson, Lesson]:
        """Return what each peer learns from in this epoch: all pairs at first, then what the other judged."""
        if self.at.epoch < self.noisy.warmup_epochs:
            everything = Lesson(self.data.train, {}, None)
            return everything, everything
        seeds = [(self.config.seed, self.at.epoch, 2 + k) for k in range(2)]
        found = [
            judge(peer, self.data, self.pairs, self.config, self.device, seed)
            for peer, seed in zip(self.peers, seeds, strict=True)
        ]
        probabilities = [clean_probability(judgement.loss) for judgement in found]
        self._write_judged(probabilities)
        lessons = []
        for k in range(2):
            given = probabilities[1 - k]
            clean = given > self.noisy.threshold
            if len({self.pairs[at][0] for at in np.flatnonzero(clean)}) < 2:  # nothing to contrast: trust all pairs
                clean = np.ones(len(clean), bool)
            y = soft_labels(clean, given, found[k].prediction, found[1 - k].prediction)
            labels = np.zeros(len(self.data.captions.captions), np.float32)
            labels[[caption for _, caption in self.pairs]] = y
            lessons.append(Lesson(self._select(clean), self._select(~clean), labels))
        shares = [float((probability > self.noisy.threshold).mean()) for probability in probabilities]
        self._write("correspondence", epoch=self.at.epoch, clean_share_a=shares[0], clean_share_b=shares[1])
        return lessons[0], lessons[1]

    def _select(self, chosen: NDArray[np.bool_]) -> dict[int, list[int]]:
        captions_of: dict[int, list[int]] = {}
        for at in np.flatnonzero(chosen).tolist():
            video, caption = self.pairs[at]
            captions_of.setdefault(video, []).append(caption)
        return captions_of

    def _write_judged(self, probabilities: list[NDArray[np.float32]]) -> None:
        captions = self.data.captions.captions
        table = pa.table(
            {
                "caption_id": [captions[caption].id for _, caption in self.pairs],
                "video_id": [self.data.table.video_ids[video] for video, _ in self.pairs],
                "clean_probability_a": probabilities[0],
                "clean_probability_b": probabilities[1],
            }
        )
        with atomic_file(self.root / JUDGED) as temporary:
            pq.write_table(table, temporary)

    def _to_training(self) -> None:
        for peer in self.peers:
            peer.train()

    def validate(self) -> BothWays | None:
        """Return the better peer's metrics on the validation part, and let it be the run's model; None without one."""
        found = [self._validate(peer) for peer in self.peers]
        if found[0] is None or found[1] is None:
            return None
        better = int(found[1].rsum > found[0].rsum)
        self.best_model = self.peers[better]
        return found[better]


def _check(config: TrainConfig) -> None:
    """Check that a configuration asks for nothing that two peers cannot do.

    Raises:
        ConfigError: it does.
    """
    for name, value, expected in (
        ("ema", config.ema, None),
        ("accumulate", config.accumulate, 1),
        ("select", config.select, "best"),
        ("compile", config.compile, False),
    ):
        if value != expected:
            raise ConfigError(
                f"noisy_correspondence is set and {name} is {value}: with two peers, {expected} was expected. Use "
                f"--set {name}={'null' if expected is None else expected}."
            )
    if isinstance(config.checkpoint_every, int):
        raise ConfigError(
            f"noisy_correspondence is set and checkpoint_every is {config.checkpoint_every}: what the peers judge "
            "holds for an epoch. Use --set checkpoint_every=epoch."
        )


def _labels(lesson: Lesson, pairs: list[Pair]) -> torch.Tensor | None:
    if lesson.labels is None:
        return None
    return torch.from_numpy(lesson.labels[[caption for _, caption in pairs]])
