"""`vtr import ...`: what other projects released becomes workspaces and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vtr.errors import ConfigError

imports = typer.Typer(no_args_is_help=True, help="Take over what MMT's and CE's authors released.")

SOME_FAILED = 3
"""Exit status of `vtr extract` and `vtr import` when some videos could not be read and the rest is done."""

ImportOutOption = Annotated[
    Path, typer.Option(help="The workspace to make; the same command goes on with an import that was stopped.")
]
DtypeOption = Annotated[
    Literal["float32", "float16"],
    typer.Option(help="How features are stored: float32 as released, float16 in half the space with small errors."),
]
SkipBadOption = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Enter bad videos in features/failures.jsonl and go on without them; the exit status is then 3.",
    ),
]
CheckpointArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The released .pth file. It cannot run code.")]
TextModelOption = Annotated[
    str,
    typer.Option(
        metavar="NAME_OR_DIR",
        help="Its text model: bert-base-cased for MMT, openai-gpt for CE; or a local folder in Hugging Face layout.",
    ),
]
WorkspaceOption = Annotated[Path, typer.Option(help="The workspace with the features that the model reads.")]
RunOutOption = Annotated[Path, typer.Option(help="The run to make.")]
KeepMissingOption = Annotated[
    bool | None,
    typer.Option(
        "--keep-missing/--drop-missing",
        help="Whether experts that a video lacks count in the score. By default as the file says, or as released.",
    ),
]


@imports.command("mmt-features")
def import_mmt_features(
    source: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder with vid_feat_files/ and symlinked-feats/, such as data/MSRVTT."),
    ],
    out: ImportOutOption,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that read; 0 means one a core. Each needs up to 1 GB of memory.")
    ] = 0,
    dtype: DtypeOption = "float32",
    skip_bad: SkipBadOption = False,
) -> None:
    """MMT's released MSR-VTT features: one HDF5 file a video, with its captions and seven experts."""
    from vtr.interop.mmt_features import import_mmt_features as run

    report = run(source, out, workers=workers, dtype=dtype, skip_bad=skip_bad)
    typer.echo(report)
    if report.skipped:
        raise typer.Exit(SOME_FAILED)


@imports.command("ce-features")
def import_ce_features(
    source: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder with raw-captions.pkl and aggregated_*/: structured-symlinks."),
    ],
    out: ImportOutOption,
    experts: Annotated[
        str | None,
        typer.Option(help="Comma-separated, such as face,imagenet.senet154.0; by default the paper's nine, if there."),
    ] = None,
    dtype: DtypeOption = "float32",
    skip_bad: SkipBadOption = False,
) -> None:
    """CE's released MSR-VTT features: one pickle an expert, and the words' states of every caption."""
    from vtr.interop.ce_features import import_ce_features as run

    report = run(source, out, experts=_names(experts), dtype=dtype, skip_bad=skip_bad)
    typer.echo(report)
    if report.skipped:
        raise typer.Exit(SOME_FAILED)


@imports.command("mmt-checkpoint")
def import_mmt_checkpoint(
    source: CheckpointArgument,
    text_model: TextModelOption,
    workspace: WorkspaceOption,
    out: RunOutOption,
    split: Annotated[str | None, typer.Option(help="The split it was trained on; by default 1k-A.")] = None,
    heads: Annotated[
        int | None, typer.Option(min=1, help="Attention heads; by default as the file says, or 4.", show_default=False)
    ] = None,
    keep_missing: KeepMissingOption = None,
) -> None:
    """MMT's released checkpoints: a run that evaluates, indexes and searches like one trained here."""
    from vtr.stages.imports import import_mmt_checkpoint as run
    from vtr.workspace import Workspace

    opened = Workspace.open(workspace)
    typer.echo(run(source, text_model, opened, out, split=split, heads=heads, keep_missing=keep_missing))


@imports.command("ce-checkpoint")
def import_ce_checkpoint(
    source: CheckpointArgument,
    text_model: TextModelOption,
    workspace: WorkspaceOption,
    out: RunOutOption,
    split: Annotated[str | None, typer.Option(help="The split it was trained on; by default full.")] = None,
    experts: Annotated[
        str | None, typer.Option(help="Comma-separated: the experts it was trained with; by default the workspace's.")
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=N,...",
            help="Features of each pooled expert, and words, that it reads. By default as the file says, or "
            "audio=29,ocr=49,speech=32,text=37.",
        ),
    ] = None,
    keep_missing: KeepMissingOption = None,
) -> None:
    """CE's released checkpoints: a run that evaluates, indexes and searches like one trained here."""
    from vtr.stages.imports import import_ce_checkpoint as run
    from vtr.workspace import Workspace

    typer.echo(
        run(
            source,
            text_model,
            Workspace.open(workspace),
            out,
            split=split,
            experts=_names(experts),
            lengths=_lengths(lengths),
            keep_missing=keep_missing,
        )
    )


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _lengths(text: str | None) -> dict[str, int]:
    found = {}
    for part in _names(text) or []:
        name, _, number = part.partition("=")
        if not number.isdecimal() or int(number) < 1:
            raise ConfigError(f"--lengths {text}: NAME=N with N from 1 up was expected, not '{part}'.")
        found[name] = int(number)
    return found
