"""The models a config can name, with their sizes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from vtr.config_base import Config

Aggregate = Literal["max", "mean"]
"""How all of a video's features of an expert become the one vector that a model may ask for."""


class MMTConfig(Config):
    """The multi-modal transformer over experts (Gabeur et al. 2020)."""

    aggregate: ClassVar[Aggregate] = "max"
    text_modes: ClassVar[tuple[str, ...]] = ("fine_tuned", "frozen")

    name: Literal["mmt"] = "mmt"
    dim: int = Field(default=512, ge=8)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    feed_forward: int = Field(default=3072, ge=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    max_position: int = Field(default=31, ge=1)
    keep_missing: bool = False
    """True: an expert a video lacks counts in the score (as released). False: the score is renormalised over the
    experts the video has."""


class VladConfig(Config):
    """NetVLAD: how a sequence becomes one vector."""

    clusters: int = Field(ge=1)
    ghosts: int = Field(default=0, ge=0)
    """Clusters that take what belongs nowhere and are then dropped."""

    length: int | None = Field(default=None, ge=1)
    """Sequences are cut to this length and padded with zeros, which NetVLAD sees, as released. None: no padding is
    seen, and `data.max_features` or `text.max_tokens` alone cut."""


class CEConfig(Config):
    """Collaborative experts (Liu et al. 2019); without gating, the mixture of embedding experts (Miech et al. 2018)."""

    aggregate: ClassVar[Aggregate] = "mean"
    text_modes: ClassVar[tuple[str, ...]] = ("frozen_tokens",)

    name: Literal["ce"]
    dim: int = Field(default=768, ge=8)
    gating: Literal["pairwise", "none"] = "pairwise"
    """pairwise: each expert's embedding is gated by what it has in common with the others. none: MoEE."""

    layers: int = Field(default=3, ge=1)
    """Linear layers that turn a pair of experts into a gate."""

    self_pairs: bool = True
    """Whether an expert is also paired with itself."""

    keep_missing: bool = False
    """True: an expert a video lacks counts in the score. False (as released): the score is renormalised over the
    experts the video has."""

    vlad: dict[str, VladConfig] = Field(
        default={
            "audio": VladConfig(clusters=8, ghosts=1, length=29),
            "ocr": VladConfig(clusters=43, ghosts=1, length=49),
            "speech": VladConfig(clusters=19, ghosts=1, length=32),
        }
    )
    """Experts pooled by NetVLAD, where the run has them; the others' features are averaged."""

    text_vlad: VladConfig = VladConfig(clusters=28, ghosts=1, length=37)
    """The pooling of a caption's token states."""


Pooling = Literal["mean", "max"]


class CaptionRegressionConfig(Config):
    """Kernel ridge regression from a video's features to the mean state of its captions."""

    components: int = Field(default=768, ge=1)
    """How many principal components of the features it sees."""

    videos: int = Field(default=10_000, ge=2)
    """It is fitted to at most so many training videos, which the model then holds; drawn by whole sources of more."""


class HubCorrectionConfig(Config):
    """Taking out of the scores how near a video is to all texts, and a text to all videos."""

    beta: float = Field(default=10.0, gt=0)
    """How much the nearest count for more: scores times this are the exponents of a softmax."""

    texts: int = Field(default=1000, ge=1)
    """Videos are measured against so many training captions, whose states the model holds."""

    videos: int = Field(default=300, ge=1)
    """Texts are measured against so many training videos, whose pooled features the model holds."""


class MoEEConfig(Config):
    """A mixture of embedding experts (Miech et al. 2018) over pooled features, of several members that are averaged."""

    aggregate: ClassVar[Aggregate] = "max"
    text_modes: ClassVar[tuple[str, ...]] = ("frozen", "fine_tuned")

    name: Literal["moee"]
    dim: int = Field(default=256, ge=8)
    """Length of each member's vector of an expert."""

    members: int = Field(default=4, ge=1)
    """Gated units of each expert, each learning for itself; their scores are averaged."""

    pooling: tuple[Pooling, ...] = Field(default=("mean", "max"), min_length=1, strict=False)
    """What becomes of an expert's features: their mean, their maximum, or both, end to end."""

    feature_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the pooled features' numbers that are left out in training."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """The same of the text state that the mixture weights are made of."""

    caption_regression: CaptionRegressionConfig | None = None
    """Also score captions against what the regression says a video's captions are like, as if that were an expert. It
    is fitted before training, in closed form. Needs frozen text states."""

    hub_correction: HubCorrectionConfig | None = None
    """In evaluation, correct scores for hubs. Needs frozen text states."""

    keep_missing: bool = False
    """True: an expert a video lacks counts in the score, with zeros for features. False: the score is renormalised
    over the experts the video has."""


class TextSideConfig(Config):
    """The text encoder in whose space an expert's features lie."""

    kind: Literal["clip", "siglip", "sentence"]
    """clip, siglip: the text side of such a model. sentence: a sentence encoder, for what is spoken and shown."""

    model: str
    """A local folder or a hub name; for sentence also packaged:all-minilm-l6-v2."""

    dim: int = Field(ge=1)
    """Length of its vectors, and of the expert's features."""


class ZeroShotConfig(Config):
    """Search without training: each expert's features are compared with a text encoder made for them."""

    aggregate: ClassVar[Aggregate] = "mean"
    text_modes: ClassVar[tuple[str, ...]] = ("frozen",)

    name: Literal["zero_shot"]
    texts: dict[str, TextSideConfig] = Field(min_length=1)
    """Expert -> the encoder its features are compared with."""

    weights: dict[str, float] = Field(default_factory=dict)
    """Expert -> how much it counts; 1 where it is not named. What counts is their share of the sum."""

    keep_missing: Literal[True] = True
    """An expert that a video lacks adds nothing to the score, which is a sum of evidence."""

    @property
    def dim(self) -> int:
        """Length of an embedded expert: that of the longest; shorter ones end in zeros."""
        return max(side.dim for side in self.texts.values())


def _model_name(value: Any) -> str:
    return str(value.get("name", "mmt") if isinstance(value, dict) else getattr(value, "name", value))


ModelConfig = Annotated[
    Annotated[MMTConfig, Tag("mmt")]
    | Annotated[CEConfig, Tag("ce")]
    | Annotated[MoEEConfig, Tag("moee")]
    | Annotated[ZeroShotConfig, Tag("zero_shot")],
    Discriminator(_model_name),
]
