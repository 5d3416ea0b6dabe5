"""`vtr search` and `vtr ingest`: asking a gallery, and putting videos into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vtr.cli_options import GalleryOption, PartOption, SearchPostOption, SplitOption

SearchInOption = Annotated[
    str | None,
    typer.Option(
        "--in",
        metavar="EXPERT",
        help="Find exact words in the texts of this expert: speech (words spoken) or ocr (words on screen). All words "
        "are to be in one segment or line; '\"in quotes\"' they follow one another.",
    ),
]


def search(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The run that `vtr train` made; with --in, or a workspace.")
    ],
    query: Annotated[str | None, typer.Argument(help='What to look for, for example "a man is cooking".')] = None,
    video: Annotated[Path | None, typer.Option(help="Look for the captions of this video file instead.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many results.")] = 10,
    workspace: GalleryOption = None,
    split: SplitOption = None,
    part: PartOption = None,
    post: SearchPostOption = None,
    expert: SearchInOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Search a gallery with words (answers videos) or with a video (answers captions); embeds and indexes if needed.

    With --in, find exact words in what was said or shown: that needs no run.
    """
    if expert is not None:
        from vtr.stages.text_search import search_texts

        given = {"--video": video, "--split": split, "--part": part, "--post": post}
        if query is None or any(value is not None for value in given.values()):
            useless = ", ".join(name for name, value in given.items() if value is not None)
            problem = f"{useless} does not go with it" if useless else "the words are missing"
            raise typer.BadParameter(f'{problem}: vtr search WS --in {expert} "two words"', param_hint="--in")
        typer.echo(search_texts(workspace or run, expert, query, top=top, as_json=json))
        return
    from feature_extraction.one_video import extract_like
    from vtr.stages.search import search as go
    from vtr.workspace import Run

    opened = Run.open(run, workspace)
    found = go(
        opened,
        query,
        video,
        top=top,
        split=split,
        part=part,
        as_json=json,
        qb_norm=post == "qb_norm",
        extract=extract_like,
    )
    typer.echo(found)
