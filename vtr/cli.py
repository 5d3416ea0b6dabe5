"""The command line: thin, one sub-command a stage. Everything heavy is imported when its command runs."""

from __future__ import annotations

import atexit
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from vtr import __version__
from vtr.cli_evaluate import compare, evaluate
from vtr.cli_experiments import runs, sweep
from vtr.cli_extract import experts, extract, features
from vtr.cli_import import imports
from vtr.cli_index import export, index
from vtr.cli_ingest import ingest
from vtr.cli_options import (
    AvailableOnlyOption,
    DemoConfigOption,
    DeviceOption,
    PartOption,
    RunArgument,
    SetOption,
    SplitOption,
    TrainConfigOption,
    WorkspaceArgument,
)
from vtr.cli_prepare import prepare
from vtr.cli_search import search
from vtr.cli_serve import serve
from vtr.errors import VtrError

if TYPE_CHECKING:
    pass

app = typer.Typer(
    name="vtr",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Video-text retrieval: extract multi-expert features, train, index, search, evaluate.\n\n"
    "The stages in order: prepare, extract, train, embed, index, evaluate, search, report. "
    "`vtr demo` runs them all on a small world of clips that it renders first.",
)
app.add_typer(prepare, name="prepare")
app.add_typer(imports, name="import")

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vtr {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del debug, version  # --debug is read in main(), which prints the errors


app.command()(extract)
app.command()(experts)
app.add_typer(features, name="features")


@app.command()
def train(
    workspace: WorkspaceArgument,
    out: Annotated[Path | None, typer.Option(help="The run to make, or to resume. Needed but for --dry-run.")] = None,
    config: TrainConfigOption = None,
    set_: SetOption = None,
    device: DeviceOption = "auto",
    available_only: AvailableOnlyOption = False,
    keep_missing_videos: Annotated[
        bool,
        typer.Option(
            "--keep-missing-videos",
            help="Learn from training videos without any features too, as videos that lack every expert.",
        ),
    ] = False,
    allow_changed_code: Annotated[
        bool, typer.Option("--allow-changed-code", help="Resume a run that other code or versions began.")
    ] = False,
    split: Annotated[str | None, typer.Option(help="The split to train on, in place of the config's.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print sizes, parameters, memory and steps; train nothing, write nothing.")
    ] = False,
) -> None:
    """Train the text-video model; the best checkpoint is chosen by validation RSUM. Run again to resume.

    Without --config, with the default recipe, on split full where there is one (docs/recipes.md).

    On several GPUs: torchrun --nproc-per-node 2 -m vtr.cli train ... (or --no-python vtr train ...). Batches are shared
    among the processes, and a step is that of one process with the whole batch.
    """
    from vtr.config import TrainConfig, load
    from vtr.training.recipe import default_recipe
    from vtr.workspace import Workspace

    if out is None and not dry_run:
        raise typer.BadParameter("the run to make is needed, but for --dry-run", param_hint="--out")
    opened = Workspace.open(workspace)
    base = default_recipe(opened) if config is None else None
    overrides = [*(set_ or ()), *([] if split is None else [f"split={json.dumps(split)}"])]
    settings = load(TrainConfig, config, overrides, base)
    if out is None or dry_run:
        from vtr.training.dry_run import dry_run as describe

        _speak(describe(opened, settings, available_only=available_only))
        return
    from vtr.training.train import train as run

    summary = run(
        opened,
        settings,
        out,
        device=device,
        available_only=available_only,
        keep_missing_videos=keep_missing_videos,
        allow_changed_code=allow_changed_code,
    )
    _speak(summary)


def _rank() -> str:
    """Return this process's place among those that torchrun started, "0" where it started none."""
    return os.environ.get("RANK", "0")


def _speak(result: object) -> None:
    """Print a result; of several processes, the first does."""
    if _rank() == "0":
        typer.echo(result)


@app.command()
def mine(
    run: RunArgument,
    top: Annotated[int, typer.Option(min=1, help="Negatives kept of each caption and each video.")] = 300,
    device: DeviceOption = "auto",
    available_only: AvailableOnlyOption = False,
) -> None:
    """Find the hardest negatives of every training caption and video, for loss offline_quintuplet of another run."""
    from vtr.training.mine import mine as go
    from vtr.workspace import Run

    typer.echo(go(Run.open(run), top=top, device=device, available_only=available_only))


@app.command()
def embed(
    run: RunArgument,
    split: SplitOption = None,
    part: PartOption = None,
    device: DeviceOption = "auto",
    available_only: AvailableOnlyOption = False,
) -> None:
    """Embed a split's videos and query captions with the best checkpoint."""
    from vtr.training.embed import embed as go
    from vtr.workspace import Run

    typer.echo(go(Run.open(run), split, part, device=device, available_only=available_only))


app.command()(index)
app.command()(export)
app.command()(evaluate)
app.command()(compare)
app.command()(sweep)
app.command()(runs)


app.command()(search)
app.command()(ingest)


@app.command()
def report(run: RunArgument) -> None:
    """Write one self-contained HTML page: curves, metrics with their protocol, coverage, example queries."""
    from vtr.stages.report import report as go
    from vtr.workspace import Run

    typer.echo(go(Run.open(run)))


@app.command()
def status(workspace: WorkspaceArgument) -> None:
    """Show which stages are done, stale or running, for the workspace and the runs trained on it."""
    from vtr.stages.status import status as run

    typer.echo(run(workspace))


@app.command()
def doctor() -> None:
    """Say what is installed and what is missing, with the line that mends it."""
    from vtr.stages.doctor import doctor as run

    typer.echo(run())


@app.command()
def losses() -> None:
    """List the losses a run can be trained with: parameters, defaults, and the line that uses each."""
    from vtr.stages.losses import losses as run

    typer.echo(run())


@app.command()
def configs(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print this one: vtr configs mmt_1ka_unified > my.yaml")
    ] = None,
) -> None:
    """List the complete settings that come along, or print one to start from; --config takes their names."""
    from vtr.config_files import list_configs, read_config

    typer.echo(list_configs() if name is None else read_config(name), nl=name is None)


app.command()(serve)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the small world and its run go.")] = Path("vtr-demo"),
    config: DemoConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Render a small world of clips and take it through every stage; a second run reuses everything."""
    from vtr.demo.run import demo as run

    run(out, config, set_ or [])


def main() -> None:
    """Run the command line and exit: 0 done, 1 user error, 2 usage, 3 some videos or runs failed, 130 interrupted."""
    try:
        _run(sys.argv[1:])
    except SystemExit as error:
        if "TORCHELASTIC_RUN_ID" not in os.environ:  # not started by torchrun
            raise
        _leave(error.code)


def _leave(status: str | int | None) -> NoReturn:
    """Exit one of several training processes without taking the interpreter down.

    DistributedDataParallel never frees its process group, so gloo's threads live on. One that still holds a tensor
    while the interpreter goes aborts the process, and torchrun then calls a finished run a failed one.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def _run(arguments: list[str]) -> None:
    """Run the command line; what ends it is raised as SystemExit with its status."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]  # accepted anywhere
    try:
        app(args=arguments)
    except VtrError as error:
        if debug:
            traceback.print_exc()
        which = "" if _rank() == "0" else f"process {_rank()}: "
        typer.echo(f"{which}error: {error}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as error:
        if not _was_interrupted(error):
            raise
        if debug:
            traceback.print_exc()
        typer.echo("interrupted; finished work is kept, the same command resumes", err=True)
        sys.exit(INTERRUPTED)


def _was_interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C is behind an exit: typer turns it into one, with a status that depends on its version."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


if __name__ == "__main__":
    main()
