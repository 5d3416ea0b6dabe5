"""One part's evaluation: what is kept as JSON, and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vtr.coverage import Coverage
from vtr.errors import InputError
from vtr.evaluation.ablation import Ablated
from vtr.evaluation.breakdown import Slice
from vtr.evaluation.confidence import Interval
from vtr.evaluation.duplicates import Ceiling
from vtr.evaluation.metrics import BothWays
from vtr.evaluation.protocols import Protocol
from vtr.types import RetrievalMetrics

Intervals = Mapping[str, Mapping[str, Interval]]
"""Direction ("text_to_video", "video_to_text", "both_ways") -> metric -> 95 % interval."""


@dataclass(frozen=True, slots=True)
class Example:
    """One query and what was found.

    Attributes:
        caption_id, text: the query.
        video_id: the right answer.
        rank: its rank.
        video_ids, scores: the best few videos, best first.
    """

    caption_id: str
    text: str
    video_id: str
    rank: float
    video_ids: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class IndexCheck:
    """The same part, answered by the index.

    Attributes:
        kind: FAISS's name of the index.
        exact: whether it promises exact answers.
        listed: how many results it was asked for.
        metrics: of the ranks in its lists; where these end before a rank is known, it is counted from exact scores.
        told: direction -> how many queries' ranks the lists alone told.
        recall_at_10: direction -> percent of the exact best 10 that it lists among its best 10, over `sampled` queries.
        candidates: direction -> quantile -> how many candidates, ranked by inner product, hold the exact best 10.
        sampled: direction -> on how many queries, evenly spread, the last two were measured.
        num_differences: how many queries it answers otherwise than the exact scores.
        differences: the first of these, in words.
    """

    kind: str
    exact: bool
    listed: int
    metrics: BothWays
    told: Mapping[str, int]
    recall_at_10: Mapping[str, float]
    candidates: Mapping[str, Mapping[str, float]]
    sampled: Mapping[str, int]
    num_differences: int
    differences: tuple[str, ...]

    def __str__(self) -> str:
        """Whether the index and the exact scores agree, in words."""
        lists = f"its lists of the best {self.listed} for every query"
        if not self.num_differences:
            return f"The index ({self.kind}; {lists}) and the exact scores give the same figures."
        if not self.exact:
            return (
                f"The index ({self.kind}) is approximate: {self.num_differences:,} queries have another rank through "
                f"{lists} than from exact scores."
            )
        more = self.num_differences - len(self.differences)
        listed = "\n".join(self.differences) + (f"\nand {more:,} more" if more else "")
        return f"The index and the exact scores differ for {self.num_differences:,} queries:\n{listed}"


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one part of a split.

    Attributes:
        coverage: how much of the part was there.
        protocol: queries, gallery, rules.
        experts: expert -> share of the gallery's videos in whose score it counts, 0 to 1; empty for a matrix.
        metrics, chance: of the model, and of a random order.
        intervals: 95 % bootstrap intervals over videos.
        notes: what a reader must know: how the videos were used before, what they share with those trained on.
        ceiling: what identical query captions leave to reach.
        slices: metrics of some of the queries, or with other right answers.
        ranks: direction -> how many ranks lie where, see `summarise_ranks`.
        examples: a fixed choice of queries.
        ablation: metrics with some experts only; empty for a matrix or after post-processing, like the next.
        index: the same part, answered by the index.
    """

    coverage: Coverage
    protocol: Protocol
    experts: Mapping[str, float]
    metrics: BothWays
    chance: BothWays
    intervals: Intervals
    notes: tuple[str, ...]
    ceiling: Ceiling
    slices: tuple[Slice, ...]
    ranks: Mapping[str, Mapping[str, float]]
    examples: tuple[Example, ...]
    ablation: tuple[Ablated, ...] = ()
    index: IndexCheck | None = None

    @property
    def title(self) -> str:
        """Coverage, captions a video, and the rules that are not the default."""
        return f"{self.coverage}; {self.protocol.title}"

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads, with sums and sentences for other readers."""
        return asdict(self) | {
            "rsum": self.metrics.rsum,
            "chance_rsum": self.chance.rsum,
            "agreement": None if self.index is None else str(self.index),
            "coverage_in_words": str(self.coverage),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str) -> Evaluation:
        """Return an evaluation as `as_json` wrote it.

        Args:
            values: the JSON object.
            source: the file it came from, for the message.

        Raises:
            InputError: something is missing or of another kind.
        """
        try:
            return cls(
                Coverage(**values["coverage"]),
                Protocol(**values["protocol"]),
                values["experts"],
                _both(values["metrics"]),
                _both(values["chance"]),
                {way: {m: Interval(**i) for m, i in found.items()} for way, found in values["intervals"].items()},
                tuple(values["notes"]),
                Ceiling(values["ceiling"]["share"], _by_number(values["ceiling"]["recall"])),
                tuple(_slice(one) for one in values["slices"]),
                values["ranks"],
                tuple(
                    Example(**e | {"video_ids": tuple(e["video_ids"]), "scores": tuple(e["scores"])})
                    for e in values["examples"]
                ),
                tuple(Ablated(a["label"], a["share"], _both(a["metrics"])) for a in values["ablation"]),
                None if values["index"] is None else _index(values["index"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{source} is not an evaluation ({error!r}). Run `vtr evaluate RUN` again.") from error


def _both(values: Mapping[str, Any]) -> BothWays:
    return BothWays(_metrics(values["text_to_video"]), _metrics(values["video_to_text"]))


def _metrics(values: Mapping[str, Any]) -> RetrievalMetrics:
    return RetrievalMetrics(**{**values, "recall": _by_number(values["recall"])})


def _by_number(values: Mapping[str, float]) -> dict[int, float]:
    return {int(at): value for at, value in values.items()}


def _slice(values: Mapping[str, Any]) -> Slice:
    ways = (values["text_to_video"], values["video_to_text"])
    return Slice(values["group"], values["label"], *(None if way is None else _metrics(way) for way in ways))


def _index(values: Mapping[str, Any]) -> IndexCheck:
    return IndexCheck(**{**values, "metrics": _both(values["metrics"]), "differences": tuple(values["differences"])})
