"""The core types. Read this first.

They are frozen, check themselves, and carry units in their names. Scores are oriented `scores[text, video]` everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vtr.errors import InputError, some
from vtr.finite import all_finite

if TYPE_CHECKING:  # stages without a model start in a fraction of a second without it
    import torch
    from torch import Tensor

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


def _duplicates(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


@dataclass(frozen=True, slots=True)
class Video:
    """One video (or clip of a longer source).

    Attributes:
        id: unique name, for example "video7010".
        path: the file, or another locator (see `vtr.annotations.locators`); None when there is no file on this machine.
        start_seconds, end_seconds: where the clip lies in its source, when known.
        source_id: what two clips of the same source share (a URL or YouTube id), when known.
        category: a label such as MSR-VTT's 20 categories, when known.
    """

    id: str
    path: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    source_id: str | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption. `id` is stable and unique, for example "video7010#3" (its place among the video's captions)."""

    id: str
    video_id: str
    text: str


@dataclass(frozen=True)
class Annotations:
    """Videos and their captions, checked: ids unique, every caption's video known, no caption empty.

    Raises:
        InputError: naming the duplicate, unknown or empty entries.
    """

    videos: tuple[Video, ...]
    captions: tuple[Caption, ...]

    def __post_init__(self) -> None:
        for what, ids in (("video", [v.id for v in self.videos]), ("caption", [c.id for c in self.captions])):
            if repeated := _duplicates(ids):
                raise InputError(f"{what} ids occur more than once: {some(repeated)}. Ids must be unique.")
        known = {video.id for video in self.videos}
        if unknown := sorted({c.video_id for c in self.captions} - known):
            raise InputError(f"captions name videos that are not listed: {some(unknown)}. Add the videos or drop them.")
        if empty := [caption.id for caption in self.captions if not caption.text.strip()]:
            raise InputError(f"captions are empty: {some(empty)}. Remove them or fill them in.")

    @cached_property
    def video_by_id(self) -> Mapping[str, Video]:
        """Video id -> video."""
        return {video.id: video for video in self.videos}

    @cached_property
    def caption_by_id(self) -> Mapping[str, Caption]:
        """Caption id -> caption."""
        return {caption.id: caption for caption in self.captions}

    @cached_property
    def captions_by_video(self) -> Mapping[str, tuple[Caption, ...]]:
        """Video id -> its captions, in file order. A video without captions maps to an empty tuple."""
        groups: dict[str, list[Caption]] = {video.id: [] for video in self.videos}
        for caption in self.captions:
            groups[caption.video_id].append(caption)
        return {video_id: tuple(captions) for video_id, captions in groups.items()}


@dataclass(frozen=True)
class Split:
    """Ordered train / validation / test video ids, disjoint, and which captions are the queries.

    Attributes:
        name: "full", "1k-A", ...
        train, validation, test: video ids.
        query_caption_ids: the captions that are queries when validation or test is evaluated;
            None means every caption of the part's videos (MSR-VTT full: 20 a video).
        note: how the split was made, in words a reader of a result table can use.

    Raises:
        InputError: an id occurs twice, in one part or in two.
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    query_caption_ids: tuple[str, ...] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for part in PARTS:
            if repeated := _duplicates(self.part(part)):
                raise InputError(f"split {self.name}: {part} lists videos twice: {some(repeated)}.")
        for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
            if both := sorted(set(getattr(self, first)) & set(getattr(self, second))):
                raise InputError(
                    f"split {self.name}: {first} and {second} overlap in {len(both)} videos: {some(both)}. "
                    "A video may be in one part only."
                )

    def part(self, part: Part) -> tuple[str, ...]:
        """Return the video ids of one part, in order."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[part]

    def queries(self, part: Part, annotations: Annotations) -> tuple[Caption, ...]:
        """Return the query captions of `part`, grouped by video in the part's order.

        Raises:
            InputError: a listed query caption is not in `annotations`.
        """
        captions = [c for video_id in self.part(part) for c in annotations.captions_by_video.get(video_id, ())]
        if self.query_caption_ids is None:
            return tuple(captions)
        if unknown := sorted(set(self.query_caption_ids) - annotations.caption_by_id.keys()):
            raise InputError(f"split {self.name}: query captions are not in the annotations: {some(unknown)}.")
        chosen = set(self.query_caption_ids)
        return tuple(caption for caption in captions if caption.id in chosen)


Modality = Literal["image", "video", "audio", "text"]


@dataclass(frozen=True, slots=True)
class ExpertSpec:
    """What an expert's features are.

    Attributes:
        name: "appearance", "motion", ...
        dim: length D of one feature vector.
        modality: what the expert reads: still frames, moving frames, sound, or text found in either.
        window_seconds: the time one feature covers, None where a feature has no fixed extent.
        model_id: the model that made them, for example "efficientnet-lite2/imagenet".
        weights_sha256: hex hash of the weights; "" for experts computed without weights.
        pretrained_on: the data the weights were trained on, "nothing" for hand-made features.
    """

    name: str
    dim: int
    modality: Modality
    window_seconds: float | None
    model_id: str
    weights_sha256: str = ""
    pretrained_on: str = "nothing"

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"expert {self.name}: dim is {self.dim}, a positive number was expected")


@dataclass(frozen=True, slots=True)
class ExpertFeatures:
    """One expert's features of one video. A video the expert found nothing in has no row at all, never zeros.

    Attributes:
        values: [T, D] float16 or float32, T >= 1, finite.
        start_seconds, end_seconds: [T] float32, where each feature lies in the video; NaN in both where it has no time.

    Raises:
        ValueError: shapes, dtype or values are wrong; both shapes are named.
    """

    values: NDArray[Any]
    start_seconds: NDArray[np.float32]
    end_seconds: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[0] < 1:
            raise ValueError(f"features have shape {self.values.shape}, [T, D] with T >= 1 was expected")
        if self.values.dtype not in (np.float16, np.float32):
            raise ValueError(f"features are {self.values.dtype}, float16 or float32 was expected")
        for name in ("start_seconds", "end_seconds"):
            if (shape := getattr(self, name).shape) != self.values.shape[:1]:
                raise ValueError(f"{name} has shape {shape}, features have {self.values.shape}: [T], [T, D] expected")
        if not all_finite(self.values):
            raise ValueError(f"features hold {int((~np.isfinite(self.values)).sum())} NaN or infinite values")

    @property
    def dim(self) -> int:
        """Length D of one feature vector."""
        return int(self.values.shape[1])


@dataclass(frozen=True, slots=True)
class ExpertBatch:
    """One expert's features for B videos.

    Attributes:
        values: [B, T, D] float32, zero where `mask` is False.
        mid_seconds: [B, T] float32, the middle of each feature's time; NaN where it has none.
        mask: [B, T] bool, True where a feature is.
        aggregate: [B, D] float32, the maximum or the mean (as the model asks for) over all of a video's features, also
            those not sampled into `values`; zero where the video lacks the expert.
    """

    values: Tensor
    mid_seconds: Tensor
    mask: Tensor
    aggregate: Tensor

    def __post_init__(self) -> None:
        values, mask, aggregate = (tuple(held.shape) for held in (self.values, self.mask, self.aggregate))
        if len(values) != 3 or mask != values[:2]:
            raise ValueError(f"values {values} and mask {mask}: [B, T, D] and [B, T] expected")
        if aggregate != (values[0], values[2]):
            raise ValueError(f"aggregate {aggregate} does not fit values {values}")

    def to(self, device: torch.device | str) -> ExpertBatch:
        """Return a copy on `device`."""
        return ExpertBatch(*(getattr(self, f).to(device) for f in ("values", "mid_seconds", "mask", "aggregate")))


@dataclass(frozen=True, slots=True)
class VideoBatch:
    """B videos: features per expert and which experts each has.

    Attributes:
        ids: B video ids.
        experts: expert name -> its batch, E experts in alphabetical order.
        present: [B, E] bool, in the order of `experts`.
    """

    ids: tuple[str, ...]
    experts: Mapping[str, ExpertBatch]
    present: Tensor

    def to(self, device: torch.device | str) -> VideoBatch:
        """Return a copy on `device`."""
        return VideoBatch(self.ids, {n: e.to(device) for n, e in self.experts.items()}, self.present.to(device))


@dataclass(frozen=True, slots=True)
class TextBatch:
    """N captions, as tokens for a text encoder or as states that a frozen encoder made earlier.

    Attributes:
        ids: N caption ids.
        input_ids: [N, L] int64 tokens, for an encoder trained with the model.
        attention_mask: [N, L] int64, 1 on tokens and 0 on padding; with `input_ids` and `token_states`.
        states: [N, H] float32 sentence states of a frozen encoder.
        token_states: [N, L, H] float32 token states of a frozen encoder, zero on padding.

    Raises:
        ValueError: not exactly one of tokens, states and token states is given, or the mask is missing.
    """

    ids: tuple[str, ...]
    input_ids: Tensor | None = None
    attention_mask: Tensor | None = None
    states: Tensor | None = None
    token_states: Tensor | None = None

    def __post_init__(self) -> None:
        if sum(held is not None for held in (self.input_ids, self.states, self.token_states)) != 1:
            raise ValueError("a TextBatch holds tokens, states or token states, exactly one of them")
        if self.states is None and self.attention_mask is None:
            raise ValueError("a TextBatch with tokens or token states needs an attention mask")

    def to(self, device: torch.device | str) -> TextBatch:
        """Return a copy on `device`."""
        held = (self.input_ids, self.attention_mask, self.states, self.token_states)
        return TextBatch(self.ids, *(None if x is None else x.to(device) for x in held))


@dataclass(frozen=True, slots=True)
class Batch:
    """B matching video-caption pairs: text i describes video i."""

    videos: VideoBatch
    texts: TextBatch

    def to(self, device: torch.device | str) -> Batch:
        """Return a copy on `device`; the training loop calls this once per batch."""
        return Batch(self.videos.to(device), self.texts.to(device))


def _check_embeddings(what: str, ids: tuple[str, ...], vectors: Tensor, per_item: Tensor) -> None:
    if vectors.ndim != 3 or len(ids) != vectors.shape[0] or per_item.shape != vectors.shape[:2]:
        raise ValueError(
            f"{what}: {len(ids)} ids, vectors {tuple(vectors.shape)} and {tuple(per_item.shape)} do not fit; "
            "N, [N, E, D] and [N, E] were expected"
        )


@dataclass(frozen=True, slots=True)
class VideoEmbeddings:
    """What a model makes of N videos.

    Attributes:
        ids: N video ids.
        vectors: [N, E, D] float32, unit length per expert; a model that corrects for hubs adds numbers to each.
        present: [N, E] float32 or bool, the availability `a` of the score: 1 where the expert counts. A model that
            keeps missing experts (`keep_missing`) sets it to 1 everywhere.
    """

    ids: tuple[str, ...]
    vectors: Tensor
    present: Tensor

    def __post_init__(self) -> None:
        _check_embeddings("video embeddings", self.ids, self.vectors, self.present)


@dataclass(frozen=True, slots=True)
class TextEmbeddings:
    """What a model makes of N texts.

    Attributes:
        ids: N caption ids.
        vectors: [N, E, D] float32, unit length per expert; a model that corrects for hubs adds numbers to each.
        weights: [N, E] float32, softmax mixture weights (rows sum to 1).
    """

    ids: tuple[str, ...]
    vectors: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        _check_embeddings("text embeddings", self.ids, self.vectors, self.weights)


@dataclass(frozen=True, slots=True)
class RetrievalMetrics:
    """How well one direction retrieves, in percent and ranks (rank 1 is best).

    Attributes:
        direction: "text_to_video" or "video_to_text".
        protocol: the rules that made the numbers (queries, gallery, tie rule), in words.
        num_queries, num_items: queries scored and items ranked for each.
        recall: k -> R@k in percent.
        median_rank, mean_rank: MedR and MeanR.
        mean_reciprocal_rank: MRR, 0 to 1: the mean of 1 / rank.
        ndcg_at_10, mean_average_precision: nDCG@10 and mAP, 0 to 1, over all right answers of a query; None where only
            the best one was looked for.
        num_tied: queries in which another item has exactly the score of the best right answer.
    """

    direction: Literal["text_to_video", "video_to_text"]
    protocol: str
    num_queries: int
    num_items: int
    recall: Mapping[int, float] = field(default_factory=dict)
    median_rank: float = 0.0
    mean_rank: float = 0.0
    mean_reciprocal_rank: float = 0.0
    ndcg_at_10: float | None = None
    mean_average_precision: float | None = None
    num_tied: int = 0

    @property
    def geometric_mean(self) -> float:
        """The geometric mean of R@1, R@5 and R@10, in percent."""
        return float((self.recall[1] * self.recall[5] * self.recall[10]) ** (1 / 3))
