"""The pages of a run and of a sweep: HTML that needs nothing outside itself."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources

import jinja2
from markupsafe import Markup

from vtr.evaluation.curves import Curve
from vtr.evaluation.results import Evaluation, Example
from vtr.evaluation.table import (
    Table,
    ablation_table,
    breakdown_tables,
    check_table,
    index_in_words,
    index_table,
    mean_table,
    metric_table,
    notes,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """One video on the page.

    Attributes:
        label: "1.", or "the right answer".
        score: its score, None where it was not among the best.
        picture: a `data:` URI, or None.
        right: whether it is the right answer.
    """

    label: str
    video_id: str
    score: float | None
    picture: str | None
    right: bool


@dataclass(frozen=True, slots=True)
class ShownExample:
    """One query with its results, and the right answer behind them where it is not among them."""

    text: str
    rank: str
    videos: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One evaluation on the page.

    Attributes:
        anchor: the section's id.
        stale: what to do when the evaluation is older than the model, "" otherwise.
    """

    anchor: str
    title: str
    evaluation: Evaluation
    notes: tuple[str, ...]
    metrics: Table
    means: Table
    checks: Table | None
    index: Table | None
    index_in_words: str
    breakdown: tuple[Table, ...]
    ablation: Table | None
    examples: tuple[ShownExample, ...]
    stale: str


@dataclass(frozen=True, slots=True)
class Page:
    """All that the report shows.

    Attributes:
        title: the run's name.
        facts: what was trained on what, in words.
        missing: pieces that are not there yet, with the command that makes them.
        config: the training config, as YAML.
        versions: library -> version.
    """

    title: str
    facts: Mapping[str, str]
    missing: tuple[str, ...]
    curves: tuple[Curve, ...]
    sections: tuple[Section, ...]
    config: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing on a sweep's page.

    Attributes:
        caption: what it shows.
        description: the same with its end points, for those who do not see it.
        png: the drawing.
    """

    caption: str
    description: str
    png: bytes

    @property
    def uri(self) -> str:
        """The drawing as a `data:` URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True, slots=True)
class SweepPage:
    """All that a sweep's page shows.

    Attributes:
        title: the sweep's name.
        words: what the tables mean.
        failed: runs that failed, and how.
        config: the sweep's config and the training config, as YAML.
        versions: library -> version.
    """

    title: str
    tables: tuple[Table, ...]
    words: tuple[str, ...]
    failed: tuple[str, ...]
    pictures: tuple[Picture, ...]
    config: str
    versions: Mapping[str, str]


def section(name: str, evaluation: Evaluation, picture_of: Callable[[str], str | None], *, stale: str = "") -> Section:
    """Return an evaluation as a section.

    Args:
        name: the result's file name, "full-test".
        evaluation: what to show.
        picture_of: video id -> `data:` URI or None.
        stale: what to do when the evaluation is older than the model.
    """
    return Section(
        anchor=name,
        title=evaluation.title,
        evaluation=evaluation,
        notes=notes(evaluation),
        metrics=metric_table(evaluation),
        means=mean_table(evaluation),
        checks=check_table(evaluation),
        index=index_table(evaluation),
        index_in_words="" if evaluation.index is None else index_in_words(evaluation.index),
        breakdown=tuple(breakdown_tables(evaluation)),
        ablation=ablation_table(evaluation),
        examples=tuple(_example(example, picture_of) for example in evaluation.examples),
        stale=stale,
    )


def _example(example: Example, picture_of: Callable[[str], str | None]) -> ShownExample:
    videos = [
        Shown(f"{place}.", video_id, score, picture_of(video_id), video_id == example.video_id)
        for place, (video_id, score) in enumerate(zip(example.video_ids, example.scores, strict=True), 1)
    ]
    if not any(video.right for video in videos):
        answer = example.video_id
        videos.append(Shown(f"{example.rank:g}.", answer, None, picture_of(answer), True))
    rank = "right answer first" if example.rank == 1 else f"right answer at rank {example.rank:g}"
    return ShownExample(example.text, rank, tuple(videos))


def render(page: Page) -> str:
    """Return the page as HTML. All text is escaped; only the drawings are put in as they are."""
    drawings = [(curve, Markup(curve.svg)) for curve in page.curves]
    return _environment().get_template("page.html").render(page=page, drawings=drawings)


def render_sweep(page: SweepPage) -> str:
    """Return a sweep's page as HTML. All text is escaped."""
    return _environment().get_template("sweep.html").render(page=page)


def _environment() -> jinja2.Environment:
    """Return what reads the templates beside this file."""

    def read(name: str) -> str:
        return resources.files("vtr.evaluation").joinpath(name).read_text(encoding="utf-8")

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
