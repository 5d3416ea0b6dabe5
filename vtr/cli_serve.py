"""`vtr serve`: search over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from vtr.cli_options import GalleryOption, PartOption, RunArgument, SearchPostOption, SplitOption


def serve(
    run: RunArgument,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. Only this machine can reach the default; 0.0.0.0 is every address."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="VTR_TOKEN",
            help="Answer only requests that hold this token; VTR_TOKEN keeps it out of the list of processes.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A further name by which the server may be addressed, as behind a proxy: search.example.org, "
            "'*.example.org', or '*' for any. Repeatable.",
        ),
    ] = None,
    uploads: Annotated[
        bool, typer.Option("--uploads/--no-uploads", help="Take video files to search with; they are not kept.")
    ] = True,
    max_upload: Annotated[str, typer.Option(metavar="SIZE", help="The largest file taken.")] = "200MiB",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a search may take before it is given up.")] = 30.0,
    queue: Annotated[int, typer.Option(min=1, help="Searches that may wait; more are told to come again.")] = 256,
    workspace: GalleryOption = None,
    split: SplitOption = None,
    part: PartOption = None,
    post: SearchPostOption = None,
) -> None:
    """Serve search over HTTP: a page for people, an API for programs (/docs says what it takes). Needs extra `serve`.

    Ctrl-C or SIGTERM finishes the requests under way and ends it. A gallery that changes on disk, as by `vtr ingest`,
    is taken up within seconds. docs/serving.md has examples.
    """
    from feature_extraction.one_video import ExtractLike
    from vtr.retrieval import Retriever
    from vtr.serving.limits import Limits, bytes_of
    from vtr.serving.server import check_address
    from vtr.serving.server import serve as go
    from vtr.workspace import Run

    limits = Limits(most_upload_bytes=bytes_of(max_upload), timeout_seconds=timeout, most_waiting=queue)
    check_address(host, port)
    go(
        Retriever.load(run, workspace=workspace, split=split, part=part, qb_norm=post == "qb_norm"),
        host=host,
        port=port,
        extract=ExtractLike(Run.open(run, workspace)) if uploads else None,
        limits=limits,
        token=token,
        allow_hosts=allow_host or (),
    )
