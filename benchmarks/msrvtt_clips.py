"""The real clips of MSR-VTT that can be had, from `prepare` to `evaluate`; writes benchmarks/msrvtt_clips.md.

    .venv/bin/python benchmarks/msrvtt_clips.py --data ../shared/msrvtt --out workspaces/msrvtt-clips

`--data` holds annotation/, splits/ and videos/. Every stage is the command a user types; done work is not redone.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from vtr.evaluation.results import Evaluation
from vtr.evaluation.table import as_text
from vtr.files import read_json, write_text

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "msrvtt_clips.md"
PROTOCOLS = {"full": "20 captions a video", "full-single": "one caption a video"}


def main() -> None:
    """Run the stages and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "msrvtt", help="annotation/, splits/, videos/"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "workspaces" / "msrvtt-clips", help="workspace and run")
    arguments = parser.parse_args()
    data, workspace, run = arguments.data, arguments.out / "workspace", arguments.out / "run"
    folders = [f"--annotations={data / 'annotation'}", f"--splits={data / 'splits'}", f"--videos={data / 'videos'}"]
    stages = {
        "prepare": ["prepare", "msrvtt", *folders, f"--out={workspace}"],
        "extract": ["extract", str(workspace), "--config=configs/extract/msrvtt_clips.yaml"],
        "train": ["train", str(workspace), f"--out={run}", "--available-only"],
    }
    for split in PROTOCOLS:
        stages[f"evaluate {split}"] = [
            "evaluate",
            str(run),
            f"--split={split}",
            "--part=validation",
            "--available-only",
        ]
    stages["report"] = ["report", str(run)]
    seconds = {name: _run(name, command) for name, command in stages.items()}
    write_text(RESULT, _page(run, seconds))
    print(f"written to {RESULT}")


def _run(name: str, arguments: list[str]) -> float:
    print(f"--- {name}", flush=True)
    started = time.monotonic()
    vtr = "from vtr.cli import main; main()"
    subprocess.run([sys.executable, "-c", vtr, *arguments], cwd=ROOT, check=True)
    return time.monotonic() - started


def _page(run: Path, seconds: dict[str, float]) -> str:
    lines = [
        "# MSR-VTT, the clips that can be had",
        "",
        "`.venv/bin/python benchmarks/msrvtt_clips.py --data ../shared/msrvtt --out workspaces/msrvtt-clips` makes it.",
        "",
        "3,395 silent clips of one real frame a second, up to 8 frames: 3,151 of the 6,513 training videos and",
        "244 of the 497 validation videos of the full split, and none of its test videos. A subset, evaluated on the",
        "part that also chose the checkpoint: **not comparable with published numbers**. The model is the default",
        "recipe, explained in docs/recipes.md with its figures on held-out clips.",
        "",
    ]
    for split, words in PROTOCOLS.items():
        path = run / "evaluation" / f"{split}-validation.json"
        evaluation = Evaluation.from_json(read_json(path), str(path))
        lines += [f"## {split} validation, {words}", "", "```", as_text(evaluation), "```", ""]
    lines += ["## Time", "", f"On {_machine()}. Stages that were done before take seconds.", ""]
    lines += ["| stage | seconds |", "|---|---:|", *(f"| {name} | {value:.0f} |" for name, value in seconds.items())]
    return "\n".join(lines) + "\n"


def _machine() -> str:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return f"{cpu}, {os.cpu_count()} cores, no GPU"


if __name__ == "__main__":
    main()
