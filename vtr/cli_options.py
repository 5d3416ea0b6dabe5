"""Arguments and options that several sub-commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

WorkspaceArgument = Annotated[Path, typer.Argument(metavar="WS", help="The workspace that `vtr prepare` made.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The run that `vtr train` made.")]
CONFIG_HELP = "YAML settings: a path, or the name of settings that come along; `vtr configs` lists and prints them."


def _config_path(stage: str) -> Callable[[str], Path]:
    """Return what reads the value of a stage's --config."""

    def parse(given: str) -> Path:
        from vtr.config_files import config_path

        return config_path(given, stage)

    return parse


TrainConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="YAML", parser=_config_path("train"), help=CONFIG_HELP)
]
ExtractConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="YAML", parser=_config_path("extract"), help=CONFIG_HELP)
]
DemoConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="YAML", parser=_config_path(""), help=CONFIG_HELP)
]
SweepConfigOption = Annotated[
    Path,
    typer.Option("--config", metavar="YAML", parser=_config_path("sweeps"), help=f"What to compare. {CONFIG_HELP}"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one setting: --set a.b=c. Repeatable. Another loss.name starts from that loss's defaults.",
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where the model runs; auto takes a GPU when there is one."),
]
AvailableOnlyOption = Annotated[
    bool,
    typer.Option(
        "--available-only",
        help="Go on with the videos that have features, and put the coverage on every result.",
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(help="full, 1k-A, 1k-B or an own split; `val` is the validation part of the run's split."),
]
PartOption = Annotated[
    Literal["train", "validation", "test"] | None,
    typer.Option(help="Which part of the split; by default test, or validation where there is no test."),
]
GalleryOption = Annotated[
    Path | None,
    typer.Option("--workspace", help="Search this workspace's videos instead of those the run was trained on."),
]
SearchPostOption = Annotated[
    Literal["qb_norm"] | None,
    typer.Option(
        "--post", help="Push down videos that come up for every query, by a bank of training captions (QB-Norm)."
    ),
]
