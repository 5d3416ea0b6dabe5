"""Evaluations and scores in other programs' formats: CSV, a LaTeX row, TREC files, a NumPy matrix with its ids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vtr.errors import InputError
from vtr.evaluation.formats import csv_rows, latex_head, latex_row
from vtr.evaluation.metrics import DIRECTIONS, RSUM_AT, BothWays
from vtr.evaluation.protocols import Rules
from vtr.evaluation.ranks import VIDEO_TO_TEXT
from vtr.evaluation.results import Evaluation
from vtr.evaluation.scores import ScoreSource, row_blocks
from vtr.evaluation.subject import Subject
from vtr.evaluation.table import as_text
from vtr.evaluation.trec import write_qrels, write_run
from vtr.files import atomic_file, write_text
from vtr.types import RetrievalMetrics

Format = Literal["table", "json", "csv", "latex"]
DEPTH = 100
COLUMN_VALUES = 1 << 24
"""Scores of columns that are computed together: each time, all texts' embeddings are unfolded."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What else to write.

    Attributes:
        trec: folder of TREC run and qrels files, None for none.
        trec_depth: how many items of a query go into a run file.
        save_scores: .npy file of the scores as they are, before any post-processing; None for none.
    """

    trec: Path | None = None
    trec_depth: int = DEPTH
    save_scores: Path | None = None

    def __post_init__(self) -> None:
        if self.save_scores is not None and self.save_scores.suffix != ".npy":
            raise InputError(f"{self.save_scores} ends in '{self.save_scores.suffix}', .npy was expected. Name it so.")

    def check(self, rules: Rules) -> None:
        """Raise `InputError` where TREC files would hold another ranking than the one that is evaluated."""
        if self.trec is not None and rules.video_to_text != VIDEO_TO_TEXT[0]:
            raise InputError(
                f"--trec writes rankings of captions, and {rules.video_to_text} ranks videos. Leave one of them out."
            )


def render(evaluation: Evaluation, form: Format, name: str, *, breakdown: bool = False) -> str:
    """Return an evaluation as text.

    Args:
        evaluation: what to show.
        form: the format.
        name: of the run, for the LaTeX row.
        breakdown: show parts of the queries in the table too; JSON and CSV always hold them.
    """
    if form == "json":
        return json.dumps(evaluation.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    if form == "csv":
        return as_csv(evaluation)
    if form == "latex":
        return as_latex(evaluation, name)
    return as_text(evaluation, breakdown=breakdown)


def as_csv(evaluation: Evaluation) -> str:
    """Return all metrics as a CSV: one row for each direction of the whole, of chance, of each slice and ablation."""
    rows = [*_both("all", "all queries", evaluation.metrics), *_both("chance", "a random order", evaluation.chance)]
    for one in evaluation.slices:
        rows += _ways(one.group, one.label, (one.text_to_video, one.video_to_text))
    for some in evaluation.ablation:
        rows += _both("ablation", some.label, some.metrics)
    if evaluation.index is not None:
        through = _both("index", evaluation.index.kind, evaluation.index.metrics)  # it always ranks all captions
        rows += [({**facts, "video_to_text": VIDEO_TO_TEXT[0]}, figures) for facts, figures in through]
    protocol = evaluation.protocol
    facts = {
        "split": evaluation.coverage.split,
        "part": evaluation.coverage.part,
        "coverage": str(evaluation.coverage),
        "protocol": protocol.name,
        "ties": protocol.ties,
        "video_to_text": protocol.video_to_text_rule,
        "post_processing": protocol.post_processing,
    }
    return csv_rows([({**facts, **of_row}, figures) for of_row, figures in rows])


_Row = tuple[Mapping[str, str], Mapping[str, float]]


def _both(group: str, label: str, metrics: BothWays) -> Iterator[_Row]:
    return _ways(group, label, (metrics.text_to_video, metrics.video_to_text))


def _ways(group: str, label: str, ways: tuple[RetrievalMetrics | None, RetrievalMetrics | None]) -> Iterator[_Row]:
    for found in ways:
        if found is None:
            continue
        figures: dict[str, float | None] = {f"R@{at}": recall for at, recall in found.recall.items()}
        figures |= {"MedR": found.median_rank, "MeanR": found.mean_rank, "geometric_mean": found.geometric_mean}
        figures |= {"MRR": found.mean_reciprocal_rank, "nDCG@10": found.ndcg_at_10, "mAP": found.mean_average_precision}
        figures |= {"queries": found.num_queries, "gallery": found.num_items, "tied_queries": found.num_tied}
        facts = {"group": group, "label": label, "direction": found.direction}
        yield facts, {name: value for name, value in figures.items() if value is not None}


def as_latex(evaluation: Evaluation, name: str) -> str:
    """Return a row of a LaTeX table, below comments that say what is in its columns and under which rules."""
    heads, figures = [], []
    for direction in DIRECTIONS:
        found: RetrievalMetrics = getattr(evaluation.metrics, direction)
        way = "t2v" if direction == "text_to_video" else "v2t"
        heads += [f"{way} {head}" for head in (*(f"R@{at}" for at in RSUM_AT), "MedR", "MeanR")]
        figures += [*(found.recall[at] for at in RSUM_AT), found.median_rank, found.mean_rank]
    lines = (
        f"% {evaluation.title}",
        latex_head([*heads, "RSUM"]),
        latex_row(name, [*figures, evaluation.metrics.rsum]),
    )
    return "\n".join(lines)


def write_trec(folder: Path, subject: Subject, t2v: ScoreSource, v2t: ScoreSource, depth: int = DEPTH) -> list[Path]:
    """Write run and qrels of both directions, text_to_video.run and so on, and return their paths.

    Args:
        folder: where to.
        subject: the texts and videos.
        t2v, v2t: scores [T, V] to rank videos by, and to rank texts by.
        depth: how many items of a query go into a run file.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    right, texts, videos = subject.right, subject.text_ids, tuple(video.id for video in subject.videos)
    paths = [folder / f"{direction}.{kind}" for direction in DIRECTIONS for kind in ("run", "qrels")]
    asked = subject.right.video_queries
    write_run(paths[0], (block for _, block in t2v.blocks()), texts, videos, depth=depth)
    write_qrels(paths[1], right.texts, right.videos, texts, videos)
    columns = (v2t.columns(asked[rows]) for rows in row_blocks(len(asked), len(texts), COLUMN_VALUES))
    write_run(paths[2], columns, [videos[column] for column in asked], texts, depth=depth)
    order = np.lexsort((right.texts, right.videos))
    write_qrels(paths[3], right.videos[order], right.texts[order], videos, texts)
    return paths


def save_scores(path: Path, subject: Subject, scores: ScoreSource) -> list[Path]:
    """Write scores [T, V] as a .npy file, the ids of its rows and columns beside it, and return their paths.

    Raises:
        WorkspaceError: the file cannot be written.
    """
    ids = {"queries": subject.text_ids, "videos": tuple(video.id for video in subject.videos)}
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(scores.dtype), "fortran_order": False, "shape": scores.shape}
        np.lib.format.write_array_header_2_0(stream, header)
        for _, block in scores.blocks():
            stream.write(np.ascontiguousarray(block, scores.dtype).tobytes())
    paths = [path]
    for what, names in ids.items():
        paths.append(path.with_suffix(f".{what}.txt"))
        write_text(paths[-1], "".join(f"{name}\n" for name in names))
    return paths
