"""What the runs of a sweep come to: one line a variant, as JSON, CSV, Markdown, figures and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from vtr import __version__
from vtr.config import dump
from vtr.errors import InputError
from vtr.evaluation.confidence import draw_values
from vtr.evaluation.curves import read_log
from vtr.evaluation.formats import csv_rows, markdown_table
from vtr.evaluation.page import Picture, SweepPage, render_sweep
from vtr.evaluation.query_table import QueryTable, read_queries
from vtr.evaluation.seeds import REPORTED, Floats, OverSeeds, SeededDifference, paired_differences, reported
from vtr.evaluation.sweep_figures import Figure, Point, draw_png, epoch_figures, grid_figures
from vtr.evaluation.table import Table
from vtr.files import write_bytes, write_json, write_text
from vtr.stages.compare import aligned
from vtr.stages.sweep_plan import Chosen, Plan, PlannedRun, label
from vtr.stages.sweep_runs import SweepFolder
from vtr.workspace import FORMAT, versions

SAMPLES = 1000
"""Bootstrap draws of the videos."""

SHORT = {"text_to_video": "t2v", "video_to_text": "v2t"}
METRICS = [f"{SHORT[direction]} {metric}" if direction in SHORT else metric for direction, metric in REPORTED]


@dataclass(frozen=True)
class Line:
    """One variant.

    Attributes:
        name, chosen: the variant, and what its search chose.
        seeds: those of its runs that are done.
        validation: best validation RSUM of each seed; empty where the split has no validation part.
        values: one a seed, the values of `REPORTED`.
        differences: to the baseline, one of each of `REPORTED`; None for the baseline and where there is no pair.
        paired: how many seeds the differences rest on.
        note: why there are no differences, "" where there are.
    """

    name: str
    chosen: Chosen
    seeds: tuple[int, ...]
    validation: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    differences: tuple[SeededDifference, ...] | None = None
    paired: int = 0
    note: str = ""

    def over_seeds(self) -> list[OverSeeds]:
        """Return mean and deviation of each of `REPORTED`."""
        return [OverSeeds.of(list(column)) for column in zip(*self.values, strict=True)]


@dataclass(frozen=True, eq=False)
class _Measured:
    """A variant's finished runs.

    Attributes:
        path, table: of the first of them; the others have the same queries.
        observed, drawn: [S, 7] and [S, N, 7], `REPORTED` as it is and when the videos are drawn anew.
    """

    runs: Sequence[PlannedRun]
    path: Path
    table: QueryTable
    observed: Floats
    drawn: Floats


@dataclass(frozen=True)
class Searched:
    """One run of a search, and whether its values were chosen."""

    name: str
    chosen: Chosen
    validation: float
    best: bool


@dataclass(frozen=True)
class Results:
    """A sweep's results.

    Attributes:
        title: what was reported on, under which rules.
        baseline: what the variants are compared with.
        seeds: that were asked for.
        num_videos: of the reported part.
        lines: the variants that have a finished run.
        searched: the runs of the searches.
    """

    title: str
    baseline: str
    seeds: tuple[int, ...]
    num_videos: int
    lines: tuple[Line, ...]
    searched: tuple[Searched, ...] = field(default=())

    @property
    def tables(self) -> list[Table]:
        """The figures of the variants, their differences to the baseline, and the searches."""
        heads = ("", "chosen", "seeds", "validation RSUM", *METRICS, "difference", "95 %")
        tables = [Table(self.title, heads, tuple(_row(line) for line in self.lines))]
        compared = [(line.name, line.differences) for line in self.lines if line.differences is not None]
        if compared:
            rows = tuple((name, *(_between(one) for one in differences)) for name, differences in compared)
            tables.append(Table(f"Less {self.baseline}, mean over seeds and 95 % interval", ("", *METRICS), rows))
        if self.searched:
            cells = tuple((s.name, label(s.chosen), f"{s.validation:.1f}", "chosen" * s.best) for s in self.searched)
            tables.append(Table("Searched, with one seed", ("", "values", "validation RSUM", ""), cells))
        return tables

    @property
    def words(self) -> list[str]:
        """What the figures mean."""
        chosen = " What was searched was chosen by validation RSUM alone." if self.searched else ""
        lines = [
            f"Each figure is the mean over the seeds ({', '.join(map(str, self.seeds))}) ± their standard deviation."
            f"{chosen}",
            f"Difference: less {self.baseline}, run by run with the same seed; in the first table of RSUM. The 95 % "
            "intervals cover both other seeds and other queries: the variance of the mean over seeds is added to that "
            f"of {SAMPLES:,} bootstrap draws of the {self.num_videos:,} videos, and Student's t allows for few seeds. "
            "They do not cover another gallery, other training videos or another search, and are not corrected for the "
            "number of variants.",
        ]
        if any(line.paired == 1 for line in self.lines):
            lines.append("With one pair of seeds an interval covers other queries only, not another seed of training.")
        lines += [f"{line.name}: {line.note}" for line in self.lines if line.note]
        partly = [line.name for line in self.lines if len(line.seeds) < len(self.seeds)]
        if partly:
            lines.append(f"Not all seeds are done: {', '.join(partly)}.")
        return lines

    def __str__(self) -> str:
        if not self.lines:
            return "no run is done"
        return "\n\n".join([str(self.tables[0]), *self.words])


def collect(plan: Plan, folder: SweepFolder, chosen: Mapping[str, Chosen]) -> Results:
    """Return the results of the runs that are trained and evaluated.

    Args:
        plan: what was to be trained.
        folder: where the runs are.
        chosen: variant -> what its search chose, where it has one.
    """
    done = done_runs(plan, folder, chosen)
    measured = {name: _measure(plan, folder, runs) for name, runs in done.items() if runs}
    baseline = measured.get(plan.config.baseline)
    lines = [_line(folder, name, found, plan.config.baseline, baseline) for name, found in measured.items()]
    searched = [
        Searched(run.variant, run.chosen, folder.validation_rsum(run) or 0.0, run.chosen == chosen.get(run.variant))
        for run in plan.search_runs()
        if folder.is_trained(run)
    ]
    reference = baseline or next(iter(measured.values()), None)
    title, num_videos = "", 0
    if reference is not None:
        table = reference.table
        title = f"{table.split} {table.part}; {table.protocol.title}"
        num_videos = len(set(chain.from_iterable(table.video_ids.values())))
    return Results(title, plan.config.baseline, plan.config.seeds, num_videos, tuple(lines), tuple(searched))


def done_runs(plan: Plan, folder: SweepFolder, chosen: Mapping[str, Chosen]) -> dict[str, list[PlannedRun]]:
    """Return each variant's runs that are trained and evaluated."""
    done = {}
    for name, variant in plan.variants.items():
        if not variant.choices or name in chosen:
            runs = plan.seed_runs(variant, chosen.get(name, {}))
            reported_on = plan.report_part(runs[0].config)
            done[name] = [run for run in runs if folder.is_trained(run) and folder.is_evaluated(run, *reported_on)]
    return done


def _measure(plan: Plan, folder: SweepFolder, runs: Sequence[PlannedRun]) -> _Measured:
    tables = []
    for run in runs:
        path = folder.ranks(run, *plan.report_part(run.config))
        tables.append((path, read_queries(path)))
    observed, drawn = draw_values(aligned(tables), samples=SAMPLES)
    return _Measured(runs, *tables[0], reported(observed), reported(drawn))


def _line(folder: SweepFolder, name: str, own: _Measured, baseline_name: str, baseline: _Measured | None) -> Line:
    rsums = [folder.validation_rsum(run) for run in own.runs]
    line = Line(
        name,
        own.runs[0].chosen,
        tuple(run.seed for run in own.runs),
        tuple(rsum for rsum in rsums if rsum is not None),
        tuple(tuple(row) for row in own.observed.tolist()),
    )
    if name == baseline_name:
        return line
    if baseline is None:
        return replace(line, note=f"not compared, as no run of {baseline_name} is done")
    place_of = {run.seed: place for place, run in enumerate(baseline.runs)}
    pairs = [(place, place_of[run.seed]) for place, run in enumerate(own.runs) if run.seed in place_of]
    if not pairs:
        return replace(line, note=f"not compared, as no seed is done both here and of {baseline_name}")
    try:
        aligned([(baseline.path, baseline.table), (own.path, own.table)])
    except InputError as error:
        return replace(line, note=f"not compared: {error}")
    mine, others = (list(places) for places in zip(*pairs, strict=True))
    found = paired_differences(
        own.observed[mine] - baseline.observed[others],
        own.drawn[mine] - baseline.drawn[others],  # the same queries are drawn alike
    )
    return replace(line, differences=tuple(found), paired=len(pairs))


def _row(line: Line) -> tuple[str, ...]:
    validation = _spread(OverSeeds.of(list(line.validation))) if line.validation else ""
    figures = [_spread(one) for one in line.over_seeds()]
    apart = (
        ("", "")
        if line.differences is None
        else (
            f"{line.differences[-1].difference:+.1f}",
            f"{line.differences[-1].low:+.1f} to {line.differences[-1].high:+.1f}",
        )
    )
    return (line.name, label(line.chosen), str(len(line.seeds)), validation, *figures, *apart)


def _spread(one: OverSeeds) -> str:
    return f"{one.mean:.1f}" if one.deviation is None else f"{one.mean:.1f} ± {one.deviation:.1f}"


def _between(one: SeededDifference) -> str:
    return f"{one.difference:+.1f} ({one.low:+.1f} to {one.high:+.1f})"


def write_results(
    results: Results, plan: Plan, folder: SweepFolder, chosen: Mapping[str, Chosen], failures: Sequence[str]
) -> list[Path]:
    """Write results.json, results.csv, results.md, the figures and report.html; return where they are."""
    root = folder.root
    content = _content(results, plan, failures)
    write_json(root / "results.json", content)
    write_text(root / "results.csv", csv_rows([_csv_row(line) for line in results.lines]))
    tables = [f"**{table.title}**\n\n{markdown_table(table.heads, table.rows)}" for table in results.tables]
    write_text(root / "results.md", "\n\n".join([*tables, *results.words]) + "\n")
    pictures = {}
    for figure in figures(results, plan, folder, chosen):
        pictures[f"{figure.name}.png"] = Picture(figure.caption, figure.description, draw_png(figure))
        write_bytes(root / f"{figure.name}.png", pictures[f"{figure.name}.png"].png)
    page = SweepPage(
        title=root.resolve().name,
        tables=tuple(results.tables),
        words=tuple(results.words),
        failed=tuple(failures),
        pictures=tuple(pictures.values()),
        config=f"{dump(plan.config)}---\n{dump(plan.base)}",
        versions=versions(),
    )
    write_text(root / "report.html", render_sweep(page))
    return [root / name for name in ("results.json", "results.csv", "results.md", *pictures, "report.html")]


def figures(results: Results, plan: Plan, folder: SweepFolder, chosen: Mapping[str, Chosen]) -> list[Figure]:
    """Return the figures that the runs' logs and the results hold the numbers of."""
    logs = {
        name: [read_log(folder.run(run) / "log.jsonl") for run in runs]
        for name, runs in done_runs(plan, folder, chosen).items()
        if runs
    }
    rsums = {line.name: [row[-1] for row in line.values] for line in results.lines}
    points = [
        Point(plan.variants[name].line, plan.variants[name].point, OverSeeds.of(found)) for name, found in rsums.items()
    ]
    return [*epoch_figures(logs), *grid_figures(points)]


def _content(results: Results, plan: Plan, failures: Sequence[str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "vtr": __version__,
        "title": results.title,
        "num_videos": results.num_videos,
        "baseline": results.baseline,
        "metrics": METRICS,
        "variants": [_variant(line) for line in results.lines],
        "searched": [asdict(one) for one in results.searched],
        "words": results.words,
        "failed": list(failures),
        "config": plan.config.model_dump(mode="json"),
        "train": plan.base.model_dump(mode="json"),
        "versions": versions(),
    }


def _variant(line: Line) -> dict[str, Any]:
    validation = asdict(OverSeeds.of(list(line.validation))) | {"by_seed": line.validation} if line.validation else None
    columns = zip(METRICS, line.over_seeds(), zip(*line.values, strict=True), strict=True)
    differences = None
    if line.differences is not None:
        differences = {name: asdict(one) for name, one in zip(METRICS, line.differences, strict=True)}
    return {
        "name": line.name,
        "chosen": dict(line.chosen),
        "seeds": line.seeds,
        "validation_rsum": validation,
        "report": {name: asdict(one) | {"by_seed": by_seed} for name, one, by_seed in columns},
        "paired_seeds": line.paired,
        "differences": differences,
        "note": line.note,
    }


def _csv_row(line: Line) -> tuple[dict[str, str], dict[str, float]]:
    figures: dict[str, float] = {"seeds": len(line.seeds)}
    named = [("validation RSUM", OverSeeds.of(list(line.validation)))] if line.validation else []
    for name, one in [*named, *zip(METRICS, line.over_seeds(), strict=True)]:
        figures[name] = one.mean
        if one.deviation is not None:
            figures[f"{name} deviation"] = one.deviation
    for name, apart in zip(METRICS, line.differences or (), strict=line.differences is not None):
        figures |= {f"{name} difference": apart.difference, f"{name} low": apart.low, f"{name} high": apart.high}
    return {"variant": line.name, "chosen": label(line.chosen)}, figures
