"""`vtr index` and `vtr export`: embeddings to FAISS, and to other engines."""

from __future__ import annotations

from typing import Annotated

import typer

from vtr.cli_options import PartOption, RunArgument, SplitOption


def index(
    run: RunArgument,
    split: SplitOption = None,
    part: PartOption = None,
    factory: Annotated[
        str | None,
        typer.Option(
            help='FAISS\'s name of the kind of index, "IVF64,Flat" or "HNSW32"; "Flat" is exact, the default.'
        ),
    ] = None,
    parameters: Annotated[str, typer.Option(help='FAISS\'s search parameters, for example "nprobe=8".')] = "",
) -> None:
    """Build the FAISS indexes of a split's embeddings: one of the videos, one of the captions."""
    from vtr.stages.index import index as go
    from vtr.workspace import Run

    typer.echo(go(Run.open(run), split, part, factory=factory, parameters=parameters))
