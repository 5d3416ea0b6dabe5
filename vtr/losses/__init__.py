"""Pair-similarity losses: scores [B, B], texts in rows and positives on the diagonal, to a scalar. One loss a file."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from vtr.config import LossConfig
from vtr.losses.contrastive import ContrastiveLoss, contrastive_loss
from vtr.losses.max_margin import MaxMarginRankingLoss, max_margin_ranking_loss
from vtr.losses.triplet import TripletHardNegativeLoss, triplet_hard_negative_loss
from vtr.losses.unified import UnifiedLoss, unified_loss

__all__ = [
    "LOSSES",
    "ContrastiveLoss",
    "MaxMarginRankingLoss",
    "TripletHardNegativeLoss",
    "UnifiedLoss",
    "build_loss",
    "contrastive_loss",
    "max_margin_ranking_loss",
    "triplet_hard_negative_loss",
    "unified_loss",
]


LOSSES: Mapping[str, type[nn.Module]] = {
    "contrastive": ContrastiveLoss,
    "max_margin": MaxMarginRankingLoss,
    "triplet_hn": TripletHardNegativeLoss,
    "unified": UnifiedLoss,
}
"""A loss config's name -> the loss; the config's other fields are its arguments."""


def build_loss(config: LossConfig) -> nn.Module:
    """Return the loss a config names, a module from scores [B, B] to a scalar."""
    return LOSSES[config.name](**config.model_dump(exclude={"name"}))
