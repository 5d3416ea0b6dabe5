"""The mixture of embedding experts (MoEE; Miech et al. 2018, arXiv 1804.02516) over pooled features, in members."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vtr.errors import ConfigError
from vtr.model_config import MoEEConfig
from vtr.models.base import RetrievalModel
from vtr.models.caption_regression import CaptionRegression, spread_states
from vtr.models.gating import GatedEmbeddingUnits, MixtureWeights
from vtr.models.hubs import COLUMNS, HubCorrection, correct_texts, correct_videos
from vtr.similarity import flat_scores, flat_texts, flat_videos
from vtr.types import ExpertBatch, TextBatch, TextEmbeddings, VideoBatch, VideoEmbeddings

REGRESSION = "caption_regression"
"""What the regression's prediction is called among the experts."""

TINY = 1e-6
"""Added to the size of pooled features before dividing by it."""


@dataclass(frozen=True)
class Fitted:
    """How much of the training data a model holds, all 0 until it is fitted.

    Attributes:
        regression_videos: videos of the caption regression.
        hub_texts, hub_videos: those that hubs are measured against.
    """

    regression_videos: int = 0
    hub_texts: int = 0
    hub_videos: int = 0


@dataclass(frozen=True)
class _Bank:
    """What hubs are measured against, embedded with some weights; flat, as every batch is scored with it.

    Attributes:
        texts, weights: [T, E*D] and [T, E], see `vtr.similarity.flat_texts`.
        videos, present: [V, E*D] and [V, E], see `vtr.similarity.flat_videos`.
        of_texts, of_videos: the mean of h over the bank's own.
    """

    texts: Tensor
    weights: Tensor
    videos: Tensor
    present: Tensor
    of_texts: Tensor
    of_videos: Tensor


class MoEE(RetrievalModel):
    """Videos: each expert's features pooled over time, scaled, and gated. Texts: gated units and mixture weights.

    Every expert has K gated units a side, the members. A member's score is the mixture of its units' cosines, under
    mixture weights that all members share; the model's is the mean of its members'. Each learns from its own score
    alone, so that they are an ensemble that is embedded, indexed and searched as one model. What the regression
    predicts, if there is one, is one more expert. In evaluation hubs are corrected for, if the config asks for it.

    Args:
        config: sizes.
        expert_dims: expert name -> length of its features; E experts, kept in alphabetical order.
        text_dim: H, length of the text state.
        text_encoder: a `transformers` encoder trained with the rest; None when batches carry frozen states.
        fitted: how much of the training data it holds.

    Raises:
        ConfigError: there are no experts, or one has the regression's name.
    """

    def __init__(
        self,
        config: MoEEConfig,
        expert_dims: Mapping[str, int],
        text_dim: int,
        text_encoder: nn.Module | None = None,
        fitted: Fitted | None = None,
    ) -> None:
        super().__init__(config, expert_dims, text_dim, text_encoder)
        self.config = config
        self.members = config.members
        self.dim = config.members * config.dim
        fitted = fitted or Fitted()
        self.widths = [len(config.pooling) * dim for dim in self.expert_dims.values()]
        self.regression = self.hubs = None
        if (asked := config.caption_regression) is not None:
            if REGRESSION in self.expert_dims:
                raise ConfigError(
                    f"an expert is called {REGRESSION}, as what model.caption_regression adds is. Extract it under "
                    "another name, or use --set model.caption_regression=null."
                )
            self.regression = CaptionRegression(sum(self.widths), asked.components, text_dim, fitted.regression_videos)
        if config.hub_correction is not None:
            held = (fitted.hub_texts, fitted.hub_videos, text_dim, sum(self.widths), len(self.experts))
            self.hubs = HubCorrection(config.hub_correction, *held)
        self._bank: _Bank | None = None
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        widths = self.widths if self.regression is None else [*self.widths, text_dim]
        self.video_units = nn.ModuleList(GatedEmbeddingUnits(width, config.members, config.dim) for width in widths)
        self.text_units = GatedEmbeddingUnits(text_dim, len(self.scored) * config.members, config.dim)
        self.mixture = MixtureWeights(text_dim, len(self.scored), config.dropout)

    @property
    def scored(self) -> tuple[str, ...]:
        """The experts, and the regression if there is one."""
        return self.experts if self.regression is None else (*self.experts, REGRESSION)

    @property
    def fitted(self) -> Fitted:
        """How much of the training data the model holds."""
        regression = 0 if self.regression is None else self.regression.videos
        return Fitted(regression, *((0, 0) if self.hubs is None else (len(self.hubs.states), len(self.hubs.features))))

    @property
    def embedded_dim(self) -> int:
        """Length of an expert's vector in evaluation."""
        return self.dim + (COLUMNS if self._corrects else 0)

    @property
    def _corrects(self) -> bool:
        return self.hubs is not None and len(self.hubs.states) > 0 and len(self.hubs.features) > 0

    def train(self, mode: bool = True) -> MoEE:
        """Set the mode, also where it stays: weights may have changed since the bank was embedded."""
        self._bank = None
        return super().train(mode)

    def embed_videos(self, videos: VideoBatch) -> VideoEmbeddings:
        """Return the embeddings of B videos; see the base class."""
        features, present = self.pooled(videos)
        embedded = self._embed_pooled(videos.ids, features, present, self._predicted(videos.ids, features, present))
        if self.training or self.hubs is None or not self._corrects:
            return embedded
        bank = self._embedded_bank(self.hubs)
        with torch.autocast(features.device.type, enabled=False):
            scores = flat_scores(bank.texts, flat_videos(embedded), bank.weights, embedded.present)
            level = self.hubs.level(scores, 0)
        return correct_videos(embedded, level - bank.of_videos)

    def embed_texts(self, texts: TextBatch) -> TextEmbeddings:
        """Return the embeddings of N texts; see the base class."""
        embedded = self._embed_states(texts.ids, self._sentence_states(texts))
        if self.training or self.hubs is None or not self._corrects:
            return embedded
        bank = self._embedded_bank(self.hubs)
        with torch.autocast(embedded.vectors.device.type, enabled=False):
            scores = flat_scores(flat_texts(embedded), bank.videos, embedded.weights, bank.present)
            level = self.hubs.level(scores, 1)
        return correct_texts(embedded, level - bank.of_texts)

    def pooled(self, videos: VideoBatch) -> tuple[Tensor, Tensor]:
        """Return [B, P], the experts' features pooled and scaled, end to end, and [B, E], which experts each video has.

        Raises:
            ValueError: the batch's experts are not the model's.
        """
        self._check_experts(videos)
        return torch.cat([self._pooled(expert) for expert in videos.experts.values()], dim=1), videos.present

    @torch.no_grad()
    def fit_regression(
        self,
        ids: Sequence[str],
        features: Tensor,
        present: Tensor,
        states: Tensor,
        video_of_text: Tensor,
        sources: Sequence[str],
    ) -> None:
        """Fit the regression to N videos.

        Args:
            ids: their ids.
            features, present: [N, P] and [N, E], see `pooled`; each has some expert.
            states: [C, H], the frozen states of their captions.
            video_of_text: [C] int64, the video that each describes, 0 to N - 1; each video has some.
            sources: N names of what each video was cut from.
        """
        assert self.regression is not None
        parts = [dim for dim in self.expert_dims.values() for _ in self.config.pooling]
        targets = spread_states(states, video_of_text, len(ids))
        self.regression.fit(ids, features, self._seen(present), parts, targets, sources)

    @torch.no_grad()
    def hold_hubs(self, ids: Sequence[str], features: Tensor, present: Tensor, states: Tensor) -> None:
        """Take V training videos and T training texts that hubs are measured against, after `fit_regression`.

        Args:
            ids: the videos' ids.
            features, present: [V, P] and [V, E], see `pooled`.
            states: [T, H], the frozen states of the texts.
        """
        assert self.hubs is not None
        self.hubs.hold(states, features, present, self._predicted(ids, features, present))

    def _embedded_bank(self, hubs: HubCorrection) -> _Bank:
        """Return what hubs are measured against, embedded; kept until the mode is set again."""
        bank = self._bank  # which another thread may take away
        if bank is None:
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(hubs.states.device.type, enabled=False):
                names = [tuple(map(str, range(len(some)))) for some in (hubs.states, hubs.features)]
                texts = self._embed_states(names[0], hubs.states)
                videos = self._embed_pooled(names[1], hubs.features, hubs.present, hubs.predicted)
                flat = (flat_texts(texts), texts.weights, flat_videos(videos), videos.present)
                scores = flat_scores(flat[0], flat[2], texts.weights, videos.present)
                of_texts, of_videos = hubs.level(scores, 1).mean(), hubs.level(scores, 0).mean()
            bank = self._bank = _Bank(*flat, of_texts, of_videos)
        return bank

    def _predicted(self, ids: Sequence[str], features: Tensor, present: Tensor) -> Tensor:
        """Return [B, H], what the regression says of videos; zeros without one."""
        if self.regression is None:
            return features.new_zeros((len(features), self.text_dim))
        predicted: Tensor = self.regression(ids, features, self._seen(present))
        return predicted

    def _seen(self, present: Tensor) -> Tensor:
        """Return [B, P] bool, which of the pooled numbers are of an expert that a video has."""
        widths = torch.tensor(self.widths, device=present.device)
        return present.repeat_interleave(widths, dim=1, output_size=sum(self.widths))

    def _pooled(self, expert: ExpertBatch) -> Tensor:
        """Return [B, 2 D] (or D), an expert's features pooled, each video's scaled to numbers of size 1 on average."""
        seen = expert.mask.unsqueeze(-1)
        pools = {
            "mean": lambda: (expert.values * seen).sum(dim=1) / seen.sum(dim=1).clamp_min(1),
            "max": lambda: expert.values.masked_fill(~seen, -torch.inf).amax(dim=1).nan_to_num(neginf=0.0),
        }
        scaled = []
        for name in self.config.pooling:
            pooled = pools[name]()
            scaled.append(pooled / (pooled.square().mean(dim=1, keepdim=True).sqrt() + TINY))
        return torch.cat(scaled, dim=1)

    def _embed_pooled(
        self, ids: tuple[str, ...], features: Tensor, present: Tensor, predicted: Tensor
    ) -> VideoEmbeddings:
        """Return the embeddings of B videos without a correction for hubs.

        Args:
            ids: B ids.
            features, present: see `pooled`.
            predicted: [B, H], what the regression says of them.
        """
        inputs = list(torch.split(features, self.widths, dim=1))
        if self.regression is not None:
            inputs.append(predicted)
            present = torch.cat([present, present.any(dim=1, keepdim=True)], dim=1)
        vectors = [
            self._gated(cast(GatedEmbeddingUnits, unit), self.feature_dropout(of_one), present[:, place])
            for place, (unit, of_one) in enumerate(zip(self.video_units, inputs, strict=True))
        ]
        counted = torch.ones_like(present) if self.keep_missing else present
        return VideoEmbeddings(ids, self._joined(torch.stack(vectors, dim=1)), counted)

    def _gated(self, units: GatedEmbeddingUnits, pooled: Tensor, present: Tensor) -> Tensor:
        """Return unit vectors [B, K, D]; videos without the expert have no part in the units' batch norm.

        Without it they are 0, and so is the only video in a training batch that has it: batch norm needs two.
        """
        if self.keep_missing:
            gated: Tensor = units(pooled)
            return gated
        rows = present.nonzero().squeeze(1)
        if self.training and len(rows) == 1 and units.gate_norm.group is None:
            rows = rows[:0]
        if not len(rows) and units.gate_norm.group is None:
            return pooled.new_zeros((len(pooled), units.num_experts, units.dim))
        some: Tensor = units(pooled[rows])
        return some.new_zeros((len(pooled), *some.shape[1:])).index_copy(0, rows, some)

    def _embed_states(self, ids: tuple[str, ...], states: Tensor) -> TextEmbeddings:
        """Return the embeddings of texts with states [N, H], without a correction for hubs."""
        vectors = self.text_units(states).unflatten(1, (len(self.scored), self.members))
        return TextEmbeddings(ids, self._joined(vectors), self.mixture(states))

    def _joined(self, vectors: Tensor) -> Tensor:
        """Return [N, E, K * D] of the members' unit vectors [N, E, K, D]."""
        return vectors.flatten(2) / math.sqrt(self.members)
