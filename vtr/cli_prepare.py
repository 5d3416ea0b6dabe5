"""The command line's `vtr prepare`: annotations and videos become a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vtr.cli_options import WorkspaceArgument

if TYPE_CHECKING:
    from vtr.types import Part

prepare = typer.Typer(no_args_is_help=True, help="Read annotations and find videos: makes the workspace.")

OutOption = Annotated[Path, typer.Option(help="The workspace to make.")]
FrameRateOption = Annotated[
    float | None, typer.Option(min=0.001, metavar="R", help="Images a second, where folders of frames are videos.")
]


def column(what: str, usual: str) -> Any:
    """Return the option that names a column of a list.

    Args:
        what: what the column holds.
        usual: the names that are understood, as `vtr.annotations.lists.ACCEPTED` has them.
    """
    return typer.Option(metavar="NAME", help=f"Column of {what}; by default the first of: {usual}.")


PathColumn = Annotated[
    str | None, column("paths or URLs", "path, url, uri, file, filename, file_name, video_path, video")
]
IdColumn = Annotated[
    str | None,
    column("ids, unique, else paths without suffix are the ids", "video_id, videoid, id, key"),
]
CaptionColumn = Annotated[
    str | None,
    column(
        "captions, one a row or a list; a video may have several rows",
        "captions, caption, sentence, text, description",
    ),
]
StartColumn = Annotated[
    str | None,
    column("seconds at which clips, already cut, start in their source", "start_seconds, start, start_time"),
]
EndColumn = Annotated[str | None, column("seconds at which they end, after the start", "end_seconds, end, end_time")]
SourceColumn = Annotated[str | None, column("what clips of one source share, a URL or YouTube id", "source_id")]
CategoryColumn = Annotated[str | None, column("labels, for results by category", "category")]
SplitColumn = Annotated[str | None, column("parts, train, val or test; without, parts are made by hash", "split")]


@prepare.command("msrvtt")
def prepare_msrvtt(
    out: OutOption,
    root: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="The folder MSR-VTT was unpacked in; what it holds is found by file names."),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Folder with train_val_videodatainfo.json (or the zips), if not in DIR.")
    ] = None,
    splits: Annotated[
        Path | None, typer.Option(help="Folder with the split lists and the 1k-A query CSV or index, if not in DIR.")
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(help="Folder with videoN.mp4, if not in DIR; it may hold only some of them.")
    ] = None,
) -> None:
    """MSR-VTT in any known layout: splits full, 1k-A and 1k-B, checked against the published counts."""
    from vtr.annotations.prepare import prepare_msrvtt as run

    typer.echo(run(annotations, splits, videos, out, root))


@prepare.command("folder")
def prepare_folder(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of videos, tar files of videos and folders of frames, with its sub-folders."
        ),
    ],
    out: OutOption,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns video and caption, instead of captions in tar files; search needs none."
        ),
    ] = None,
    frame_rate: FrameRateOption = None,
) -> None:
    """Anybody's videos, with or without captions."""
    from vtr.annotations.prepare import prepare_folder as run

    typer.echo(run(folder, captions, out, frame_rate))


@prepare.command("list")
def prepare_list(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help=".csv, .tsv, .jsonl, .parquet, or .txt with a path or URL a line and # comments."
        ),
    ],
    out: OutOption,
    root: Annotated[
        Path | None, typer.Option(help="Relative paths are seen from here; by default from the list's folder.")
    ] = None,
    frame_rate: FrameRateOption = None,
    path_column: PathColumn = None,
    id_column: IdColumn = None,
    caption_column: CaptionColumn = None,
    start_column: StartColumn = None,
    end_column: EndColumn = None,
    source_column: SourceColumn = None,
    category_column: CategoryColumn = None,
    split_column: SplitColumn = None,
) -> None:
    """A list of videos: path or url, and if you have them id, caption, start, end, source_id, category, split."""
    from vtr.annotations.lists import Columns
    from vtr.annotations.prepare import prepare_list as run

    columns = Columns(
        path=path_column,
        id=id_column,
        caption=caption_column,
        start=start_column,
        end=end_column,
        source_id=source_column,
        category=category_column,
        split=split_column,
    )
    typer.echo(run(source, out, root=root, columns=columns, frame_rate=frame_rate))


@prepare.command("split")
def prepare_split(
    workspace: WorkspaceArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What `--split` will call it.")],
    test: Annotated[Path | None, typer.Option(help="Ids of the test videos: .txt, .csv or .json.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Ids of the validation videos.")] = None,
    train: Annotated[Path | None, typer.Option(help="Ids of the training videos.")] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|SPLIT",
            help="Ids of the captions that are queries, or a split whose queries they are; by default all captions.",
        ),
    ] = None,
) -> None:
    """A split of your own: which videos are trained on, validated and tested, and which captions are the queries."""
    from vtr.annotations.own_split import prepare_split as run
    from vtr.workspace import Workspace

    given: dict[Part, Path | None] = {"train": train, "validation": validation, "test": test}
    lists = {part: path for part, path in given.items() if path is not None}
    typer.echo(run(Workspace.open(workspace), name, lists, queries))


@prepare.command("holdout")
def prepare_holdout(
    workspace: WorkspaceArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What `--split` will call it.")],
    videos: Annotated[int, typer.Option(min=1, metavar="N", help="How many training videos are held out.")],
    of: Annotated[str, typer.Option(metavar="SPLIT", help="The split whose training videos they are.")] = "full",
    part: Annotated[Literal["test", "validation"], typer.Option(help="What they become.")] = "test",
    available_only: Annotated[
        bool, typer.Option("--available-only", help="Choose and keep only videos that have features.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another one holds out other sources.")] = 0,
) -> None:
    """A split whose test or validation part is held out of another's training videos, in whole source videos."""
    from vtr.stages.holdout import prepare_holdout as run
    from vtr.workspace import Workspace

    typer.echo(run(Workspace.open(workspace), name, of, videos, part=part, available_only=available_only, seed=seed))
