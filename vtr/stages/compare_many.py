"""The compare stage for more than two runs: each against the first, corrected for how many there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from vtr.errors import InputError
from vtr.evaluation.confidence import Difference, holm
from vtr.evaluation.formats import csv_rows
from vtr.evaluation.seeds import REPORTED
from vtr.evaluation.table import Table
from vtr.stages.compare import SETTLED, Comparison

RSUM = ("both_ways", "RSUM")
_HEADS = ("", "t2v R@1", "R@5", "R@10", "v2t R@1", "R@5", "R@10", "RSUM", "difference", "95 %", "p", "p, Holm")


@dataclass(frozen=True)
class Comparisons:
    """Several evaluations against a first one, on the same queries.

    Attributes:
        pairs: the first and one of the others, each.
        p_values: of the difference in RSUM of each pair, corrected over the pairs.
    """

    pairs: tuple[Comparison, ...]
    p_values: tuple[float, ...]

    def __str__(self) -> str:
        one = self.pairs[0]
        rows = [(*_figures(one.names[0], one, lambda found: found.first), "", "", "", "")]
        for pair, corrected in zip(self.pairs, self.p_values, strict=True):
            rsum = _of(pair, RSUM)
            mark = " *" if corrected < SETTLED else "  "
            apart = (f"{rsum.difference:+.2f}", f"{rsum.low:+.2f} to {rsum.high:+.2f}")
            tested = (f"{_p_of_rsum(pair):.4f}", f"{corrected:.4f}{mark}")
            rows.append((*_figures(pair.names[1], pair, lambda found: found.second), *apart, *tested))
        return (
            f"{Table(one.title, _HEADS, tuple(rows))}\n"
            f"Difference: RSUM less that of {one.names[0]}. 95 % intervals: {one.samples:,} bootstrap draws of the "
            f"{one.num_videos:,} videos, each for itself. p: {one.permutations:,} random swaps with the first run, "
            f"video by video; Holm: corrected for looking at {len(self.pairs)} runs, * marks less than {SETTLED:g}. "
            "Both say how far the queries bear out a difference, not whether another seed of training would show it "
            "(`vtr sweep` does)."
        )

    def render(self, form: Literal["table", "json", "csv"]) -> str:
        """Return the comparisons as text."""
        if form == "json":
            pairs = [
                {"run": pair.names[1], "p_rsum_holm": corrected, "differences": [asdict(d) for d in pair.differences]}
                for pair, corrected in zip(self.pairs, self.p_values, strict=True)
            ]
            one = self.pairs[0]
            facts = {"title": one.title, "first": one.names[0], "num_videos": one.num_videos}
            drawn = {"num_queries": one.num_queries, "samples": one.samples, "permutations": one.permutations}
            return json.dumps({**facts, **drawn, "runs": pairs}, indent=1, ensure_ascii=False)
        if form == "csv":
            rows = zip(self.pairs, self.p_values, strict=True)
            return csv_rows([_csv_row(pair, corrected) for pair, corrected in rows])
        return str(self)


def compare_with_first(compared: Callable[[Path], Comparison], others: Sequence[Path]) -> Comparisons:
    """Compare a run with each of several others.

    Args:
        compared: compares the first run with another one.
        others: the other runs.

    Raises:
        InputError: a run is given twice, or see `vtr.stages.compare.compare_runs`.
    """
    if twice := sorted({str(path) for path in others if others.count(path) > 1}):
        raise InputError(f"{', '.join(twice)} is given twice; give each run once.")
    pairs = tuple(compared(path) for path in others)
    return Comparisons(pairs, tuple(holm([_p_of_rsum(pair) for pair in pairs])))


def _of(pair: Comparison, column: tuple[str, str]) -> Difference:
    (found,) = [one for one in pair.differences if (one.direction, one.metric) == column]
    return found


def _p_of_rsum(pair: Comparison) -> float:
    p_value = _of(pair, RSUM).p_value
    assert p_value is not None  # only MedR has none
    return p_value


def _figures(name: str, pair: Comparison, value: Callable[[Difference], float]) -> tuple[str, ...]:
    return (name, *(f"{value(_of(pair, column)):.2f}" for column in REPORTED))


def _csv_row(pair: Comparison, corrected: float) -> tuple[dict[str, str], dict[str, float]]:
    rsum = _of(pair, RSUM)
    figures = {"first": rsum.first, "second": rsum.second, "difference": rsum.difference}
    figures |= {"low": rsum.low, "high": rsum.high}
    names = {"first_run": pair.names[0], "second_run": pair.names[1], "metric": "RSUM"}
    return names, {**figures, "p": _p_of_rsum(pair), "p_holm": corrected}
