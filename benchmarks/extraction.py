"""Feature extraction in vtr: reading frames, decoding once, two processes, the store, and what the pipeline itself costs.

    .venv/bin/python benchmarks/extraction.py --write

Ratios of two things measured in turn in one run, on clips of 320x240 and 15 s that it makes; the pipeline's overhead on
the real clips of VTR_SHARED. Exits with 1 where a target is missed. `--write` writes benchmarks/extraction.md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import decord
import imageio_ffmpeg
import numpy as np
from extraction_clips import RATE, SECONDS, make_clips, painted_index
from extraction_pipeline import Overhead, measure_overhead, measure_processes
from extraction_store import StoreTimes, measure_store
from losses import Target
from numpy.typing import NDArray

from feature_extraction.frames import FrameNeed, Sampling
from feature_extraction.media import Decoder, DecodeRequest
from vtr.files import write_text

PAGE = Path(__file__).with_suffix(".md")
CLIPS, QUICK_CLIPS, ROUNDS = 12, 3, 5
FRAMES, SIDE = 30, 224
UNIFORM = FrameNeed(Sampling("uniform", most=FRAMES), exact=(SIDE, SIDE))
FOUR = (
    FrameNeed(Sampling("fps", 2.0, most=64)),
    FrameNeed(Sampling("uniform", most=FRAMES), exact=(SIDE, SIDE)),
    FrameNeed(Sampling("fps", 1.0, most=None), exact=(260, 260)),
    FrameNeed(Sampling("uniform", most=12), exact=(384, 384)),
)
"""What four frame experts may ask for: other rates, numbers and sizes."""

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Times:
    """Seconds by what was done: one a round, each over all clips."""

    seconds: dict[str, list[float]]

    def ratio(self, over: str, under: str) -> float:
        """Return the median over rounds of one's seconds over the other's, measured right after it."""
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def median(self, name: str) -> float:
        """Return the median seconds of a round."""
        return statistics.median(self.seconds[name])


def in_turn(rounds: int, todo: dict[str, Callable[[], object]]) -> Times:
    """Return the seconds of each, `rounds` times in turn, after one turn that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    for number in range(rounds + 1):
        for name, run in todo.items():
            started = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return Times(seconds)


def uniform_indices() -> list[int]:
    """Return the frames in the middle of each of FRAMES equal spans."""
    return [int((place + 0.5) * RATE * SECONDS / FRAMES) for place in range(FRAMES)]


def with_vtr(decoder: Decoder, path: Path, needs: Sequence[FrameNeed]) -> list[list[Pictures]]:
    """Return the frames of each need."""
    found: list[list[Pictures]] = [[] for _ in needs]
    with decoder.open(path, DecodeRequest(needs=tuple(needs))) as video:
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
    """Check that all three ways show the frames asked for, by the index painted in each.

    Raises:
        AssertionError: one shows another frame.
    """
    for path in clips:
        for images in (np.concatenate(with_vtr(decoder, path, [UNIFORM])[0]), with_decord(path), with_ffmpeg(path)):
            assert [painted_index(image) for image in images] == uniform_indices(), f"{path}: other frames"


def measure_reading(clips: Sequence[Path], rounds: int) -> Times:
    """Return the times of reading FRAMES uniform frames of every clip, in three ways."""
    with Decoder() as decoder:
        check_truth(decoder, clips)
        return in_turn(
            rounds,
            {
                "vtr": lambda: [with_vtr(decoder, path, [UNIFORM]) for path in clips],
                "decord": lambda: [with_decord(path) for path in clips],
                "ffmpeg": lambda: [with_ffmpeg(path) for path in clips],
            },
        )


def measure_sharing(clips: Sequence[Path], rounds: int) -> Times:
    """Return the times of decoding for one expert, for four that ask for other frames, and for each of the four alone."""
    with Decoder() as decoder:
        return in_turn(
            rounds,
            {
                "one": lambda: [with_vtr(decoder, path, FOUR[:1]) for path in clips],
                "four": lambda: [with_vtr(decoder, path, FOUR) for path in clips],
                "apart": lambda: [with_vtr(decoder, path, [need]) for path in clips for need in FOUR],
            },
        )


def main() -> int:
    """Measure, print and write the page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CLIPS} clips and one round: to see that it runs")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    number, rounds = (QUICK_CLIPS, 1) if arguments.quick else (CLIPS, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        print(f"rendering {number} clips", file=sys.stderr)
        clips = make_clips(Path(folder), number)
        found = measure(clips, rounds)
    page = "\n".join(describe(found, number)) + "\n"
    print(page)
    if arguments.write:
        write_text(PAGE, page)
    return 0 if all(target.met is not False for target in found.targets()) else 1


@dataclass(frozen=True)
class Found:
    """All that was measured.

    Attributes:
        reading, sharing: seconds of reading frames.
        processes: seconds with one and with two processes.
        store: the feature store against files and arrays.
        rates: expert -> where the time of one worker goes that runs only it, on the clips made here.
        overhead: likewise of the six packaged experts on the real clips; None where there are none.
    """

    reading: Times
    sharing: Times
    processes: tuple[float, float]
    store: StoreTimes
    rates: dict[str, Overhead]
    overhead: Overhead | None

    def targets(self) -> list[Target]:
        """Return the ratios that were promised."""
        decord_, ffmpeg = self.reading.ratio("decord", "vtr"), self.reading.ratio("ffmpeg", "vtr")
        four, two = self.sharing.ratio("four", "one"), self.processes[0] / self.processes[1]
        targets = [
            Target("rate of reading 30 uniform frames, to bare decord", f"{decord_:.2f}", ">= 0.95", decord_ >= 0.95),
            Target("the same, to an ffmpeg subprocess", f"{ffmpeg:.2f}", ">= 1.8", ffmpeg >= 1.8),
            Target(
                "decoding for 4 experts that ask for other frames, to that for 1", f"{four:.2f}", "<= 1.3", four <= 1.3
            ),
            Target("clips a second with two processes, to one", f"{two:.2f}", ">= 1.7", two >= 1.7),
            *self.store.targets(),
        ]
        if self.overhead is None:
            return [*targets, Target("time outside the experts, to that inside them", "", "< 10 %", None)]
        share = self.overhead.ratio
        return [
            *targets,
            Target("time outside the experts, to that inside them", f"{share:.1%}", "< 10 %", share < 0.1),
        ]


def measure(clips: Sequence[Path], rounds: int) -> Found:
    """Measure everything."""
    say = partial(print, file=sys.stderr)
    say("reading")
    reading = measure_reading(clips, rounds)
    say("decoding once")
    sharing = measure_sharing(clips, rounds)
    say("processes")
    processes = min(measure_processes(clips, 1) for _ in range(2)), min(measure_processes(clips, 2) for _ in range(2))
    say("store")
    store = measure_store(rounds)
    say("experts")
    rates = {name: measure_overhead(clips[:4], (name,)) for name in EXPERTS}
    real = sorted(p for p in (SHARED / "clips").glob("*/*") if p.suffix in (".avi", ".mp4")) if SHARED.exists() else []
    return Found(reading, sharing, processes, store, rates, measure_overhead(real) if real else None)
