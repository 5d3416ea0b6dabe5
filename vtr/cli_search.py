"""`vtr search`: asking a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Many queries, one a line; - is standard input. With --json: JSON lines."),
    ] = None,
    video: Annotated[Path | None, typer.Option(help="Search with this video file instead of words.")] = None,
    answers: Annotated[
        Literal["captions", "videos"] | None, typer.Option(help="What --video finds; by default captions.")
    ] = None,
    similar: Annotated[str | None, typer.Option(metavar="ID", help="Find videos like this one of the gallery.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many results.")] = 10,
    category: Annotated[str | None, typer.Option(help="Only videos of this category.")] = None,
    min_seconds: Annotated[float | None, typer.Option(help="Only videos that last so long at least.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Only videos that last so long at most.")] = None,
    speech: Annotated[
        bool | None, typer.Option("--speech/--no-speech", help="Only videos in which words are spoken, or none are.")
    ] = None,
    workspace: GalleryOption = None,
    split: SplitOption = None,
    part: PartOption = None,
    post: SearchPostOption = None,
    expert: SearchInOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Search a gallery with words or with a video; embeds and indexes if needed.

    Words answer videos: with the moment that matches best and what each expert adds to the score. With --in, find exact
    words in what was said or shown: that needs no run.
    """
    if expert is not None:
        given: dict[str, object] = {"--file": file, "--video": video, "--answers": answers, "--similar": similar}
        given |= {"--category": category, "--min-seconds": min_seconds, "--max-seconds": max_seconds}
        given |= {"--speech": speech, "--split": split, "--part": part, "--post": post}
        _search_texts(workspace or run, expert, query, top, json, given)
        return
    if answers is not None and video is None:
        raise typer.BadParameter("it says what --video finds, and no video was given", param_hint="--answers")
    from feature_extraction.one_video import extract_like
    from vtr.retrieval.filters import Filters
    from vtr.stages.search import Question
    from vtr.stages.search import search as go
    from vtr.workspace import Run

    found = go(
        Run.open(run, workspace),
        Question(query, file, video, similar, answers or "captions"),
        top=top,
        split=split,
        part=part,
        filters=Filters(category, min_seconds, max_seconds, speech),
        as_json=json,
        qb_norm=post == "qb_norm",
        extract=extract_like,
    )
    for answer in found:
        typer.echo(answer)


def _search_texts(
    place: Path, expert: str, query: str | None, top: int, as_json: bool, given: dict[str, object]
) -> None:
    from vtr.stages.text_search import search_texts

    useless = ", ".join(name for name, value in given.items() if value is not None)
    if query is None or useless:
        problem = f"{useless} does not go with it" if useless else "the words are missing"
        raise typer.BadParameter(f'{problem}: vtr search WS --in {expert} "two words"', param_hint="--in")
    typer.echo(search_texts(place, expert, query, top=top, as_json=as_json))
