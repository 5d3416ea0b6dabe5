"""What each expert adds: the same model scored with one expert alone, and with one left out; no retraining."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vtr.embeddings import EmbeddedPart
from vtr.evaluation.correspondence import Correspondence
from vtr.evaluation.metrics import BothWays, evaluate_scores
from vtr.evaluation.protocols import Rules
from vtr.evaluation.scores import score_embeddings
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


def ablations(part: EmbeddedPart, rules: Rules | None = None) -> Iterator[Ablated]:
    """Yield the metrics with each expert alone and with each left out.

    Nothing where there is only one expert; of two, one left out is the other alone. A video that has none of the
    experts that are left scores 0 with every text.

    Args:
        part: embeddings.
        rules: tie rule and protocol, None for the default ones; nothing is done to the scores.
    """
    for label, kept in _choices(part.experts):
        yield _ablated(part, label, kept, rules or Rules())


def num_ablations(part: EmbeddedPart) -> int:
    """Return how many `ablations` there are."""
    return len(_choices(part.experts))


def _choices(experts: Sequence[str]) -> list[tuple[str, list[int]]]:
    places = range(len(experts))
    alone = [(f"only {name}", [place]) for place, name in enumerate(experts)]
    left_out = [(f"without {name}", [p for p in places if p != place]) for place, name in enumerate(experts)]
    return alone * (len(experts) > 1) + left_out * (len(experts) > 2)


def _ablated(part: EmbeddedPart, label: str, columns: list[int], rules: Rules) -> Ablated:
    """Return the metrics of the experts at `columns`."""
    texts, videos = part.texts, part.videos  # without the other columns they are masked in numerator and denominator
    present = videos.present[:, columns]
    right = Correspondence.of(part.video_of_text, len(videos.ids))
    scores = score_embeddings(
        TextEmbeddings(texts.ids, texts.vectors[:, columns], texts.weights[:, columns]),
        VideoEmbeddings(videos.ids, videos.vectors[:, columns], present),
        right,
    )
    share = float((present > 0).any(dim=1).float().mean())
    return Ablated(label, share, evaluate_scores(scores, right, ties=rules.ties, video_to_text=rules.video_to_text))
