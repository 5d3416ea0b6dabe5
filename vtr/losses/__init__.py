"""Pair-similarity losses: scores [B, B], texts in rows and positives on the diagonal, to a scalar. One loss a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from vtr.losses.adaptive_margin import AdaptiveMarginUnifiedLoss, adaptive_margin_unified_loss, soft_margins
from vtr.losses.contrastive import ContrastiveLoss, contrastive_loss
from vtr.losses.distributed import gather_rows
from vtr.losses.embeddings import unified_loss_from_embeddings
from vtr.losses.max_margin import MaxMarginRankingLoss, max_margin_ranking_loss
from vtr.losses.meta_weighted import MetaWeightedLoss
from vtr.losses.offline_quintuplet import OfflineQuintupletLoss, OfflineScores, offline_quintuplet_loss
from vtr.losses.relative_polynomial import RelativePolynomialLoss, relative_polynomial_loss
from vtr.losses.self_polynomial import SelfPolynomialLoss, self_polynomial_loss
from vtr.losses.triplet import TripletHardNegativeLoss, triplet_hard_negative_loss
from vtr.losses.unified import UnifiedLoss, unified_loss
from vtr.losses.weighted import WeightedUnifiedLoss, circle_weights, weighted_unified_loss

if TYPE_CHECKING:  # the losses need torch alone
    from vtr.loss_config import LossConfig

__all__ = [
    "LOSSES",
    "AdaptiveMarginUnifiedLoss",
    "ContrastiveLoss",
    "MaxMarginRankingLoss",
    "MetaWeightedLoss",
    "OfflineQuintupletLoss",
    "OfflineScores",
    "RelativePolynomialLoss",
    "SelfPolynomialLoss",
    "TripletHardNegativeLoss",
    "UnifiedLoss",
    "WeightedUnifiedLoss",
    "adaptive_margin_unified_loss",
    "build_loss",
    "circle_weights",
    "contrastive_loss",
    "gather_rows",
    "max_margin_ranking_loss",
    "offline_quintuplet_loss",
    "relative_polynomial_loss",
    "self_polynomial_loss",
    "soft_margins",
    "triplet_hard_negative_loss",
    "unified_loss",
    "unified_loss_from_embeddings",
    "weighted_unified_loss",
]


LOSSES: Mapping[str, type[nn.Module]] = {
    "adaptive_margin_unified": AdaptiveMarginUnifiedLoss,
    "contrastive": ContrastiveLoss,
    "max_margin": MaxMarginRankingLoss,
    "meta_weighted": MetaWeightedLoss,
    "offline_quintuplet": OfflineQuintupletLoss,
    "relative_polynomial": RelativePolynomialLoss,
    "self_polynomial": SelfPolynomialLoss,
    "triplet_hn": TripletHardNegativeLoss,
    "unified": UnifiedLoss,
    "weighted_unified": WeightedUnifiedLoss,
}
"""A loss config's name -> the loss; the config's other fields are its arguments, but for those that training reads."""


def build_loss(config: LossConfig) -> nn.Module:
    """Return the loss a config names, a module from scores [B, B] to a scalar."""
    return LOSSES[config.name](**config.model_dump(exclude={"name", *config.of_training}))
