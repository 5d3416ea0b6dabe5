"""Pair-similarity losses: scores [B, B], texts in rows and positives on the diagonal, to a scalar. One loss a file."""

from __future__ import annotations

from torch import nn

from vtr.config import (
    ContrastiveLossConfig,
    LossConfig,
    MaxMarginRankingLossConfig,
    TripletHardNegativeLossConfig,
)
from vtr.losses.contrastive import ContrastiveLoss, contrastive_loss
from vtr.losses.max_margin import MaxMarginRankingLoss, max_margin_ranking_loss
from vtr.losses.triplet import TripletHardNegativeLoss, triplet_hard_negative_loss
from vtr.losses.unified import UnifiedLoss, unified_loss

__all__ = [
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


def build_loss(config: LossConfig) -> nn.Module:
    """Return the loss a config names."""
    if isinstance(config, TripletHardNegativeLossConfig):
        return TripletHardNegativeLoss(config.margin, config.reduction)
    if isinstance(config, MaxMarginRankingLossConfig):
        return MaxMarginRankingLoss(config.margin)
    if isinstance(config, ContrastiveLossConfig):
        return ContrastiveLoss(config.gamma, config.reduction)
    return UnifiedLoss(config.margin, config.gamma, config.reduction)
