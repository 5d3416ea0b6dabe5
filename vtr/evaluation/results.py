"""One part's evaluation: what is computed, what is kept as JSON, what is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtr.coverage import Coverage
from vtr.errors import InputError
from vtr.evaluation.ablation import Ablated
from vtr.evaluation.metrics import BothWays
from vtr.evaluation.protocols import Protocol
from vtr.evaluation.ranks import Ranks
from vtr.types import RetrievalMetrics

SAME = "The index (its lists of the best 50 for every query) and the exact scores give the same figures."
NUM_EXAMPLES = 8
TOP_OF_EXAMPLE = 5
SHOWN_DIFFERENCES = 20


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


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one part of a split.

    Attributes:
        coverage: how much of the part was there.
        protocol: queries, gallery, tie rule.
        experts: expert -> share of the gallery's videos in whose score it counts, 0 to 1.
        metrics, chance: of the model, and of a random order.
        notes: what a reader must know about how the videos were used before.
        differences: queries that the index answers otherwise than the exact scores, in words; empty when all agree.
        ranks: direction -> summary of the ranks, see `summarise_ranks`.
        ablation: metrics with some experts only.
        examples: a fixed choice of queries.
    """

    coverage: Coverage
    protocol: Protocol
    experts: Mapping[str, float]
    metrics: BothWays
    chance: BothWays
    notes: tuple[str, ...]
    differences: tuple[str, ...]
    ranks: Mapping[str, Mapping[str, float]]
    ablation: tuple[Ablated, ...]
    examples: tuple[Example, ...]

    @property
    def agreement(self) -> str:
        """Whether the index and the exact scores agree, in words."""
        if not self.differences:
            return SAME
        more = len(self.differences) - SHOWN_DIFFERENCES
        listed = "\n".join(self.differences[:SHOWN_DIFFERENCES]) + (f"\nand {more} more" if more > 0 else "")
        return f"The index and the exact scores differ for {len(self.differences)} queries:\n{listed}"

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads, with RSUM for other readers."""
        return asdict(self) | {
            "rsum": self.metrics.rsum,
            "chance_rsum": self.chance.rsum,
            "agreement": self.agreement,
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
                tuple(values["notes"]),
                tuple(values["differences"]),
                values["ranks"],
                tuple(Ablated(a["label"], a["share"], _both(a["metrics"])) for a in values["ablation"]),
                tuple(
                    Example(**e | {"video_ids": tuple(e["video_ids"]), "scores": tuple(e["scores"])})
                    for e in values["examples"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{source} is not an evaluation ({error!r}). Run `vtr evaluate RUN` again.") from error


def _both(values: Mapping[str, Any]) -> BothWays:
    directions = ("text_to_video", "video_to_text")
    read = (values[d] | {"recall": {int(at): r for at, r in values[d]["recall"].items()}} for d in directions)
    return BothWays(*(RetrievalMetrics(**metrics) for metrics in read))


def summarise_ranks(ranks: Ranks) -> dict[str, float]:
    """Return how many of the ranks lie where, and their quartiles."""
    counts, _ = np.histogram(ranks, [1, 1.25, 5.75, 10.75, 50.75, np.inf])  # ranks end in .0 or .5
    names = ("first", "to_5", "to_10", "to_50", "beyond_50")
    quartiles = {f"percentile_{q}": float(np.percentile(ranks, q)) for q in (25, 50, 75, 90)}
    return {name: float(count) for name, count in zip(names, counts, strict=True)} | quartiles


def choose_examples(ranks: Ranks, video_of_text: NDArray[np.int64], count: int = NUM_EXAMPLES) -> list[int]:
    """Return the rows of a fixed choice of queries: half answered right, half wrong, spread over the part.

    Where there are too few of one kind the other fills up; no video is asked for twice.
    """
    _, first = np.unique(video_of_text, return_index=True)
    kinds = {right: [int(row) for row in first if (ranks[row] == 1) == right] for right in (True, False)}
    num_right = min(len(kinds[True]), max(count // 2, count - len(kinds[False])))
    chosen = _spread(kinds[True], num_right) + _spread(kinds[False], count - num_right)
    return sorted(chosen)


def _spread(rows: list[int], count: int) -> list[int]:
    count = min(count, len(rows))
    return [rows[(2 * place + 1) * len(rows) // (2 * count)] for place in range(count)]
