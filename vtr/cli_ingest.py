"""`vtr ingest`: putting videos into what a run searches, with or without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vtr.cli_import import SOME_FAILED
from vtr.cli_options import DeviceOption, SetOption

if TYPE_CHECKING:
    from vtr.extract_config import ExtractConfig
    from vtr.retrieval.ingest import Extract
    from vtr.workspace import Run, Workspace


RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A trained run; with --model, one that is made without training.")
]
FoldersArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FOLDER...",
        help="Folders of videos. Without any: all videos of the workspace the run was trained on, and what is new "
        "in the folders of before.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="Make RUN without training: clip, siglip, a local folder or hub name of such a model; or text, which "
        "searches spoken and shown words only.",
    ),
]
WeightsOption = Annotated[
    str | None, typer.Option(help="With --model: how much each expert counts, for example clip=2,speech=1.")
]
CaptionsOption = Annotated[
    Path | None, typer.Option(help="A CSV with the columns video and caption; they answer searches with a video.")
]
WindowOption = Annotated[
    float | None,
    typer.Option(
        min=1.0,
        help="Seconds of the stretches in which long videos are searched, 30 by default; up to twice that "
        "a video stays whole.",
    ),
]


def ingest(
    run: RunArgument,
    folders: FoldersArgument = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    captions: CaptionsOption = None,
    prune: Annotated[bool, typer.Option("--prune", help="Take out videos whose files are gone.")] = False,
    only_these: Annotated[
        bool,
        typer.Option("--only-these", help="Begin without the gallery that the run searched so far."),
    ] = False,
    window: WindowOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, and put in what comes into the folders, until Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="With --watch: seconds between two looks.")] = 5.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what could not be read.")] = False,
    frame_rate: Annotated[float | None, typer.Option(min=0.001, help="Images a second of folders of frames.")] = None,
    set_: SetOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Extract, embed and add new videos to what a run searches. Kill it at any moment and run it again.

    The first time, the gallery that was searched so far is taken along, so that results only grow. --set changes how
    videos are read (`vtr extract`), where the library holds none yet.
    """
    from vtr.retrieval.ingest import Ingestion, Request
    from vtr.retrieval.watch import watch as go_on

    if watch and not folders:
        raise typer.BadParameter("name the folders to watch: vtr ingest RUN FOLDER --watch", param_hint="--watch")
    opened = _open(run, model, weights, set_ or [])
    ingestion = Ingestion(opened, _extractor(opened, set_ or []), device=device)
    request = Request(
        folders=tuple(folders or ()),
        captions=captions,
        prune=prune,
        only_these=only_these,
        window_seconds=window,
        frame_rate=frame_rate,
        retry_failed=retry_failed,
    )
    if watch:
        go_on(ingestion, request, every_seconds=every, tell=typer.echo)  # until Ctrl-C
    summary = ingestion.ingest(request)
    typer.echo(summary)
    if summary.failed:
        raise typer.Exit(SOME_FAILED)


def _open(run: Path, model: str | None, weights: str | None, overrides: Sequence[str]) -> Run:
    """Return the run, made first where `model` says of what."""
    from vtr.config import load
    from vtr.errors import WorkspaceError
    from vtr.extract_config import ExtractConfig
    from vtr.workspace import Run

    load(ExtractConfig, None, overrides)  # a mistake in --set shows before anything is written
    if model is None:
        if weights is not None:
            raise typer.BadParameter(
                "it goes with --model; a trained model weights its experts", param_hint="--weights"
            )
        try:
            return Run.open(run)
        except WorkspaceError as error:
            if (run / "run.json").exists():
                raise
            raise WorkspaceError(f"{error} Or make it without training: add --model clip, or --model text.") from error
    from feature_extraction.untrained import choose
    from vtr.retrieval.untrained import make_untrained

    return make_untrained(run, *choose(model, _numbers(weights), overrides))


def _numbers(weights: str | None) -> dict[str, float]:
    """Return expert -> number, of "clip=2,speech=1"."""
    found: dict[str, float] = {}
    for pair in weights.split(",") if weights else ():
        name, _, number = pair.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise typer.BadParameter(
                f"'{pair}': NAME=NUMBER was expected, as in clip=2,speech=1", param_hint="--weights"
            ) from None
    return found


def _extractor(run: Run, overrides: Sequence[str]) -> Extract:
    """Return what extracts the videos of a library as those of its run were."""

    def go(workspace: Workspace, redo: Sequence[str], retry_failed: bool) -> None:
        from feature_extraction.pipeline import extract

        extract(workspace, _settings(run, workspace, overrides), redo=redo, retry_failed=retry_failed)

    return go


def _settings(run: Run, library: Workspace, overrides: Sequence[str]) -> ExtractConfig:
    """Return how videos are read: as the library's were, else as those the run was trained on were."""
    from feature_extraction.pipeline import store_config
    from vtr.config import load
    from vtr.errors import ConfigError
    from vtr.extract_config import ExtractConfig
    from vtr.store.reader import FeatureStore
    from vtr.workspace import read_manifest

    if run.untrained:
        return load(ExtractConfig, run.extraction, overrides)
    held, own = FeatureStore(library.store), FeatureStore(run.workspace.store)
    store = held if held.experts else own
    try:
        base = store_config(store, store.experts)
    except ConfigError:  # some of the workspace's experts came from elsewhere; the model may do without them
        base = store_config(store, read_manifest(run.root, "vtr train")["experts"])
    return load(ExtractConfig, None, overrides, base)
