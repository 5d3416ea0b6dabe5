"""Evaluations as tables, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from vtr.evaluation.breakdown import CATEGORY, EXPERT, LENGTH, Slice
from vtr.evaluation.confidence import Interval
from vtr.evaluation.judge import DUPLICATES
from vtr.evaluation.metrics import DIRECTIONS, RECALL_AT, RSUM_AT, BothWays
from vtr.evaluation.ranks import VIDEO_TO_TEXT
from vtr.evaluation.results import Evaluation, IndexCheck
from vtr.types import RetrievalMetrics

WORDS = {"text_to_video": "text to video", "video_to_text": "video to text"}
PARTS_OF_QUERIES = (CATEGORY, LENGTH, EXPERT)
"""The groups of slices that only look closer; the others are checks that every reader needs."""


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
    """Return R@K, MedR and MeanR of both directions, with their intervals and what chance would get, and RSUM."""
    rows = []
    for name in DIRECTIONS:
        found: RetrievalMetrics = getattr(evaluation.metrics, name)
        chance: RetrievalMetrics = getattr(evaluation.chance, name)
        rows.append((WORDS[name], *_figures(found, 1), f"{found.num_queries:,}", f"{found.num_items:,}", ""))
        between = evaluation.intervals[name]
        bounds = (_bounds(between[metric]) for metric in (*(f"R@{at}" for at in RECALL_AT), "MedR", "MeanR"))
        rows.append(("  95 %", *bounds, "", "", ""))
        rows.append(("  chance", *_figures(chance, 2), "", "", ""))
    rows.append(_sum_row("both ways", f"{evaluation.metrics.rsum:.1f}"))
    rows.append(_sum_row("  95 %", _bounds(evaluation.intervals["both_ways"]["RSUM"])))
    rows.append(_sum_row("  chance", f"{evaluation.chance.rsum:.2f}"))
    recalls = (f"R@{at}" for at in RECALL_AT)
    return Table(evaluation.title, ("", *recalls, "MedR", "MeanR", "queries", "gallery", "RSUM"), tuple(rows))


def mean_table(evaluation: Evaluation) -> Table:
    """Return the metrics that sum up a whole list, and how many queries are tied."""
    heads = ("", "geometric mean of R@1,5,10", "MRR", "nDCG@10", "mAP", "tied queries")
    rows = []
    for name in DIRECTIONS:
        for label, both in ((WORDS[name], evaluation.metrics), ("  chance", evaluation.chance)):
            found: RetrievalMetrics = getattr(both, name)
            shares = (found.mean_reciprocal_rank, found.ndcg_at_10, found.mean_average_precision)
            cells = ("" if share is None else f"{share:.4f}" for share in shares)
            tied = f"{found.num_tied:,}" if both is evaluation.metrics else ""
            rows.append((label, f"{found.geometric_mean:.2f}", *cells, tied))
    return Table("The whole list", heads, tuple(rows))


def check_table(evaluation: Evaluation) -> Table | None:
    """Return the metrics without what might mislead, beside all of them; None where there is nothing of the kind."""
    checks = [one for one in evaluation.slices if one.group not in PARTS_OF_QUERIES]
    if not checks:
        return None
    rows = [("all queries, as above", *_both_short(evaluation.metrics.text_to_video, evaluation.metrics.video_to_text))]
    rows += [(_check_label(one), *_both_short(one.text_to_video, one.video_to_text)) for one in checks]
    return Table("Checks: the same scores, counted otherwise", _SLICE_HEADS, tuple(rows))


def _check_label(one: Slice) -> str:
    return "every video with the query's words" if one.group == DUPLICATES else f"shared sources: {one.label}"


def breakdown_tables(evaluation: Evaluation) -> list[Table]:
    """Return the metrics of some of the queries: by category, by words in the caption, by expert."""
    looked_closer = (one for one in evaluation.slices if one.group in PARTS_OF_QUERIES)
    return [_slice_table(group, list(slices)) for group, slices in groupby(looked_closer, lambda one: one.group)]


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


def index_table(evaluation: Evaluation) -> Table | None:
    """Return how the figures change through the index; None where an exact index gives the same, as it should."""
    index = evaluation.index
    if index is None or (index.exact and not index.num_differences):
        return None
    recalls = [f"R@{at}" for at in RECALL_AT]
    rows = []
    for name in DIRECTIONS:
        found: RetrievalMetrics = getattr(index.metrics, name)
        exact: RetrievalMetrics = getattr(evaluation.metrics, name)
        same_rule = name == DIRECTIONS[0] or evaluation.protocol.video_to_text_rule == VIDEO_TO_TEXT[0]
        head = WORDS[name] if same_rule else f"{WORDS[name]} ({VIDEO_TO_TEXT[0]})"
        rows.append((head, *_figures(found, 1), f"{index.recall_at_10[name]:.1f} %"))
        if same_rule:
            changes = [found.recall[at] - exact.recall[at] for at in RECALL_AT]
            changes += [found.median_rank - exact.median_rank, found.mean_rank - exact.mean_rank]
            rows.append(("  change", *(f"{change:+.1f}" for change in changes), ""))
    heads = ("", *recalls, "MedR", "MeanR", "of the best 10")
    return Table(f"Through the index ({index.kind})", heads, tuple(rows))


def index_in_words(index: IndexCheck) -> str:
    """Return whether the index agrees with the exact scores, what its lists tell, and how many candidates it takes."""
    told = " and ".join(f"{count:,} {WORDS[direction]}" for direction, count in index.told.items())
    needed = []
    for direction, quantiles in index.candidates.items():
        counts = ", ".join(f"{name} {count:,.0f}" for name, count in quantiles.items())
        needed.append(f"{WORDS[direction]}: {counts} ({index.sampled[direction]:,} queries)")
    return (
        f"{index} Ranks that its lists alone tell: {told}.\n"
        f"Candidates by inner product that hold the exact best 10: {'; '.join(needed)}."
    )


def as_text(evaluation: Evaluation, *, breakdown: bool = False) -> str:
    """Return the tables with all a reader needs to judge them.

    Args:
        evaluation: what to show.
        breakdown: also by category, by words in the caption and by expert.
    """
    protocol = evaluation.protocol
    parts = [
        str(metric_table(evaluation)),
        f"text to video: {protocol.text_to_video}\nvideo to text: {protocol.video_to_text}",
        *notes(evaluation),
        f"\n{mean_table(evaluation)}",
    ]
    parts += _optional(check_table(evaluation))
    if evaluation.index is not None:
        parts.append(f"\n{index_in_words(evaluation.index)}")
    parts += _optional(index_table(evaluation))
    parts += _optional(ablation_table(evaluation))
    if breakdown:
        parts += [f"\n{table}" for table in breakdown_tables(evaluation)]
    return "\n".join(parts)


def notes(evaluation: Evaluation) -> tuple[str, ...]:
    """Return what a reader must know, in sentences."""
    limits = evaluation.ceiling
    if not limits.share:
        return evaluation.notes
    recalls = ", ".join(f"R@{at} {recall:.1f}" for at, recall in limits.recall.items())
    return (
        *evaluation.notes,
        f"{limits.share:.1f} % of the queries are also, word for word, another video's query: by text alone, without "
        f"ties, no system passes {recalls}.",
    )


_SLICE_HEADS = (
    "",
    *(
        head
        for way in ("t2v", "v2t")
        for head in (f"{way} queries", *(f"{way} R@{at}" for at in RSUM_AT), f"{way} MedR")
    ),
)


def _slice_table(group: str, slices: Sequence[Slice]) -> Table:
    rows = ((one.label, *_both_short(one.text_to_video, one.video_to_text)) for one in slices)
    return Table(f"By {group}: some of the queries, the whole gallery", _SLICE_HEADS, tuple(rows))


def _both_short(t2v: RetrievalMetrics | None, v2t: RetrievalMetrics | None) -> Iterator[str]:
    for way in (t2v, v2t):
        if way is None:
            yield from [""] * (2 + len(RSUM_AT))
        else:
            yield f"{way.num_queries:,}"
            yield from (f"{way.recall[at]:.1f}" for at in RSUM_AT)
            yield f"{way.median_rank:.1f}"


def _optional(table: Table | None) -> list[str]:
    return [] if table is None else [f"\n{table}"]


def _figures(metrics: RetrievalMetrics, digits: int) -> tuple[str, ...]:
    recalls = (f"{metrics.recall[at]:.{digits}f}" for at in RECALL_AT)
    return (*recalls, f"{metrics.median_rank:.1f}", f"{metrics.mean_rank:.1f}")


def _bounds(interval: Interval) -> str:
    return f"{interval.low:.1f}-{interval.high:.1f}"


def _short(both: BothWays) -> tuple[str, ...]:
    recalls = (f"{way.recall[at]:.1f}" for way in (both.text_to_video, both.video_to_text) for at in RSUM_AT)
    return (*recalls, f"{both.rsum:.1f}")


def _sum_row(head: str, cell: str) -> tuple[str, ...]:
    return (head, *[""] * (len(RECALL_AT) + 4), cell)
