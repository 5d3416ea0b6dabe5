"""The compare stage: whether two runs differ on the same queries by more than chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vtr.errors import InputError
from vtr.evaluation.confidence import Difference, QueryRanks, compare
from vtr.evaluation.formats import csv_rows
from vtr.evaluation.metrics import DIRECTIONS, Direction
from vtr.evaluation.postprocess import QB_NORM
from vtr.evaluation.protocols import Rules
from vtr.evaluation.query_table import QueryTable, read_queries
from vtr.evaluation.table import WORDS, Table
from vtr.files import read_json
from vtr.retrieval.galleries import embed_and_index
from vtr.stages.evaluate import evaluate, evaluation_inputs
from vtr.types import Part
from vtr.workspace import Run

TABLE_SUFFIX = ".parquet"
SETTLED = 0.05
"""Below this p-value a difference is marked."""


@dataclass(frozen=True)
class Comparison:
    """Two evaluations on the same queries.

    Attributes:
        names: of the two.
        title: what was evaluated, under which rules.
        num_videos, num_queries: how much the differences rest on.
        differences: one a metric.
        samples, permutations: how often was drawn for the intervals and the p-values.
    """

    names: tuple[str, str]
    title: str
    num_videos: int
    num_queries: int
    differences: tuple[Difference, ...]
    samples: int
    permutations: int

    def __str__(self) -> str:
        first, second = self.names
        rows = tuple(_row(one) for one in self.differences)
        table = Table(f"{self.title}\n  first: {first}\n  second: {second}", _HEADS, rows)
        return (
            f"{table}\n"
            f"Difference: second minus first; for MedR and MeanR less is better. 95 % intervals: {self.samples:,} "
            f"bootstrap draws of the {self.num_videos:,} videos. p: {self.permutations:,} random swaps of the two runs "
            f"video by video; * marks p < {SETTLED:g}, before any correction for looking at {len(rows)} "
            "metrics. Both say how far the queries bear out a difference, not whether another seed of training would "
            "show it."
        )

    def render(self, form: Literal["table", "json", "csv"]) -> str:
        """Return the comparison as text."""
        if form == "json":
            content = asdict(self) | {
                "differences": [asdict(d) | {"difference": d.difference} for d in self.differences]
            }
            return json.dumps(content, indent=1, ensure_ascii=False)
        if form == "csv":
            return csv_rows([_csv_row(self.names, one) for one in self.differences])
        return str(self)


_HEADS = ("", "first", "second", "difference", "95 %", "p")


def _row(one: Difference) -> tuple[str, ...]:
    digits = 4 if one.metric == "MRR" else 1 if one.metric in ("MedR", "MeanR") else 2
    p = "" if one.p_value is None else f"{one.p_value:.4f}{' *' if one.p_value < SETTLED else '  '}"
    between = f"{one.low:+.{digits}f} to {one.high:+.{digits}f}"
    values = (f"{one.first:.{digits}f}", f"{one.second:.{digits}f}", f"{one.difference:+.{digits}f}")
    return (f"{WORDS.get(one.direction, 'both ways')} {one.metric}", *values, between, p)


def _csv_row(names: tuple[str, str], one: Difference) -> tuple[dict[str, str], dict[str, float]]:
    facts = {"first_run": names[0], "second_run": names[1], "direction": one.direction, "metric": one.metric}
    figures = {"first": one.first, "second": one.second, "difference": one.difference, "low": one.low, "high": one.high}
    return facts, figures if one.p_value is None else {**figures, "p": one.p_value}


def compare_runs(
    first: Path,
    second: Path,
    split: str | None = None,
    part: Part | None = None,
    *,
    rules: Rules | None = None,
    device: str = "auto",
    available_only: bool = False,
    samples: int = 1000,
    permutations: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two runs, or two tables of ranks, on the same queries. Runs are evaluated where that is missing or stale.

    Args:
        first, second: runs, or *.ranks.parquet files that `vtr evaluate` wrote.
        split, part: what to evaluate, for runs; by default what the first run is evaluated on.
        rules: the rules to evaluate runs under, and those that tables must be of; None for the default ones, and any.
        device, available_only: see `vtr.stages.evaluate.evaluate`.
        samples, permutations, seed: see `vtr.evaluation.confidence.compare`.

    Raises:
        InputError: the two were evaluated on different queries, galleries or rules.
        WorkspaceError: a run cannot be evaluated.
    """
    one = _table(first, split, part, rules or Rules(), device, available_only)
    other = _table(second, split or one.split, part or one.part, rules or Rules(), device, available_only)
    for path, table in ((first, one), (second, other)):
        _check_asked(path, table, split, part, rules)
    ranks = aligned([(first, one), (second, other)])
    differences = compare(ranks[0], ranks[1], samples=samples, permutations=permutations, seed=seed)
    return Comparison(
        (str(first), str(second)),
        f"{one.split} {one.part}; {one.protocol.title}",
        len(np.unique(np.concatenate([queries.videos for queries in ranks[0]]))),
        len(one.query_ids["text_to_video"]),
        tuple(differences),
        samples,
        permutations,
    )


def aligned(tables: Sequence[tuple[Path, QueryTable]]) -> list[tuple[QueryRanks, QueryRanks]]:
    """Return the ranks of several evaluations, text queries and video queries, all in the order of the first's.

    Raises:
        InputError: they are of other queries, galleries or rules than the first.
    """
    first, one = tables[0]
    for path, table in tables[1:]:
        _check_same(first, one, path, table)
    rows = {video_id: row for row, video_id in enumerate(sorted({v for d in DIRECTIONS for v in one.video_ids[d]}))}
    return [_ranks(table, one, rows) for _, table in tables]


def _table(
    path: Path, split: str | None, part: Part | None, rules: Rules, device: str, available_only: bool
) -> QueryTable:
    if path.suffix == TABLE_SUFFIX:
        return read_queries(path)  # what was asked for is held against it by `_check_asked`
    run = Run.open(path)
    indexed = embed_and_index(run, split, part, device=device, available_only=available_only)
    result = run.evaluation / f"{indexed.split}-{indexed.part}{rules.suffix}.json"
    queries = result.with_suffix(".ranks.parquet")
    there = result.exists() and queries.exists() and rules.post != QB_NORM.name  # a bank has inputs of its own
    if there and read_json(result).get("inputs") == evaluation_inputs(run, indexed):
        return read_queries(queries)
    summary = evaluate(run, indexed.split, indexed.part, rules=rules, device=device, available_only=available_only)
    return read_queries(summary.queries)


def _check_asked(path: Path, table: QueryTable, split: str | None, part: Part | None, rules: Rules | None) -> None:
    """Raise `InputError` where a table is not what the options ask for."""
    if (split or table.split, part or table.part) != (table.split, table.part):
        raise InputError(f"{path} is of {table.split} {table.part}, which --split and --part contradict.")
    asked = None if rules is None else (rules.ties, rules.video_to_text, rules.post_in_words)
    protocol = table.protocol
    if asked not in (None, (protocol.ties, protocol.video_to_text_rule, protocol.post_processing)):
        raise InputError(
            f"{path} was evaluated under other rules than those asked for ({protocol.title}). Leave the options out "
            "or evaluate again."
        )


def _check_same(first: Path, one: QueryTable, second: Path, other: QueryTable) -> None:
    if (one.split, one.part) != (other.split, other.part):
        raise InputError(
            f"{first} is of {one.split} {one.part}, {second} of {other.split} {other.part}. Evaluate both on the same "
            "--split and --part."
        )
    if one.protocol != other.protocol:
        raise InputError(
            f"{first} and {second} were evaluated under different protocols. First: {_in_words(one)}. Second: "
            f"{_in_words(other)}. Evaluate both under the same rules and with the same videos."
        )
    for direction in DIRECTIONS:
        if odd := sorted(set(one.query_ids[direction]) ^ set(other.query_ids[direction])):
            raise InputError(
                f"{first} and {second} differ in {len(odd)} queries, {WORDS[direction]}, for example {odd[0]}. "
                "Evaluate both with the same videos."
            )
    if one.items != other.items:
        raise InputError(
            f"{first} and {second} have the same queries, and ranked other videos or captions. Evaluate both with the "
            "same videos."
        )


def _in_words(table: QueryTable) -> str:
    protocol = table.protocol
    return f"{protocol.title}; {protocol.text_to_video}; {protocol.video_to_text}"


def _ranks(table: QueryTable, like: QueryTable, rows: dict[str, int]) -> tuple[QueryRanks, QueryRanks]:
    """Return a table's ranks in the order of another's queries."""

    def of(direction: Direction) -> QueryRanks:
        place = {query_id: n for n, query_id in enumerate(table.query_ids[direction])}
        order = np.asarray([place[query_id] for query_id in like.query_ids[direction]])
        videos = np.asarray([rows[video_id] for video_id in like.video_ids[direction]])
        return QueryRanks(table.ranks[direction][order], videos)

    return of("text_to_video"), of("video_to_text")
