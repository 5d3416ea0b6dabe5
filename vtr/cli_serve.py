"""`vtr serve`: search over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from vtr.cli_options import GalleryOption, PartOption, RunArgument, SearchPostOption, SplitOption


def serve(
    run: RunArgument,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    workspace: GalleryOption = None,
    split: SplitOption = None,
    part: PartOption = None,
    post: SearchPostOption = None,
) -> None:
    """Serve search over HTTP with a small web page. Needs the extra `serve`."""
    from vtr.retrieval import Retriever
    from vtr.serving.app import serve as go

    go(
        Retriever.load(run, workspace=workspace, split=split, part=part, qb_norm=post == "qb_norm"),
        host=host,
        port=port,
    )
