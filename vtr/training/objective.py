"""The loss of a training batch: what is put beside the pairs, and how their scores become a number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vtr.config import TrainConfig
from vtr.data.sampling import Pair
from vtr.errors import ConfigError
from vtr.loss_config import MetaWeightedLossConfig, OfflineQuintupletLossConfig
from vtr.losses import (
    MetaWeightedLoss,
    OfflineScores,
    UnifiedLoss,
    build_loss,
    gather_rows,
)
from vtr.model_config import MoEEConfig
from vtr.models.base import RetrievalModel
from vtr.similarity import flat_scores
from vtr.training.data import TrainingData
from vtr.training.distributed import World, shared
from vtr.training.meta import meta_gradients
from vtr.training.monitor import Monitor
from vtr.training.offline import OfflineNegatives
from vtr.types import Batch

AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""A config's precision -> the type the model computes in under autocast, None without."""


class Objective:
    """The loss of the scores of a batch's pairs.

    Args:
        config: the run's configuration.
        data: what is learnt from.
        device: where the models are.
        world: the processes that share each batch; None for this one alone.

    Attributes:
        gradient_scale: what the loss will be multiplied with before the backward pass.
        monitor: means over the batches seen by `value`: loss, similarities, gradients at the embeddings.
    """

    def __init__(
        self, config: TrainConfig, data: TrainingData, device: torch.device, world: World | None = None
    ) -> None:
        self.config, self.data, self.device, self.world = config, data, device, world or World()
        self.loss = build_loss(config.loss).to(device)
        self.monitor = Monitor()
        self.gradient_scale = 1.0
        self._embedders: dict[int, nn.Module] = {}

    @property
    def optimiser(self) -> Optimizer | None:
        """The optimiser of the loss's own parameters, where the model's is not to have them."""
        return None

    def load(self, pairs: Sequence[Pair], generator: np.random.Generator | None) -> Batch:
        """Return this process's share of the batch that `value` takes for these pairs.

        It may be called ahead, in another thread.

        Args:
            pairs: B (video row, caption row).
            generator: draws which features are kept.
        """
        return self.data.batch(pairs, generator, self.device, self.world.part(len(pairs)))

    def member_scores(self, model: RetrievalModel, batch: Batch) -> list[Tensor]:
        """Return the scores [B, B] of each of the model's members, of the batch that all processes share."""
        if id(model) not in self._embedders:
            self._embedders[id(model)] = shared(model, self.world)
        embedder = self._embedders[id(model)]
        precision = AUTOCAST[self.config.precision]
        with torch.autocast(self.device.type, precision or torch.bfloat16, enabled=precision is not None):
            texts, weights, videos, present = embedder(batch)
        texts, videos = texts * weights.unsqueeze(-1), videos * present.unsqueeze(-1)
        if self.world.group is not None:
            group = self.world.group
            texts, weights, videos, present = (gather_rows(x, group) for x in (texts, weights, videos, present))
        self.monitor.watch(texts, "text", self.gradient_scale)
        self.monitor.watch(videos, "video", self.gradient_scale)
        parts = zip(texts.chunk(model.members, dim=2), videos.chunk(model.members, dim=2), strict=True)
        share = model.members**0.5  # each member's vectors are shorter than 1 by this
        return [
            flat_scores((text * share).flatten(1), (video * share).flatten(1), weights, present)
            for text, video in parts
        ]

    def scores(self, model: RetrievalModel, batch: Batch) -> Tensor:
        """Return the model's scores [B, B] of the batch that all processes share, in float32."""
        return torch.stack(self.member_scores(model, batch)).mean(dim=0)

    def _measured(self, scores: Tensor, loss: Tensor, positives: Tensor | None) -> Tensor:
        """Return a loss, after the monitor has seen it."""
        self.monitor.add(scores.detach(), loss.detach(), positives)
        return loss

    def positives(self, pairs: Sequence[Pair]) -> Tensor | None:
        """Return the mask [B, B] of known positives, or None where the configuration does not ask for it."""
        if not self.config.data.mask_known_positives:
            return None
        return self.data.positives.mask(pairs).to(self.device)

    def prepare(self, model: RetrievalModel, pairs: Sequence[Pair], step: int, rate: float) -> None:
        """Do what comes before a step on these pairs."""

    def value(
        self,
        model: RetrievalModel,
        batch: Batch,
        pairs: Sequence[Pair],
        labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of B pairs.

        Args:
            model: the model.
            batch: what `load` made of the pairs.
            pairs: B (video row, caption row).
            labels: [B], soft correspondence labels, for a loss that takes them.
        """
        positives = self.positives(pairs)
        given = {} if labels is None else {"labels": labels.to(self.device)}
        of_members = self.member_scores(model, batch)
        losses = [self.loss(scores, positives=positives, **given) for scores in of_members]
        loss = torch.stack(losses).mean()
        return self._measured(torch.stack(of_members).mean(dim=0), loss, positives)


class OfflineObjective(Objective):
    """The loss of the pairs and of two mined negatives of each: a video for its text, a text for its video."""

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        device: torch.device,
        negatives: OfflineNegatives,
        world: World | None = None,
    ) -> None:
        super().__init__(config, data, device, world)
        self.negatives = negatives

    def load(self, pairs: Sequence[Pair], generator: np.random.Generator | None) -> Batch:
        """Return the batch of the pairs and of a pair of negatives for each."""
        assert generator is not None
        return super().load([*pairs, *self.negatives.draw(pairs, generator)], generator)

    def value(
        self,
        model: RetrievalModel,
        batch: Batch,
        pairs: Sequence[Pair],
        labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of B pairs, whose scores are part of those [2B, 2B] of the pairs and their negatives."""
        assert labels is None
        size = len(pairs)
        scores = self.scores(model, batch)
        offline = OfflineScores(
            text=scores[:size, size:].diagonal(),
            video=scores[size:, :size].diagonal(),
            pair=scores[size:, size:].diagonal(),
        )
        within = scores[:size, :size]
        positives = self.positives(pairs)
        return self._measured(within, self.loss(within, offline, positives=positives), positives)


class MetaObjective(Objective):
    """A loss whose pair weights come from a network, which learns from validation batches before the model's steps."""

    loss: MetaWeightedLoss

    def __init__(self, config: TrainConfig, data: TrainingData, device: torch.device) -> None:
        super().__init__(config, data, device)
        assert isinstance(config.loss, MetaWeightedLossConfig)
        if len(data.validation_videos) < 2:
            raise ConfigError(
                f"loss.name is meta_weighted, which learns on validation batches, and split {config.split} has no "
                "validation part. Choose another split or another loss."
            )
        self.every = config.loss.every
        self.plain = UnifiedLoss(config.loss.margin, config.loss.gamma, config.loss.reduction)
        self._optimiser = torch.optim.Adam(self.loss.network.parameters(), lr=config.loss.learning_rate)

    @property
    def optimiser(self) -> Optimizer | None:
        """The network's."""
        return self._optimiser

    def prepare(self, model: RetrievalModel, pairs: Sequence[Pair], step: int, rate: float) -> None:
        """Update the network so that a step on these pairs would lower the loss on a validation batch."""
        if step % self.every:
            return
        generator = np.random.default_rng((self.config.seed, step, 1))
        data, count = self.data, self.config.data.batch_size
        places = generator.permutation(len(data.validation_texts))
        drawn: dict[int, int] = {}
        for place in places.tolist():  # one caption of each video
            drawn.setdefault(data.validation_videos[data.video_of_text[place]], data.validation_texts[place])
            if len(drawn) == count:
                break
        train = data.batch(pairs, generator, self.device)
        validation = data.batch(list(drawn.items()), generator, self.device)
        gradients = meta_gradients(
            model, self.loss, self.plain, train, validation, rate, positives=self.positives(pairs)
        )
        for parameter, gradient in zip(self.loss.network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)


def make_objective(
    config: TrainConfig, data: TrainingData, device: torch.device, world: World | None = None
) -> Objective:
    """Return the objective a configuration asks for.

    Raises:
        ConfigError: settings that exclude each other.
        WorkspaceError: mined negatives are missing, or not of these videos and captions.
    """
    if config.noisy_correspondence is not None and config.loss.name != "adaptive_margin_unified":
        raise ConfigError(
            f"noisy_correspondence is set and loss.name is {config.loss.name}: a loss with a margin for every pair was "
            "expected. Use --set loss.name=adaptive_margin_unified."
        )
    if isinstance(config.loss, OfflineQuintupletLossConfig):
        return OfflineObjective(config, data, device, OfflineNegatives.load(config.loss.negatives, data), world)
    if isinstance(config.loss, MetaWeightedLossConfig):
        if isinstance(config.model, MoEEConfig) and config.model.hub_correction is not None:
            raise ConfigError(
                "loss.name is meta_weighted and model.hub_correction is set: it learns from batches in evaluation "
                "mode, where scores are corrected. Use --set model.hub_correction=null."
            )
        return MetaObjective(config, data, device)
    return Objective(config, data, device, world)


def loss_parameters(objective: Objective) -> list[nn.Parameter]:
    """Return the loss's parameters that are learnt with the model's."""
    return [] if objective.optimiser is not None else list(objective.loss.parameters())
