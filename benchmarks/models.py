"""MMT in vtr against the plain form it was released in: speed of training, loading, embedding; memory of scores.

    .venv/bin/python benchmarks/models.py --write

Both sides run in turn on the same machine, with the same weights and data, and their results are compared before they
are timed. The released form is the one that the tests hold vtr to (tests/stacked_mmt.py, tests/plain_loader.py). Each
measurement has a process of its own. Exits with 1 where a target is missed. `--write` writes benchmarks/models.md.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from models_worker import JOBS, OURS, RELEASED, SIZES, Job
from page import GIB, MIB, NO_GPU, Target, call, cpu, failed, paragraph, verdicts

from vtr.files import write_text

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).with_name("models_worker.py")
PAGE = Path(__file__).with_name("models.md")
SAME = 1e-4
"""Results of both sides that differ by more are not the same."""

STEP_FASTER = {"cpu": 2.0, "cuda": 5.0}
LOADING_FASTER, EXTRA_OF_RESULT = 20.0, 1.5

NO_GPU_STEP = Target(
    f"on a GPU, training step: time {RELEASED} / {OURS}", "", f">= {STEP_FASTER['cuda']:g}", None, NO_GPU
)

Section = tuple[list[str], list[Target]]
Results = dict[str, dict[str, Any]]


def main() -> int:
    """Measure, print the page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the models run")
    parser.add_argument(
        "--sizes", choices=tuple(SIZES), default="full", help="small: to try it out, its targets say nothing"
    )
    parser.add_argument("--only", type=_names, default=tuple(JOBS), help=f"some of {','.join(JOBS)}")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side; the median counts")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--no-check", action="store_true", help="only measure: exit with 0 though targets are missed")
    arguments = parser.parse_args()
    machine = call(WORKER, Job("machine"))
    results = measure(arguments.only, arguments.device, arguments.sizes, arguments.repeats)
    lines, targets = [], []
    for name, found in results.items():
        text, wanted = _section(name, found, results, arguments.device)
        lines += [f"## {name.capitalize()}", "", *text, ""]
        targets += wanted
    if not machine["gpu"]:
        targets.append(NO_GPU_STEP)
    page = "\n".join([*_head(machine, arguments), *lines, "## Targets", "", *verdicts(targets), ""])
    print(page)
    if arguments.write:
        write_text(PAGE, page)
        print(f"written to {PAGE}")
    missed = any(target.met is False for target in targets)
    return 1 if missed and not arguments.no_check else 0


def brief() -> list[Target]:
    """Return the targets, at the page's sizes."""
    results = measure(tuple(JOBS), "cpu", "full", 3)
    targets = [one for name, found in results.items() for one in _section(name, found, results, "cpu")[1]]
    if not call(WORKER, Job("machine"))["gpu"]:
        return [*targets, NO_GPU_STEP]
    step = measure(("step",), "cuda", "full", 3)
    on_gpu = _section("step", step["step"], step, "cuda")[1]
    return [*targets, *(replace(one, what=f"on a GPU, {one.what}") for one in on_gpu)]


def measure(names: Sequence[str], device: str, sizes: str, repeats: int) -> Results:
    """Return what each measurement found in a process of its own."""
    return {name: call(WORKER, Job(name, device, sizes, repeats)) for name in names}


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in JOBS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(JOBS)}")
    return names


def _head(machine: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    """Return the page's opening: what was measured, where, when, how."""
    given = " ".join(sys.argv[1:])
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return [
        "# Models: training, loading, embedding, scores",
        "",
        f"`.venv/bin/python benchmarks/models.py{' ' * bool(given)}{given}` made it on {today}.",
        "",
        *paragraph(
            f"{cpu()}, {machine['threads']} threads, {machine['memory'] / GIB:.0f} GiB; GPU: "
            f"{machine['gpu'] or 'none'}; torch {machine['torch']}, Python {platform.python_version()}. Models ran on "
            f"the {'GPU' if arguments.device == 'cuda' else 'CPU'}, at sizes '{arguments.sizes}'."
        ),
        "",
        *paragraph(
            "Released: the plain form, as MMT was released. Times are the median (least) of n turns of the two sides; "
            "first turns are not counted. Features and captions are random, of MSR-VTT's shape: clips of 10 to 30 s, "
            "15 on average; rgb 5 features a second, s3d, scene and vggish 1, face, ocr and speech 1 to 10 in all; "
            "face in 60 % of the videos, ocr in 40, speech in 60, vggish in 88, the rest always; captions of 9.3 words "
            "on average, 30 word pieces at most."
        ),
        "",
    ]


def _section(name: str, found: dict[str, Any], results: Results, device: str) -> Section:
    """Return the lines and targets of a measurement."""
    if "failed" in found:
        return [f"Failed: {found['failed']}."], [failed(name, found["failed"])]
    sections: dict[str, Callable[[], Section]] = {
        "step": lambda: _step(found, device),
        "loading": lambda: _loading(found, results.get("step", {})),
        "embedding": lambda: _embedding(found),
        "similarity": lambda: _similarity(found),
    }
    lines, targets = sections[name]()
    if "difference" in found:
        alike = found["difference"] <= SAME
        targets.append(Target(f"{name}: largest difference", f"{found['difference']:.1e}", f"<= {SAME:g}", alike))
    return lines, targets


def _step(found: dict[str, Any], device: str) -> Section:
    reduced = device == "cuda"
    said = f"Largest difference of the scores before: {found['difference']:.1e}"
    said += f", and {found['reduced']:.1e} in bfloat16." if reduced else "."
    lines = [
        *paragraph(
            f"One training step of MMT on a batch of {found['batch']} pairs that is there: forward, max-margin loss, "
            "backward, Adam. Released: float32, tokens stacked to [B, 218, D], captions padded to 30, a [T, V, E] "
            "tensor of weights. Ours: vtr's model, loss and optimiser, in "
            f"{'bfloat16 under autocast' if reduced else 'float32'}."
        ),
        "",
        *_both("step", found),
        "",
        said,
    ]
    return lines, [_faster("training step", found, STEP_FASTER[device])]


def _loading(found: dict[str, Any], step: dict[str, Any]) -> Section:
    size = found["batch"]
    speeds = {name: size / statistics.median(found[name]) for name in (RELEASED, OURS)}
    said = f"Videos a second: {RELEASED} {speeds[RELEASED]:,.0f}, {OURS} {speeds[OURS]:,.0f}. "
    said += f"Largest difference of what evaluation loads: {found['difference']:.1e}."
    if RELEASED in step:
        shares = {name: _share(found, step, name) for name in (RELEASED, OURS)}
        said += f" Loading takes {shares[RELEASED]:.1f} % of loading and a training step as released, "
        said += f"{shares[OURS]:.1f} % of ours."
    lines = [
        *paragraph(
            f"Batches of {size} videos drawn at random from {found['videos']}, with features drawn at random. "
            "Released: one HDF5 file opened for each video, out of the page cache; captions are not read. Ours: "
            "`FeatureTable.batch`, after all were read from the feature store once, "
            f"which took {_time([found['once']])}."
        ),
        "",
        *_both("batch", found),
        "",
        *paragraph(said),
    ]
    return lines, [_faster("loading", found, LOADING_FASTER)]


def _share(loading: dict[str, Any], step: dict[str, Any], name: str) -> float:
    load, rest = statistics.median(loading[name]), statistics.median(step[name])
    return 100 * load / (load + rest)


def _embedding(found: dict[str, Any]) -> Section:
    videos, texts = (found[f"{what}s"] / found[f"{what}_seconds"] for what in ("video", "text"))
    num_videos, num_texts = found["all"]
    minutes = (num_videos / videos + num_texts / texts) / 60
    lines = paragraph(
        f"Ours alone, with the functions of `vtr embed`, on {found['videos']:,} videos and {found['texts']:,} "
        f"captions: {videos:,.0f} videos and {texts:,.0f} captions a second. The {num_videos:,} videos and "
        f"{num_texts:,} captions of full's test part take {minutes:.1f} minutes at that rate."
    )
    return lines, []


def _similarity(found: dict[str, Any]) -> Section:
    texts, videos, few = found["texts"], found["videos"], found["few"]
    extra, result = found["extra"], found["result"]
    released, ours = (max(0.0, found["few_extra"][name] / MIB) for name in (RELEASED, OURS))
    lines = [
        *paragraph(
            f"`score_matrix` of {texts:,} texts and {videos:,} videos with masked experts, on the CPU: "
            f"{_time([found['seconds']])}, and at its peak {extra / MIB:,.0f} MiB beyond the embeddings and the result "
            f"of {result / MIB:,.0f} MiB. The first {few:,} texts in both forms:"
        ),
        "",
        *_both("scores", found),
        "",
        *paragraph(
            f"Peak beyond embeddings and result there: {RELEASED} {released:,.0f} MiB, {OURS} {ours:,.0f} MiB. Largest "
            f"difference: {found['difference']:.1e}. One [T, V, E] tensor of all texts would take "
            f"{result * found['experts'] / GIB:.1f} GiB."
        ),
    ]
    what = f"extra memory of {texts:,} x {videos:,} scores / that of the result"
    within = extra < EXTRA_OF_RESULT * result
    return lines, [Target(what, f"{extra / result:.2f}", f"< {EXTRA_OF_RESULT:g}", within)]


def _both(what: str, found: dict[str, Any]) -> list[str]:
    """Return a table of both sides' times."""
    rows = [f"| {name} | {_time(found[name])} | {len(found[name])} |" for name in (RELEASED, OURS)]
    return [f"| {what} | time | n |", "|---|---:|---:|", *rows]


def _time(seconds: list[float]) -> str:
    median = statistics.median(seconds)
    unit, scale = ("ms", 1e3) if median < 1 else ("s", 1)
    least = f" ({min(seconds) * scale:.3g})" if len(seconds) > 1 else ""
    return f"{median * scale:.3g}{least} {unit}"


def _faster(what: str, found: dict[str, Any], least: float) -> Target:
    ratio = statistics.median(found[RELEASED]) / statistics.median(found[OURS])
    return Target(f"{what}: time {RELEASED} / {OURS}", f"{ratio:.2f}", f">= {least:g}", ratio >= least)


if __name__ == "__main__":
    sys.exit(main())
