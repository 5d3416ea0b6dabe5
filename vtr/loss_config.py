"""The losses a config can name, with their parameters."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from vtr.config_base import Config

Over = Literal["sum", "mean"]
Coefficients = Annotated[tuple[float, ...], Field(min_length=1, strict=False)]


class _LossConfig(Config):
    """What the losses' sections share: every field is an argument of the loss, but for those in `of_training`."""

    of_training: ClassVar[frozenset[str]] = frozenset()


class _PerAnchor(_LossConfig):
    margin: float = 0.2
    """How much a positive should beat a negative by."""

    reduction: Over = "mean"
    """Over anchors: "sum" as in the paper, or "mean", which keeps the gradient's size apart from the batch's."""


class _Scaled(_PerAnchor):
    gamma: float = Field(default=50.0, gt=0)
    """The scale; larger attends more to the hardest negatives."""


class UnifiedLossConfig(_Scaled):
    """The unified pair-similarity loss (arXiv 2209.13869, Eq. 5)."""

    name: Literal["unified"] = "unified"


class TripletHardNegativeLossConfig(_PerAnchor):
    """The hinge on the hardest negative (Eq. 1-2)."""

    name: Literal["triplet_hn"]


class MaxMarginRankingLossConfig(_LossConfig):
    """The mean hinge over all negatives; MMT was released with margin 0.05, CE with 0.09381."""

    name: Literal["max_margin"]
    margin: float = 0.05
    """How much a positive should beat a negative by."""

    reduction: Over = "mean"
    """Over all negatives."""


class ContrastiveLossConfig(_LossConfig):
    """The contrastive loss (VLC, InfoNCE) in both directions (Eq. 3)."""

    name: Literal["contrastive"]
    gamma: float = Field(default=50.0, gt=0)
    """The inverse temperature, or where a learnt one starts."""

    reduction: Over = "mean"
    """Over anchors."""

    learnable: bool = False
    """Learn gamma, as CLIP does."""


class WeightedUnifiedLossConfig(_Scaled):
    """The unified loss of weighted similarities (Eq. 24)."""

    name: Literal["weighted_unified"]
    weights: Literal["circle", "unit"] = "circle"
    """circle: what is further from its optimum weighs more. unit: the unified loss."""


class RelativePolynomialLossConfig(_Scaled):
    """A polynomial of the relative similarity, as a hinge or in the unified form (RSP, Eq. 25)."""

    name: Literal["relative_polynomial"]
    coefficients: Coefficients = (0.0, 1.0)
    """Of the polynomial, in ascending powers; the default is x itself, and no published choice."""

    form: Literal["hinge", "unified"] = "hinge"
    """hinge: of the hardest negative. unified: the soft form over all."""


class SelfPolynomialLossConfig(_PerAnchor):
    """Polynomials of the similarities themselves, of anchors with a negative within the margin (SSP)."""

    name: Literal["self_polynomial"]
    positive: Coefficients = (0.5, -0.7, 0.2)
    """Of the positive's polynomial, in ascending powers."""

    negative: Coefficients = (0.03, -0.4, 0.9)
    """Of the negative's."""


class AdaptiveMarginUnifiedLossConfig(_Scaled):
    """The unified loss with a margin for every anchor (Eq. 26); `noisy_correspondence` gives it NCR's."""

    name: Literal["adaptive_margin_unified"]


class OfflineQuintupletLossConfig(_PerAnchor):
    """The adaptive offline quintuplet loss, on negatives that `vtr mine` found with a first model (AOQ)."""

    of_training: ClassVar[frozenset[str]] = frozenset({"negatives"})

    name: Literal["offline_quintuplet"]
    negatives: str = Field(min_length=1)
    """The first run, which `vtr mine` has mined; a path."""

    offline_margin: float = 0.0
    """How much a positive should beat an offline negative by."""

    alpha: float = Field(default=0.3, gt=0)
    """The offline negative's lead over the one in the batch that lowers the latter's weight by 1."""

    beta: float = 1.5
    """The weight of a negative in the batch that is as hard as the offline one."""


class MetaWeightedLossConfig(_Scaled):
    """The unified loss with weights from a network that validation batches teach (our reading of Meta-SPN)."""

    of_training: ClassVar[frozenset[str]] = frozenset({"learning_rate", "every"})

    name: Literal["meta_weighted"]
    hidden: int = Field(default=64, ge=1)
    """Width of the network's hidden layer."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Of the network."""

    every: int = Field(default=1, ge=1)
    """The network is updated every so many steps; an update costs about two steps."""


LOSS_CONFIGS: tuple[type[_LossConfig], ...] = (
    UnifiedLossConfig,
    TripletHardNegativeLossConfig,
    MaxMarginRankingLossConfig,
    ContrastiveLossConfig,
    WeightedUnifiedLossConfig,
    RelativePolynomialLossConfig,
    SelfPolynomialLossConfig,
    AdaptiveMarginUnifiedLossConfig,
    OfflineQuintupletLossConfig,
    MetaWeightedLossConfig,
)


def _loss_name(value: Any) -> str:
    return str(value.get("name", "unified") if isinstance(value, dict) else getattr(value, "name", value))


LossConfig = Annotated[
    Annotated[UnifiedLossConfig, Tag("unified")]
    | Annotated[TripletHardNegativeLossConfig, Tag("triplet_hn")]
    | Annotated[MaxMarginRankingLossConfig, Tag("max_margin")]
    | Annotated[ContrastiveLossConfig, Tag("contrastive")]
    | Annotated[WeightedUnifiedLossConfig, Tag("weighted_unified")]
    | Annotated[RelativePolynomialLossConfig, Tag("relative_polynomial")]
    | Annotated[SelfPolynomialLossConfig, Tag("self_polynomial")]
    | Annotated[AdaptiveMarginUnifiedLossConfig, Tag("adaptive_margin_unified")]
    | Annotated[OfflineQuintupletLossConfig, Tag("offline_quintuplet")]
    | Annotated[MetaWeightedLossConfig, Tag("meta_weighted")],
    Discriminator(_loss_name),
]
