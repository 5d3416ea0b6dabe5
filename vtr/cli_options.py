"""Arguments and options that several sub-commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

WorkspaceArgument = Annotated[Path, typer.Argument(metavar="WS", help="The workspace that `vtr prepare` made.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The run that `vtr train` made.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML settings; see configs/ for complete ones.")]
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
