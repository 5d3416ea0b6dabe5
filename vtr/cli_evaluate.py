"""`vtr evaluate` and `vtr compare`: a run, anybody's similarity matrix, or several of them on the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vtr.cli_options import AvailableOnlyOption, DeviceOption, PartOption, SplitOption

if TYPE_CHECKING:
    from vtr.stages.evaluate import EvaluateSummary
    from vtr.stages.evaluate_scores import ScoresSummary

TiesOption = Annotated[
    Literal["average", "optimistic", "pessimistic"],
    typer.Option(help="A rank among tied items: the mean of their places (the published rule), the best, the worst."),
]
VideoToTextOption = Annotated[
    Literal["best_own_caption_among_all_captions", "max_caption_then_rank_videos"],
    typer.Option(help="How a video with several captions is counted: as MMT and CE do, or as CLIP4Clip does."),
]
PostOption = Annotated[
    Literal["dual_softmax", "inverted_softmax", "qb_norm"] | None,
    typer.Option(help="Post-process the scores; the first two use all test queries at once. Results say so."),
]
ScaleOption = Annotated[
    float | None, typer.Option(help="The post-processing's scale (QB-Norm: beta). By default 100, 20 and 20.")
]

FormatOption = Annotated[Literal["table", "json", "csv", "latex"], typer.Option("--format", help="What to print.")]
BreakdownOption = Annotated[bool, typer.Option("--breakdown", help="Print by category, caption length and expert too.")]
TrecOption = Annotated[Path | None, typer.Option(help="Folder to write TREC run and qrels files into.")]
TrecDepthOption = Annotated[int, typer.Option(min=1, help="Items of a query in a TREC run file.")]
SaveScoresOption = Annotated[
    Path | None, typer.Option(help="Write the scores, before any --post, to this .npy; ids of rows and columns too.")
]

OF_A_MATRIX = "Somebody's similarity matrix instead of a run"
ScoresOption = Annotated[
    Path | None, typer.Option(help="The matrix, .npy or .npz, texts in rows.", rich_help_panel=OF_A_MATRIX)
]
MatrixWorkspaceOption = Annotated[
    Path | None, typer.Option(help="Holds the split; by default the workspace here.", rich_help_panel=OF_A_MATRIX)
]
QueryOrderOption = Annotated[
    Path | None,
    typer.Option(
        help="Ids of its rows (.txt, .csv or .json); by default the split's order.", rich_help_panel=OF_A_MATRIX
    ),
]
VideoOrderOption = Annotated[
    Path | None, typer.Option(help="Ids of its columns, likewise.", rich_help_panel=OF_A_MATRIX)
]
TransposedOption = Annotated[
    bool, typer.Option("--transposed", help="Videos are in its rows.", rich_help_panel=OF_A_MATRIX)
]
MatrixOutOption = Annotated[
    Path | None, typer.Option(help="Folder for the JSON and the ranks of every query.", rich_help_panel=OF_A_MATRIX)
]


def evaluate(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="The run that `vtr train` made.")] = None,
    split: SplitOption = None,
    part: PartOption = None,
    ties: TiesOption = "average",
    video_to_text: VideoToTextOption = "best_own_caption_among_all_captions",
    post: PostOption = None,
    scale: ScaleOption = None,
    form: FormatOption = "table",
    breakdown: BreakdownOption = False,
    trec: TrecOption = None,
    trec_depth: TrecDepthOption = 100,
    save_scores: SaveScoresOption = None,
    scores: ScoresOption = None,
    workspace: MatrixWorkspaceOption = None,
    query_order: QueryOrderOption = None,
    video_order: VideoOrderOption = None,
    transposed: TransposedOption = False,
    out: MatrixOutOption = None,
    device: DeviceOption = "auto",
    available_only: AvailableOnlyOption = False,
) -> None:
    """R@K, MedR, MeanR, RSUM and more, both ways, of a run (embeds and indexes if needed) or of any matrix."""
    from vtr.evaluation.export import Outputs, render
    from vtr.evaluation.protocols import Rules

    rules, outputs = Rules(ties, video_to_text, post, scale), Outputs(trec, trec_depth, save_scores)
    of_matrix = {"--workspace": workspace, "--query-order": query_order, "--video-order": video_order, "--out": out}
    given = [name for name, value in {**of_matrix, "--transposed": transposed or None}.items() if value is not None]
    _check_evaluate(run, scores, split, given)
    done: EvaluateSummary | ScoresSummary
    if run is not None:
        from vtr.stages.evaluate import evaluate as evaluate_run
        from vtr.workspace import Run

        name = run.resolve().name
        done = evaluate_run(
            Run.open(run), split, part, rules=rules, outputs=outputs, device=device, available_only=available_only
        )
    else:
        from vtr.stages.evaluate_scores import Matrix, evaluate_scores, find_workspace

        assert scores is not None and split is not None
        name = scores.stem
        done = evaluate_scores(
            Matrix(scores, query_order, video_order, transposed),
            find_workspace(workspace),
            split,
            part,
            rules=rules,
            outputs=outputs,
            out=out,
            available_only=available_only,
        )
    typer.echo(render(done.evaluation, form, name, breakdown=breakdown))
    if done.written:
        typer.echo(f"\n{done.written}" if form == "table" else done.written, err=form != "table")


def _check_evaluate(run: Path | None, scores: Path | None, split: str | None, of_matrix: Sequence[str]) -> None:
    """Raise `typer.BadParameter` unless there is either a run or a matrix, with the options that belong to it."""
    if (run is None) == (scores is None):
        problem = "is needed, or --scores FILE.npy" if run is None else "and --scores cannot both be given"
        raise typer.BadParameter(f"the run {problem}", param_hint="RUN")
    if run is not None and of_matrix:
        raise typer.BadParameter("belongs to --scores, not to a run", param_hint=", ".join(of_matrix))
    if scores is not None and split is None:
        raise typer.BadParameter("is needed with --scores: full, 1k-A, 1k-B or an own split", param_hint="--split")


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run, or a *.ranks.parquet of `vtr evaluate`.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another one, evaluated on the same queries.")],
    others: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN_C]...", help="More: each is then compared with RUN_A.")
    ] = None,
    split: SplitOption = None,
    part: PartOption = None,
    ties: TiesOption = "average",
    video_to_text: VideoToTextOption = "best_own_caption_among_all_captions",
    post: PostOption = None,
    scale: ScaleOption = None,
    form: Annotated[Literal["table", "json", "csv"], typer.Option("--format", help="What to print.")] = "table",
    samples: Annotated[int, typer.Option(min=1, help="Bootstrap draws for the intervals.")] = 1000,
    permutations: Annotated[int, typer.Option(min=1, help="Random swaps for the p-values.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of both.")] = 0,
    device: DeviceOption = "auto",
    available_only: AvailableOnlyOption = False,
) -> None:
    """Whether runs differ by more than chance: differences, 95 % intervals and p-values on the same queries."""
    from vtr.evaluation.protocols import Rules
    from vtr.stages.compare import compare_runs
    from vtr.stages.compare_many import compare_with_first

    asked = Rules(ties, video_to_text, post, scale)
    compared = partial(
        compare_runs,
        first,
        split=split,
        part=part,
        rules=None if asked == Rules() else asked,
        device=device,
        available_only=available_only,
        samples=samples,
        permutations=permutations,
        seed=seed,
    )
    if others:
        typer.echo(compare_with_first(compared, (second, *others)).render(form))
    else:
        typer.echo(compared(second).render(form))
