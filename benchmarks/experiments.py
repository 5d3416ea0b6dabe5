"""The paper's experiments on the real clips of MSR-VTT: `vtr sweep` on each config, and one page of what it found.

    .venv/bin/vtr prepare holdout WS clips-holdout --of full --videos 500 --available-only
    .venv/bin/python benchmarks/experiments.py WS --out workspaces/experiments

WS is a workspace of the clips, with the features of configs/extract/msrvtt_clips.yaml.
Runs that are done are not done again. Writes benchmarks/experiments.md and the figures in benchmarks/experiments/.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from page import cpu, paragraph

from vtr.files import write_bytes, write_text

ROOT = Path(__file__).resolve().parent.parent
PAGE, FIGURES = ROOT / "benchmarks" / "experiments.md", ROOT / "benchmarks" / "experiments"
SWEEPS = {
    "losses_mmt": "MMT: the losses",
    "losses_ce": "CE: the losses",
    "margins": "MMT: the margin of the unified loss at γ = 60",
    "gammas": "MMT: γ of the unified loss at m = 0.2",
}
CAPTIONS = {
    "figure3": "Loss and validation RSUM by epoch",
    "figure4": "Similarity of positive pairs and of hardest negatives by epoch",
    "figure5": "RSUM of the held-out videos",
}
INTRODUCTION = (
    "Trained on the clips of MSR-VTT's training part that can be had, 20 captions each, less 500 that are held out by "
    "source video; those of its validation part choose checkpoints and hyper-parameters; the figures are those of the "
    "500. The gallery, the videos and the training set are parts of MSR-VTT that nobody publishes results on: the "
    "differences may be compared with the paper's (arXiv 2209.13869), the figures themselves with nothing. What "
    "follows from them is in docs/experiments.md."
)


def main() -> None:
    """Run the sweeps and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, help="the workspace, with split clips-holdout")
    parser.add_argument("--out", type=Path, default=ROOT / "workspaces" / "experiments", help="where the sweeps go")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time")
    parser.add_argument("--only", nargs="+", choices=SWEEPS, default=list(SWEEPS), help="these sweeps; all by default")
    arguments = parser.parse_args()
    arguments.workspace, arguments.out = arguments.workspace.resolve(), arguments.out.resolve()
    for name in arguments.only:
        _sweep(name, arguments)
    lines = ["# Experiments on the real clips", ""]
    lines += ["`.venv/bin/python benchmarks/experiments.py WS` makes this page.", ""]
    lines += [*paragraph(INTRODUCTION), "", f"On {cpu()}, {os.cpu_count()} cores."]
    for name in arguments.only:
        lines += [
            "",
            f"## {SWEEPS[name]}",
            "",
            f"`configs/sweeps/{name}.yaml`",
            "",
            *_found(name, arguments.out / name),
        ]
    write_text(PAGE, "\n".join(lines) + "\n")
    print(f"written to {PAGE}")


def _sweep(name: str, arguments: argparse.Namespace) -> None:
    """Run one sweep with the command that its config names."""
    print(f"--- {name}", flush=True)
    command = ["sweep", str(arguments.workspace), f"--config=configs/sweeps/{name}.yaml", "--available-only"]
    command += [f"--out={arguments.out / name}", f"--parallel={arguments.parallel}"]
    subprocess.run([sys.executable, "-m", "vtr.cli", *command], cwd=ROOT, check=True)


def _found(name: str, folder: Path) -> list[str]:
    """Return a sweep's tables and figures, the pictures copied beside the page."""
    lines = [(folder / "results.md").read_text(encoding="utf-8").rstrip()]
    for picture in sorted(folder.glob("figure*.png")):
        copied = FIGURES / f"{name}_{picture.name}"
        copied.parent.mkdir(exist_ok=True)
        write_bytes(copied, picture.read_bytes())
        lines += ["", f"![{CAPTIONS[picture.stem]}]({copied.relative_to(PAGE.parent)})"]
    return lines


if __name__ == "__main__":
    main()
