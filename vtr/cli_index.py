"""`vtr index` and `vtr export`: embeddings to FAISS, and to other engines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from vtr.cli_options import DeviceOption, GalleryOption, PartOption, RunArgument, SplitOption

UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def _bytes(text: str) -> int:
    """Return a number of bytes: "4GiB", "500MB" (units of 1024 either way), "1000000"."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", text.lower())
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"'{text}' is no amount of memory, something like 4GiB was expected")
    return int(float(found[1]) * UNITS[found[2]])


def index(
    run: RunArgument,
    split: SplitOption = None,
    part: PartOption = None,
    workspace: GalleryOption = None,
    factory: Annotated[
        str | None,
        typer.Option(
            help='FAISS\'s name of the kind of index, "IVF1024,Flat", "IVF1024,SQ8", "HNSW32", '
            '"OPQ32,IVF1024,PQ32"; "Flat" is exact, the default; "auto" chooses by size and memory.'
        ),
    ] = None,
    parameters: Annotated[
        str,
        typer.Option(
            help='FAISS\'s search parameters, for example "nprobe=8", in the place of those that are measured.'
        ),
    ] = "",
    target_recall: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Tune an approximate index to find this share of the best ten; 0.99 by default."
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="What building may hold in memory, 4GiB; by default half of the machine's."),
    ] = None,
    device: DeviceOption = "cpu",
    verify: Annotated[bool, typer.Option("--verify", help="Only hold the index against its checksums.")] = False,
) -> None:
    """Build the index of a split's embeddings, its videos and its captions; approximate ones are tuned.

    Without --split and --part it is the library's, where `vtr ingest` has put videos in; --split library names it.
    """
    from vtr.stages.index import index as go
    from vtr.stages.index import verify_index
    from vtr.workspace import Run

    opened = Run.open(run, workspace)
    if verify:
        typer.echo(verify_index(opened, split, part))
        return
    limit = None if memory_limit is None else _bytes(memory_limit)
    made = go(
        opened,
        split,
        part,
        factory=factory,
        parameters=parameters,
        target_recall=target_recall,
        memory_limit=limit,
        device=device,
    )
    typer.echo(made)


def export(
    run: RunArgument,
    to: Annotated[
        Literal["parquet", "qdrant-jsonl", "lancedb", "milvus"], typer.Option(help="The engine whose form to write.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    split: SplitOption = None,
    part: PartOption = None,
    workspace: GalleryOption = None,
) -> None:
    """Write a split's embeddings for another engine: collections of videos and of captions, with ids and metadata.

    Without --split and --part it is the library, where `vtr ingest` has put videos in; --split library names it.
    """
    from vtr.stages.export import export as go
    from vtr.workspace import Run

    typer.echo(go(Run.open(run, workspace), split, part, to=to, out=out))
