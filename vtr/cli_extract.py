"""`vtr extract`, `vtr experts` and `vtr features`: videos to features, by which experts, and what there is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from vtr.cli_import import SOME_FAILED
from vtr.cli_options import ExtractConfigOption, SetOption, WorkspaceArgument

ExpertsOption = Annotated[
    str | None,
    typer.Option(help="Comma-separated names; `vtr experts` lists them. By default the packaged ones but shots."),
]
EngineOption = Annotated[
    Literal["local", "ray"] | None,
    typer.Option(help="local: processes of this machine, the default. ray: the actors of a Ray cluster (RAY_ADDRESS)."),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Processes that decode in parallel; by default one per core.")
]
DevicesOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda:0,...",
        help="Devices that each get one process for the models, shared by all workers; by default every GPU.",
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out", metavar="URL", help="Where the feature store goes, for example s3://bucket/ws; by default WS/features."
    ),
]
RetryOption = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="Try again what failed or was read in part, by default with the experts and settings of before.",
    ),
]
RedoOption = Annotated[
    list[str] | None,
    typer.Option(
        "--redo", metavar="ID", help="Read this video once more, though it was read: its file has changed. Repeatable."
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Refuse damaged videos, of which else the readable part is used and flagged.")
]
ReportOption = Annotated[
    bool, typer.Option("--report", help="Extract nothing; show the failure ledger as a table, with what to do.")
]
AllOption = Annotated[
    bool, typer.Option("--all", help="With --report: every entry, also where there was nothing to read (no sound).")
]


def extract(
    workspace: WorkspaceArgument,
    experts: ExpertsOption = None,
    config: ExtractConfigOption = None,
    set_: SetOption = None,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    devices: DevicesOption = None,
    out: OutOption = None,
    retry_failed: RetryOption = False,
    redo: RedoOption = None,
    strict: StrictOption = False,
    report: ReportOption = False,
    all_: AllOption = False,
) -> None:
    """Videos to features: one Parquet data set an expert. Kill it at any moment and run it again."""
    from vtr.errors import InputError
    from vtr.workspace import Workspace

    opened = Workspace.open(workspace)
    if report:
        from feature_extraction.report import report as show

        typer.echo(show(opened, whole=all_))
        return
    if all_:
        raise InputError("--all goes with --report: every entry of the failure ledger. Add --report, or leave it out.")
    from feature_extraction.pipeline import extract as run
    from feature_extraction.pipeline import settings_before
    from vtr.config import load
    from vtr.extract_config import ExtractConfig

    given = {
        "experts": None if experts is None else f"[{', '.join(_names(experts))}]",
        "engine": engine,
        "workers": workers,
        "devices": None if devices is None else f"[{devices}]",
        "strict": "true" if strict else None,
    }
    overrides = [*(set_ or []), *(f"{name}={value}" for name, value in given.items() if value is not None)]
    settings = load(ExtractConfig, config, overrides)
    if (retry_failed or redo) and experts is None and config is None:
        settings = settings_before(opened, settings)
    summary = run(opened, settings, retry_failed=retry_failed, redo=redo or (), out=out)
    typer.echo(summary)
    if summary.failures or (experts is not None and summary.unavailable):
        raise typer.Exit(SOME_FAILED)


def _names(experts: str) -> list[str]:
    names = [name.strip() for name in experts.split(",")]
    if not all(names):
        from vtr.errors import InputError

        raise InputError(f"--experts is '{experts}', names between single commas were expected: --experts ocr,speech.")
    return names


def experts() -> None:
    """List the experts: what each reads and yields, what it needs, what is missing, the licence of its weights."""
    from vtr.stages.experts import experts as run

    typer.echo(run())


class _ListUnlessNamed(TyperGroup):
    """A group whose command may be left out: `vtr features WS` lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


features = typer.Typer(
    cls=_ListUnlessNamed,
    no_args_is_help=True,
    help="What the feature store holds. `vtr features WS` is `vtr features list WS`.",
)


@features.command("list")
def list_features(
    workspace: WorkspaceArgument,
    verify: Annotated[bool, typer.Option(help="Read every shard and check its checksum and values.")] = True,
) -> None:
    """List the experts in the feature store: coverage, dims, sizes; and verify them."""
    from vtr.stages.features import describe
    from vtr.workspace import Workspace

    typer.echo(describe(Workspace.open(workspace), verify=verify))


@features.command("compact")
def compact_features(workspace: WorkspaceArgument) -> None:
    """Merge the small shards that a growing collection leaves into full ones; rows stay as they are."""
    from feature_extraction.compact import compact
    from vtr.workspace import Workspace

    typer.echo(compact(Workspace.open(workspace)))
