"""Feature extraction in vtr: reading frames, decoding once, two processes, the store, and what the pipeline costs.

    .venv/bin/python benchmarks/extraction.py --write

Ratios of two things measured in turn in one run, on clips of 320x240 and 15 s that it makes; the pipeline's overhead on
the real clips of VTR_SHARED. Exits with 1 where a target is missed. `--write` writes benchmarks/extraction.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import decord
import imageio_ffmpeg
import numpy as np
from extraction_clips import RATE, SECONDS, make_clips, make_long_clip, painted_index
from extraction_page import Found, describe
from extraction_pipeline import EXPERTS, measure_overhead, measure_processes
from extraction_store import measure_store
from extraction_times import Times, in_turn
from numpy.typing import NDArray
from page import Target

from feature_extraction.children import ONE_THREAD
from feature_extraction.frames import FrameNeed, Sampling
from feature_extraction.media import Decoder, DecodeRequest
from feature_extraction.probing import inspect
from feature_extraction.wire import ReaderName
from vtr.files import write_text

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).with_suffix(".md").resolve()
CLIPS, QUICK_CLIPS, ROUNDS = 12, 3, 5
BRIEF_CLIPS, BRIEF_ROUNDS = 6, 3
REAL_STEP = 3
"""Every so many of the real clips is read."""
FRAMES, SIDE = 30, 224
UNIFORM = FrameNeed(Sampling("uniform", most=FRAMES), exact=(SIDE, SIDE))
FAR_APART = (8, 40, 80, 160, 300)
"""So many frames of a clip that is TIMES as long."""
SAMPLINGS = (
    Sampling("fps", 2.0, most=64),
    Sampling("uniform", most=FRAMES),
    Sampling("fps", 1.0, most=None),
    Sampling("uniform", most=12),
)
FOUR = tuple(FrameNeed(sampling) for sampling in SAMPLINGS)
"""What four experts of frames ask for that are set to other samplings: pictures look alike, unless one is set apart."""
SIZES = (
    FrameNeed(SAMPLINGS[0]),
    FrameNeed(SAMPLINGS[1], exact=(224, 224)),
    FrameNeed(SAMPLINGS[2], exact=(260, 260)),
    FrameNeed(SAMPLINGS[3], exact=(384, 384)),
)
"""The same in four sizes."""

Pictures = NDArray[np.uint8]


def uniform_indices() -> list[int]:
    """Return the frames in the middle of each of FRAMES equal spans."""
    return [int((place + 0.5) * RATE * SECONDS / FRAMES) for place in range(FRAMES)]


def with_vtr(
    decoder: Decoder, path: Path, needs: Sequence[FrameNeed], reader: ReaderName = "auto"
) -> list[list[Pictures]]:
    """Return the frames of each need."""
    found: list[list[Pictures]] = [[] for _ in needs]
    with decoder.open(path, DecodeRequest(needs=tuple(needs), reader=reader)) as video:
        for pieces in video.chunks():
            for place, piece in enumerate(pieces):
                if piece is not None:
                    found[place].append(piece.images)
    return found


def with_decord(path: Path) -> Pictures:
    """Return the frames as bare decord gives them, with one thread."""
    reader = decord.VideoReader(str(path), num_threads=1, width=SIDE, height=SIDE)
    images: Pictures = reader.get_batch(uniform_indices()).asnumpy()
    return images


def with_ffmpeg(path: Path) -> Pictures:
    """Return the frames as one ffmpeg process with one thread pipes them."""
    chosen = "+".join(f"eq(n\\,{index})" for index in uniform_indices())
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-threads", "1", "-i", str(path)]
    command += ["-vf", f"select={chosen},scale={SIDE}:{SIDE}", "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, SIDE, SIDE, 3)


def check_truth(decoder: Decoder, clips: Sequence[Path]) -> None:
    """Check that all ways show the frames asked for, by the index painted in each.

    Raises:
        AssertionError: one shows another frame.
    """
    for path in clips:
        ours = [np.concatenate(with_vtr(decoder, path, [UNIFORM], reader)[0]) for reader in ("auto", "decord")]
        for images in (*ours, with_decord(path), with_ffmpeg(path)):
            assert [painted_index(image) for image in images] == uniform_indices(), f"{path}: other frames"


def measure_reading(clips: Sequence[Path], rounds: int) -> Times:
    """Return the times of reading FRAMES uniform frames of every clip, in each way."""
    with Decoder() as decoder:
        check_truth(decoder, clips)
        return in_turn(
            rounds,
            {
                "vtr": lambda: [with_vtr(decoder, path, [UNIFORM]) for path in clips],
                "by decord": lambda: [with_vtr(decoder, path, [UNIFORM], "decord") for path in clips],
                "decord": lambda: [with_decord(path) for path in clips],
                "ffmpeg": lambda: [with_ffmpeg(path) for path in clips],
            },
        )


def measure_distance(path: Path, rounds: int) -> dict[int, Times]:
    """Return for some numbers of uniform frames the times of reading them from a long clip, by each reader."""
    names: tuple[ReaderName, ...] = ("decord", "pyav")
    with Decoder() as decoder:
        return {
            number: in_turn(
                rounds,
                {name: partial(with_vtr, decoder, path, [_uniform(number)], name) for name in names},
            )
            for number in FAR_APART
        }


def _uniform(number: int) -> FrameNeed:
    return FrameNeed(Sampling("uniform", most=number), exact=(SIDE, SIDE))


def measure_sharing(clips: Sequence[Path], rounds: int) -> Times:
    """Return the times of decoding for one expert, for four that ask for other frames, and for each alone."""
    with Decoder() as decoder:
        return in_turn(
            rounds,
            {
                "one": lambda: [with_vtr(decoder, path, FOUR[:1]) for path in clips],
                "four": lambda: [with_vtr(decoder, path, FOUR) for path in clips],
                "apart": lambda: [with_vtr(decoder, path, [need]) for path in clips for need in FOUR],
                "sizes": lambda: [with_vtr(decoder, path, SIZES) for path in clips],
                "sizes apart": lambda: [with_vtr(decoder, path, [need]) for path in clips for need in SIZES],
            },
        )


def measure(clips: Sequence[Path], rounds: int, *, rates: bool = True) -> Found:
    """Measure everything; without `rates` not what no target is about: each expert alone, readers of a long clip."""
    say = partial(print, file=sys.stderr, flush=True)
    say("--- reading")
    reading = measure_reading(clips, rounds)
    long = make_long_clip(clips[0].parent, clips[0])
    distance = measure_distance(long, rounds) if rates else {}
    say("--- decoding once")
    sharing = measure_sharing(clips, rounds)
    say("--- processes")
    processes = Times({"one": [], "two": []})
    for _ in range(rounds):
        for workers, name in enumerate(processes.seconds, 1):
            processes.seconds[name].append(measure_processes(clips, workers))
    say("--- store")
    store = measure_store(rounds)
    say("--- experts")
    alone = {name: measure_overhead(clips[:2], (name,)) for name in (*EXPERTS, "shots")} if rates else {}
    say("--- real clips")
    folder = Path(os.environ.get("VTR_SHARED", ROOT.parent / "shared"), "clips")
    real = sorted(path for path in folder.glob("*/*") if path.suffix in (".avi", ".mp4"))[::REAL_STEP]
    overhead = measure_overhead(real) if real else None
    key_frames = inspect(str(long)).key_frames
    return Found(reading, distance, key_frames, sharing, processes, store, alone, overhead)


def brief() -> list[Target]:
    """Return the targets, of fewer clips and rounds than the page's; restarts the process."""
    restart_in_one_thread()
    with tempfile.TemporaryDirectory() as folder:
        return measure(make_clips(Path(folder), BRIEF_CLIPS), BRIEF_ROUNDS, rates=False).targets()


def restart_in_one_thread() -> None:
    """Start this process anew, unless its libraries have one thread each, as in the pipeline's workers."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})


def main() -> int:
    """Measure, print and write the page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CLIPS} clips and one round: to see that it runs")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--no-check", action="store_true", help="only measure: exit with 0 though targets are missed")
    arguments = parser.parse_args()
    restart_in_one_thread()
    number, rounds = (QUICK_CLIPS, 1) if arguments.quick else (CLIPS, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        print(f"--- rendering {number} clips", file=sys.stderr)
        before = os.getloadavg()[0]
        found = measure(make_clips(Path(folder), number), rounds)
    page = "\n".join(describe(found, number, rounds, (before, os.getloadavg()[0]))) + "\n"
    print(page)
    if arguments.write:
        write_text(PAGE, page)
    return 0 if arguments.no_check or all(target.met is not False for target in found.targets()) else 1


if __name__ == "__main__":
    sys.exit(main())
