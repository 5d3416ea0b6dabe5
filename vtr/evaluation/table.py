"""Evaluations as tables, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vtr.evaluation.metrics import RECALL_AT, RSUM_AT, BothWays
from vtr.evaluation.results import Evaluation
from vtr.types import RetrievalMetrics

WORDS = {"text_to_video": "text to video", "video_to_text": "video to text"}


@dataclass(frozen=True, slots=True)
class Table:
    """A title, column heads and rows of cells; the first cell of a row is its head."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        lines = align((self.heads, *self.rows))
        return "\n".join([self.title, lines[0], "-" * len(lines[0]), *lines[1:]])


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines of text: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(_cells(row, widths)).rstrip() for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]


def metric_table(evaluation: Evaluation) -> Table:
    """Return R@K, MedR and MeanR of both directions, each with what chance would get, the counts, and RSUM."""
    rows = []
    for name in ("text_to_video", "video_to_text"):
        found: RetrievalMetrics = getattr(evaluation.metrics, name)
        chance: RetrievalMetrics = getattr(evaluation.chance, name)
        rows.append((WORDS[name], *_figures(found, 1), f"{found.num_queries:,}", f"{found.num_items:,}", ""))
        rows.append(("  chance", *_figures(chance, 2), "", "", ""))
    rows.append(_sum_row("both ways", evaluation.metrics, 1))
    rows.append(_sum_row("  chance", evaluation.chance, 2))
    recalls = (f"R@{at}" for at in RECALL_AT)
    return Table(
        f"{evaluation.coverage}; {evaluation.protocol.name}",
        ("", *recalls, "MedR", "MeanR", "queries", "gallery", "RSUM"),
        tuple(rows),
    )


def ablation_table(evaluation: Evaluation) -> Table | None:
    """Return the metrics with each expert alone and with each left out; None where there is only one expert."""
    if not evaluation.ablation:
        return None
    rows = [("all experts", "100 %", *_short(evaluation.metrics))]
    rows += [(some.label, f"{100 * some.share:.0f} %", *_short(some.metrics)) for some in evaluation.ablation]
    rows.append(("chance", "", *_short(evaluation.chance)))
    recalls = [f"{way} R@{at}" for way in ("t2v", "v2t") for at in RSUM_AT]
    heads = ("", "of videos", *recalls, "RSUM")
    return Table("Experts: the same model with one expert alone, and with one left out", heads, tuple(rows))


def as_text(evaluation: Evaluation) -> str:
    """Return the tables with all a reader needs to judge them."""
    protocol = evaluation.protocol
    parts = [
        str(metric_table(evaluation)),
        f"text to video: {protocol.text_to_video}\nvideo to text: {protocol.video_to_text}",
        *evaluation.notes,
        evaluation.agreement,
    ]
    if (ablation := ablation_table(evaluation)) is not None:
        parts.append(f"\n{ablation}")
    return "\n".join(parts)


def _figures(metrics: RetrievalMetrics, digits: int) -> tuple[str, ...]:
    recalls = (f"{metrics.recall[at]:.{digits}f}" for at in RECALL_AT)
    return (*recalls, f"{metrics.median_rank:.1f}", f"{metrics.mean_rank:.1f}")


def _short(both: BothWays) -> tuple[str, ...]:
    recalls = (f"{way.recall[at]:.1f}" for way in (both.text_to_video, both.video_to_text) for at in RSUM_AT)
    return (*recalls, f"{both.rsum:.1f}")


def _sum_row(head: str, both: BothWays, digits: int) -> tuple[str, ...]:
    return (head, *[""] * (len(RECALL_AT) + 4), f"{both.rsum:.{digits}f}")
