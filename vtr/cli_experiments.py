"""`vtr sweep` and `vtr runs`: many runs as one experiment, and which runs there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vtr.cli_import import SOME_FAILED
from vtr.cli_options import AvailableOnlyOption, DeviceOption, SweepConfigOption, WorkspaceArgument


def sweep(
    workspace: WorkspaceArgument,
    config: SweepConfigOption,
    out: Annotated[Path | None, typer.Option(help="The sweep to make, or to resume. Needed but for --dry-run.")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Runs at a time; they share the cores.")] = 1,
    device: DeviceOption = "auto",
    available_only: AvailableOnlyOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and their number; train nothing.")] = False,
) -> None:
    """Train and evaluate variants x seeds, everything else equal; a table and figures. Run again to resume."""
    from vtr.stages.sweep import plan_sweep
    from vtr.stages.sweep import sweep as go
    from vtr.stages.sweep_runs import How
    from vtr.workspace import Workspace

    if out is None and not dry_run:
        raise typer.BadParameter("the sweep to make is needed, but for --dry-run", param_hint="--out")
    opened, how = Workspace.open(workspace), How(parallel, device, available_only)
    plan = plan_sweep(opened, config, how)
    if out is None or dry_run:
        typer.echo(plan)
        return
    summary = go(opened, plan, out, how)
    typer.echo(summary)
    if not summary.whole:
        raise typer.Exit(SOME_FAILED)


def runs(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Runs are looked for below these.")],
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Sort by a column; figures from high to low.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
) -> None:
    """List runs: loss, model, split, seed, epochs, RSUM on validation and where evaluated, and their state."""
    from vtr.stages.runs import list_runs

    if json and csv:
        raise typer.BadParameter("--json and --csv cannot both be given", param_hint="--json")
    typer.echo(list_runs(folders, sort).render("json" if json else "csv" if csv else "table"))
