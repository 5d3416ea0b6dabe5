"""Anybody's similarity matrix, evaluated on a split of a workspace as our own runs are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtr.annotations.ids import read_ids
from vtr.annotations.splits import VALIDATION_NAMES
from vtr.annotations.tables import load_annotations, load_split
from vtr.coverage import Coverage
from vtr.errors import InputError, WorkspaceError, some
from vtr.evaluation.export import Outputs
from vtr.evaluation.judge import NUM_PASSES, judge
from vtr.evaluation.orders import check_shape, place_rows, read_scores
from vtr.evaluation.postprocess import POST_PROCESSING, QB_NORM
from vtr.evaluation.protocols import Rules
from vtr.evaluation.query_table import write_queries
from vtr.evaluation.results import Evaluation
from vtr.evaluation.scores import Array, MatrixScores, row_blocks
from vtr.evaluation.subject import Subject
from vtr.evaluation.table import as_text
from vtr.files import read_json, write_json
from vtr.progress import progress
from vtr.stages.evaluate import post_process, write_outputs
from vtr.types import Annotations, Part, Split
from vtr.workspace import FORMAT, Workspace, versions

ASSUMED = "A matrix does not say what its model was trained on: the split's own training list is assumed."


@dataclass(frozen=True, slots=True)
class Matrix:
    """A file of scores and how it is laid out.

    Attributes:
        path: .npy or .npz, see `vtr.evaluation.orders.read_scores`.
        query_order, video_order: files with the ids of its rows and columns; None for the split's own order.
        transposed: whether videos are in its rows.
    """

    path: Path
    query_order: Path | None = None
    video_order: Path | None = None
    transposed: bool = False


@dataclass(frozen=True)
class ScoresSummary:
    """The evaluation of a matrix, and what was written."""

    evaluation: Evaluation
    files: tuple[Path, ...]

    @property
    def written(self) -> str:
        """What was written, in words."""
        return "\n".join(f"written to {path}" for path in self.files)

    def __str__(self) -> str:
        return f"{as_text(self.evaluation)}\n\n{self.written}".rstrip()


def find_workspace(given: Path | None) -> Workspace:
    """Return the workspace that a matrix is evaluated on: the one given, the current folder, or the only one in it.

    Raises:
        WorkspaceError: there is none, or there are several.
    """
    if given is not None:
        return Workspace.open(given)
    here = Path()
    found = [here] if (here / "workspace.json").exists() else sorted(p.parent for p in here.glob("*/workspace.json"))
    if len(found) != 1:
        what = f"several workspaces ({', '.join(map(str, found))})" if found else "no workspace"
        raise WorkspaceError(
            f"the current folder holds {what}, and the split's queries are in one. Give it with --workspace; "
            "`vtr prepare msrvtt` makes MSR-VTT's, videos are not needed for it."
        )
    return Workspace.open(found[0])


def evaluate_scores(
    matrix: Matrix,
    workspace: Workspace,
    split: str,
    part: Part | None = None,
    *,
    rules: Rules | None = None,
    outputs: Outputs | None = None,
    out: Path | None = None,
    available_only: bool = False,
) -> ScoresSummary:
    """Evaluate a similarity matrix.

    Args:
        matrix: the file and its layout. Query ids are caption ids ("video7010#3"), or video ids where a video has one
            query.
        workspace: holds the split.
        split, part: whose queries and videos the matrix is of; by default test, or validation where there is no test.
        rules: tie rule, protocol and post-processing; None for the default ones.
        outputs: what else to write.
        out: folder for the JSON and the table of every query's ranks; None writes neither.
        available_only: go on although the order files leave out some of the split's queries or videos.

    Raises:
        InputError: the file is no matrix, its shape is not the split's, an order is no permutation, or scores are NaN.
        WorkspaceError: the split does not exist, or has no queries.
    """
    rules, outputs = rules or Rules(), outputs or Outputs()
    if rules.post == QB_NORM.name:
        names = ", ".join(name for name, known in POST_PROCESSING.items() if known.transductive)
        raise InputError(
            f"--post {rules.post} needs a bank of training queries, which a matrix does not hold. Choose from {names}, "
            "or evaluate a run."
        )
    outputs.check(rules)
    annotations, chosen = load_annotations(workspace), _split(workspace, split)
    part = part or ("test" if chosen.test or not chosen.validation else "validation")
    target = None if out is None else _target(out, f"{split}-{part}{rules.suffix}.json")
    scores = read_scores(matrix.path)
    if matrix.transposed:
        scores = scores.T
    rows, columns, subject = _placed(matrix, annotations, chosen, part, scores.shape, available_only)
    _refuse_nan(matrix, scores)
    ordered = _ordered(scores, rows, columns)
    with progress("evaluate", NUM_PASSES, "passes") as advance:
        t2v, v2t = post_process(ordered, rules)
        judged = judge(subject, t2v, v2t, rules, advance=advance)
    files: list[Path] = []
    if target is not None:
        files = [target, target.with_suffix(".ranks.parquet")]
        source = {"scores": str(matrix.path), "split": split, "part": part}
        head = {"format": FORMAT, "stage": "evaluate", "versions": versions(), **source}
        write_json(files[0], {**head, **judged.evaluation.as_json()})
        write_queries(files[1], subject, judged.t2v, judged.v2t, rules, judged.evaluation.protocol)
    files += write_outputs(outputs, subject, ordered, t2v, v2t)
    return ScoresSummary(judged.evaluation, tuple(files))


def _target(out: Path, name: str) -> Path:
    if out.is_file():
        raise InputError(f"{out} is a file, a folder for the results was expected. Choose another --out.")
    if (target := out / name).exists() and "checkpoint" in read_json(target):
        raise InputError(f"{target} is the evaluation of a run, which a matrix must not replace. Choose another --out.")
    return target


def _split(workspace: Workspace, name: str) -> Split:
    if name in VALIDATION_NAMES:
        raise InputError(
            f"--split {name} is the validation part of a run's split, and a matrix has no run. Name the split, and add "
            "--part validation."
        )
    return load_split(workspace, name)


def _placed(
    matrix: Matrix,
    annotations: Annotations,
    split: Split,
    part: Part,
    shape: tuple[int, ...],
    available_only: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64], Subject]:
    """Return the matrix's rows and columns in the split's order, and what they are."""
    videos = split.part(part)
    queries = split.queries(part, annotations)
    if not queries:
        raise WorkspaceError(
            f"{split.name} {part} has no query captions, evaluation needs them. Choose another --part or --split."
        )
    by_video: dict[str, list[str]] = {}
    for caption in queries:
        by_video.setdefault(caption.video_id, []).append(caption.id)
    aliases = {video_id: ids[0] for video_id, ids in by_video.items() if len(ids) == 1}
    query_ids = tuple(caption.id for caption in queries)
    name = f"{split.name} {part}"
    rows = _order(matrix.query_order, query_ids, aliases, "queries", available_only)
    columns = _order(matrix.video_order, videos, {}, "videos", available_only)
    check_shape(shape, int((rows >= 0).sum()), int((columns >= 0).sum()), source=str(matrix.path), split=name)
    there = [video_id for video_id, column in zip(videos, columns, strict=True) if column >= 0]
    gallery = frozenset(there)
    subject = Subject.of(
        annotations,
        Coverage(split.name, part, len(there), len(videos)),
        [caption_id for caption_id, row in zip(query_ids, rows, strict=True) if row >= 0],
        there,
        train=() if part == "train" else split.train,
        notes=(ASSUMED,) if split.train and part != "train" else (),
        left_out=sum(caption.video_id in gallery for caption in queries) - int((rows >= 0).sum()),
    )
    if not len(subject.right.texts):
        raise InputError(
            f"none of the {len(subject.text_ids)} queries of {matrix.query_order or name} describes one of the "
            f"{len(there)} videos of {matrix.video_order or name}. Give orders of the same split and part."
        )
    return rows[rows >= 0], columns[columns >= 0], subject


def _refuse_nan(matrix: Matrix, scores: Array) -> None:
    """Raise `InputError` where scores [T, V] are NaN, with the places in the file."""
    bad = [
        row
        for rows in row_blocks(*MatrixScores(scores).shape)
        for row in (rows.start + np.flatnonzero(np.isnan(scores[rows]).any(axis=1))).tolist()
    ]
    if bad:
        where = "columns" if matrix.transposed else "rows"
        raise InputError(
            f"{matrix.path}: scores of {len(bad)} texts are NaN: {where} {some([str(row) for row in bad])} (from 0). "
            "NaN cannot be ranked: look for NaN in the model or its features."
        )


def _order(
    path: Path | None, expected: tuple[str, ...], aliases: Mapping[str, str], what: str, available_only: bool
) -> NDArray[np.int64]:
    if path is None:
        return np.arange(len(expected))
    return place_rows(read_ids(path), expected, aliases, what=what, source=str(path), allow_missing=available_only)


def _ordered(scores: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> MatrixScores:
    """Return the scores in the split's order; a file that is in order already stays on the disk."""
    in_order = all(np.array_equal(of, np.arange(len(of))) for of in (rows, columns))
    return MatrixScores(scores if in_order else scores[np.ix_(rows, columns)])
