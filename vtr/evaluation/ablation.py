"""What each expert adds: the same model scored with one expert alone, and with one left out; no retraining."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vtr.embeddings import EmbeddedPart
from vtr.evaluation.metrics import BothWays, evaluate_scores
from vtr.similarity import exact_scores
from vtr.types import TextEmbeddings, VideoEmbeddings


@dataclass(frozen=True, slots=True)
class Ablated:
    """The metrics of some of the experts.

    Attributes:
        label: "only ocr", "without ocr".
        share: of the gallery's videos, how many have one of the experts that are left, 0 to 1.
        metrics: with the score renormalised over the experts that are left.
    """

    label: str
    share: float
    metrics: BothWays


def ablations(part: EmbeddedPart) -> Iterator[Ablated]:
    """Yield the metrics with each expert alone and with each left out; nothing where there is only one expert.

    A video that has none of the experts left scores 0 with every text.
    """
    experts = range(len(part.experts))
    if len(experts) < 2:
        return
    for kept, word in (
        ([[e] for e in experts], "only"),
        ([[o for o in experts if o != e] for e in experts], "without"),
    ):
        for name, columns in zip(part.experts, kept, strict=True):
            yield _ablated(part, f"{word} {name}", columns)


def _ablated(part: EmbeddedPart, label: str, kept: Sequence[int]) -> Ablated:
    """Return the metrics of the experts in `kept`."""
    columns = list(kept)  # dropping the other columns masks them in numerator and denominator
    texts, videos = part.texts, part.videos
    present = videos.present[:, columns]
    scores = exact_scores(
        TextEmbeddings(texts.ids, texts.vectors[:, columns], texts.weights[:, columns]),
        VideoEmbeddings(videos.ids, videos.vectors[:, columns], present),
    )
    share = float((present > 0).any(dim=1).float().mean())
    return Ablated(label, share, evaluate_scores(scores, part.video_of_text))


def num_ablations(part: EmbeddedPart) -> int:
    """Return how many `ablations` there are."""
    return 2 * len(part.experts) if len(part.experts) > 1 else 0
