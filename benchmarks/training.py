"""Training: speed of the MMT recipe's steps, the loader's share, operations, validation, and two processes against one.

    .venv/bin/python benchmarks/training.py --write

The loop is the one of `vtr train`, at the sizes of configs/train/mmt_1ka_unified.yaml, on random features, captions and
weights. Each measurement has a process of its own. Exits with 1 where a target is missed. `--write` writes
benchmarks/training.md; `--quick` tries everything out at small sizes.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
from pathlib import Path
from typing import Any

from page import GIB, NO_GPU, Target, call, cpu, failed, paragraph, verdicts
from training_worker import AMOUNTS, CAPTIONS_OF_A_VIDEO, PROCESSES, RECIPE, Job

from vtr.files import write_text

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).with_name("training_worker.py")
PAGE = Path(__file__).with_name("training.md")

STEPS_OF_RECIPE = 50_000
LOADER_SHARE, RECIPE_MINUTES, VALIDATION_SECONDS, SAME = 0.05, 8.0, 2.0, 1e-4
KINDS = ("recipe", "processes")

Section = tuple[list[str], list[Target]]


def main() -> int:
    """Measure, print the page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the model is")
    parser.add_argument("--quick", action="store_true", help="small sizes, whose targets say nothing")
    parser.add_argument("--only", choices=KINDS, help="this measurement alone")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--no-check", action="store_true", help="only measure: exit with 0 though targets are missed")
    arguments = parser.parse_args()
    machine = call(WORKER, Job("machine"))
    lines, targets = [], []
    for kind in (arguments.only,) if arguments.only else KINDS:
        found = call(WORKER, Job(kind, arguments.device, arguments.quick))
        text, wanted = _section(kind, found, arguments.device)
        lines += [*text, ""]
        targets += wanted
    if not machine["gpu"]:
        targets += _targets("cuda", None, None)
    page = "\n".join([*_head(machine, arguments), *lines, "## Targets", "", *verdicts(targets), ""])
    print(page)
    if arguments.write:
        write_text(PAGE, page)
        print(f"written to {PAGE}")
    missed = any(target.met is False for target in targets)
    return 1 if missed and not arguments.no_check else 0


def brief() -> list[Target]:
    """Return the targets: the CPU's at the page's sizes, and the recipe's on a GPU where there is one."""
    asked = [(kind, "cpu") for kind in KINDS]
    gpu = call(WORKER, Job("machine"))["gpu"]
    asked += [("recipe", "cuda")] if gpu else []
    targets = [one for kind, device in asked for one in _section(kind, call(WORKER, Job(kind, device)), device)[1]]
    return targets if gpu else [*targets, *_targets("cuda", None, None)]


def _head(machine: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    """Return the page's opening: what was measured, where, when, how."""
    given = " ".join(sys.argv[1:])
    today = datetime.datetime.now(tz=datetime.UTC).date()
    amounts = AMOUNTS[arguments.device, arguments.quick]
    return [
        "# Training",
        "",
        f"`.venv/bin/python benchmarks/training.py{' ' * bool(given)}{given}` made it on {today}.",
        "",
        *paragraph(
            f"{cpu()}, {machine['threads']} threads, {machine['memory'] / GIB:.0f} GiB; GPU: "
            f"{machine['gpu'] or 'none'}; torch {machine['torch']}, Python {platform.python_version()}. The model ran "
            f"on the {'GPU, in bfloat16' if arguments.device == 'cuda' else 'CPU, in float32'}, at sizes "
            f"'{amounts.sizes}'."
        ),
        "",
        *paragraph(
            f"The loop of `vtr train` with {RECIPE.relative_to(ROOT)}: 7 experts, the text encoder of BERT-base's size "
            f"fine-tuned, Adam. {amounts.train:,} training videos of {CAPTIONS_OF_A_VIDEO} captions and "
            f"{amounts.validation:,} of validation; features, captions and weights are random, of MSR-VTT's shape (see "
            "models.md)."
        ),
        "",
    ]


def _section(kind: str, found: dict[str, Any], device: str) -> Section:
    """Return the lines and targets of a measurement."""
    if "failed" in found:
        return [f"## {kind.capitalize()}", "", f"Failed: {found['failed']}."], [failed(kind, found["failed"])]
    if kind == "processes":
        return _processes(found)
    return _recipe(found, device)


def _recipe(found: dict[str, Any], device: str) -> Section:
    smallest = min(step["batch"] for step in found["steps"])
    operations = {step["batch"]: step["operations"] for step in found["steps"] if step["operations"]}
    rows = [_row(step, operations[step["batch"]], found["rate"]) for step in found["steps"]]
    best = min((step for step in found["steps"] if step["batch"] == smallest), key=lambda step: step["step"])
    hours = STEPS_OF_RECIPE * best["step"] / 3600
    duration = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
    lines = [
        "## Steps",
        "",
        "| batch | features | model | n | time | pairs/s | waiting for the loader | TFLOP | of the matrix rate |",
        "|---:|---|---|---:|---:|---:|---:|---:|---:|",
        *rows,
        "",
        *paragraph(
            "Time: of a step with everything, over n steps. TFLOP: matrix products of a step, forward and backward, by "
            f"torch's counter. The matrix rate is that of one large product, {found['rate'] / 1e12:.3g} TFLOP/s in "
            f"this run. {STEPS_OF_RECIPE:,} steps of batch {smallest} take {duration} at the best of these times."
        ),
        "",
        "## Validation",
        "",
        f"{found['videos']:,} videos and as many captions: {found['validation']:.2f} s.",
    ]
    return lines, _targets(device, best, found["validation"])


def _targets(device: str, step: dict[str, Any] | None, validation: float | None) -> list[Target]:
    """Return the recipe's targets on a device, from the best step of the smallest batch, where there is one."""
    on_gpu, why = device == "cuda", NO_GPU if step is None else ""
    where = "on a GPU, " if on_gpu else ""
    waited = None if step is None else step["waited"]
    share = "" if waited is None else f"{waited:.1%}"
    targets = [
        Target(f"{where}waiting for the loader", share, f"< {LOADER_SHARE:.0%}", _under(waited, LOADER_SHARE), why)
    ]
    if not on_gpu:
        return targets
    minutes = None if step is None else STEPS_OF_RECIPE * step["step"] / 60
    for what, found, most, unit in (
        (f"{STEPS_OF_RECIPE:,} steps", minutes, RECIPE_MINUTES, "minutes"),
        ("validation", validation, VALIDATION_SECONDS, "s"),
    ):
        said = "" if found is None else f"{found:.2f} {unit}"
        targets.append(Target(f"{where}{what}", said, f"< {most:g} {unit}", _under(found, most), why))
    return targets


def _under(found: float | None, most: float) -> bool | None:
    return None if found is None else found < most


def _row(step: dict[str, Any], operations: int, rate: float) -> str:
    seconds = step["step"]
    time = f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
    cells = [
        str(step["batch"]),
        f"on the {step['place']}",
        "compiled" if step["compiled"] else "eager",
        str(step["steps"]),
        time,
        f"{step['batch'] / seconds:,.1f}",
        f"{step['waited']:.1%}",
        f"{operations / 1e12:.3g}",
        f"{operations / seconds / rate:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def _processes(found: dict[str, Any]) -> Section:
    title = ["## Processes", ""]
    if "skipped" in found:
        return [*title, f"Not measured: {found['skipped']}."], []
    one, several = (found["pairs_per_second"][str(count)] for count in (1, PROCESSES))
    alike = found["difference"] <= SAME
    lines = [
        *title,
        *paragraph(
            f"`vtr train` of a small model with a small fine-tuned encoder, {found['steps']} steps of batch "
            f"{found['batch']}, a core a process: one process {one:,.1f} pairs a second, {PROCESSES} with "
            f"`torch.distributed.run` {several:,.1f}, {several / one:.2f} times as many. The losses they logged differ "
            f"by {found['difference']:.1e} of one another at most."
        ),
    ]
    return lines, [Target("losses of one process and of several", f"{found['difference']:.1e}", f"<= {SAME:g}", alike)]


if __name__ == "__main__":
    sys.exit(main())
