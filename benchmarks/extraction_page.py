"""The page of benchmarks/extraction.py: what was found, against what was promised."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import av
import decord
import pyarrow as pa
from extraction_clips import TIMES
from extraction_pipeline import Overhead
from extraction_store import ARRAY, BATCH, DIM, FEATURES, H5, LOOKS, PARQUET, SYNCED, VIDEOS, VTR, StoreTimes
from extraction_times import Times
from losses_worker import machine
from page import GIB, NO_GPU, Target, cpu, paragraph, verdicts


@dataclass(frozen=True)
class Found:
    """All that was measured.

    Attributes:
        reading, sharing: seconds of reading frames.
        distance: number of frames of a long clip -> seconds of reading them by each reader.
        key_frames: of the long clip.
        processes: seconds of a pool with one and with two processes.
        store: the feature store against files and arrays.
        rates: expert -> where the time of one worker goes that runs only it, on the clips made here.
        overhead: likewise of six packaged experts together on the real clips; None where there are none.
    """

    reading: Times
    distance: dict[int, Times]
    key_frames: int
    sharing: Times
    processes: Times
    store: StoreTimes
    rates: dict[str, Overhead]
    overhead: Overhead | None

    def targets(self) -> list[Target]:
        """Return the ratios that were promised."""
        decord_, ffmpeg = self.reading.ratio("decord", "vtr"), self.reading.ratio("ffmpeg", "vtr")
        four, two = self.sharing.ratio("four", "one"), self.processes.ratio("one", "two")
        targets = [
            Target("rate of reading 30 uniform frames, to bare decord", f"{decord_:.2f}", ">= 0.95", decord_ >= 0.95),
            Target("the same, to an ffmpeg subprocess", f"{ffmpeg:.2f}", ">= 1.8", ffmpeg >= 1.8),
            Target(
                "decoding for 4 experts that ask for other frames, to that for 1", f"{four:.2f}", "<= 1.3", four <= 1.3
            ),
            Target("clips a second with two processes, to one", f"{two:.2f}", ">= 1.7", two >= 1.7),
            *self.store.targets(),
            Target("share of time a GPU is busy with a ViT-B expert", "", ">= 80 %", None, _unmeasured()),
        ]
        if self.overhead is None:
            return [*targets, Target("time outside the experts, to that inside them", "", "< 10 %", None, "no clips")]
        share = self.overhead.ratio
        return [
            *targets,
            Target("time outside the experts, to that inside them", f"{share:.1%}", "< 10 %", share < 0.1),
        ]


def _unmeasured() -> str:
    """Return why the share of time that a GPU is busy was not measured: nothing here measures it yet."""
    return "no measurement of it" if machine()["gpu"] else NO_GPU


def describe(found: Found, clips: int, rounds: int, load: tuple[float, float]) -> list[str]:
    """Return the page's lines; `load` is the machine's load average when measuring began and when it ended."""
    lines = [*_head(clips, rounds, load), *_reading(found, clips), *_store(found.store), *_rates(found)]
    return [*lines, "## Targets", "", *verdicts(found.targets())]


def _head(clips: int, rounds: int, load: tuple[float, float]) -> list[str]:
    today, host = datetime.datetime.now(tz=datetime.UTC).date(), machine()
    return [
        "# Extraction: reading, sharing, storing, and what the pipeline costs",
        "",
        f"`.venv/bin/python {' '.join(['benchmarks/extraction.py', *sys.argv[1:]])}` made it on {today}.",
        "",
        *paragraph(
            f"{cpu()}, 2 processes at most, one thread each, {host['memory'] / GIB:.0f} GiB, no GPU; decord "
            f"{decord.__version__}, PyAV {av.__version__}, pyarrow {pa.__version__}, torch {host['torch']}, Python "
            f"{platform.python_version()}. {clips} clips of 320x240, 15 s, 30 frames a second, H.264 with B-frames, "
            f"are made first. All ways are timed in turn, {rounds} times after one that is not counted; a ratio is the "
            f"median of the ratios within a turn. The load average was {load[0]:.1f} before and {load[1]:.1f} after: "
            "where other work shares the cores, ratios between one process and two say less."
        ),
        "",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _reading(found: Found, clips: int) -> list[str]:
    read, shared = found.reading, found.sharing
    ways = {
        "vtr": "vtr, as `vtr extract` reads",
        "by decord": "vtr, `reader: decord`",
        "decord": "bare decord, one thread, in this process",
        "ffmpeg": "ffmpeg as a subprocess, one thread, told the frames' numbers",
    }
    rows = [(what, f"{read.median(n) / clips * 1e3:.0f}", f"{read.ratio('decord', n):.2f}") for n, what in ways.items()]
    needs = {
        "one": "one expert",
        "four": "four experts with other samplings",
        "apart": "the same, decoding for each",
        "sizes": "four experts with other samplings and sizes",
        "sizes apart": "the same, decoding for each",
    }
    sharing = [(w, f"{shared.median(n) / clips * 1e3:.0f}", f"{shared.ratio(n, 'one'):.2f}") for n, w in needs.items()]
    distances = [
        (
            f"{number}",
            f"{number / found.key_frames:.1f}",
            f"{times.median('decord') * 1e3:.0f}",
            f"{times.median('pyav') * 1e3:.0f}",
            f"{times.ratio('pyav', 'decord'):.2f}",
        )
        for number, times in found.distance.items()
    ]
    return [
        "## Reading",
        "",
        *paragraph(
            "30 uniform frames at 224x224, milliseconds a clip. All show the frames asked for, by the index painted in "
            "each: this is checked first. vtr reads in a process that can be killed and hands the pictures over a "
            "pipe. It asks PyAV where at least as many frames are wanted as there are key frames, and leaves out "
            "B-frames that nobody asks for and nothing refers to; else decord, which seeks, and whose times of all "
            "frames it checks before it trusts it."
        ),
        "",
        *_table(("30 frames of 224x224", "ms a clip", "rate, to bare decord"), rows),
        *paragraph(
            f"Which reader is the faster: uniform frames of a clip of 5 minutes, {TIMES} times one of the above on "
            f"end, with {found.key_frames} key frames. PyAV is asked first from one frame a key frame on."
        ),
        "",
        *_table(("frames", "frames a key frame", "decord, ms", "PyAV, ms", "time of PyAV, to decord"), distances),
        *paragraph(
            "Decoding once for several experts. The samplings are 2 and 1 frames a second, 30 and 12 uniform frames; "
            "the sizes, where they differ, the video's own, 224x224, 260x260 and 384x384. Experts of frames ask for "
            "the same size (`frame_side`) unless their class says otherwise."
        ),
        "",
        *_table(("what is decoded", "ms a clip", "time, to one expert"), sharing),
        *paragraph(
            f"Two worker processes on two cores take {found.processes.median('two'):.2f} s for {clips} clips with the "
            f"expert appearance (12 frames of each), one takes {found.processes.median('one'):.2f} s; loading the "
            "models is not counted."
        ),
        "",
    ]


def _store(store: StoreTimes) -> list[str]:
    names = {
        VTR: "vtr",
        PARQUET: "vtr, its Parquet shards directly, in stored order",
        SYNCED: "one h5 file a video, fsync",
    }
    names |= {H5: "one h5 file a video", ARRAY: "one memory-mapped array"}
    rows = [
        (
            names[name],
            *(
                f"{times.median(name) * 1e3:.0f} ms ({times.ratio(name, VTR):.1f})" if name in times.seconds else ""
                for times in (store.write, store.epoch)
            ),
            f"{store.look.median(name) / LOOKS * 1e3:.3f} ms ({store.look.ratio(name, VTR):.1f})"
            if name in store.look.seconds
            else "",
        )
        for name in (VTR, PARQUET, ARRAY, H5, SYNCED)
    ]
    return [
        "## Store",
        "",
        *paragraph(
            f"{VIDEOS:,} videos with {FEATURES} features of {DIM} numbers, float16. Written: from float32 in memory to "
            "the disk, fsync included (the h5 files also without). An epoch: all videos in random order as training "
            f"gets them, batches of {BATCH} in float32, with masks and times from vtr, without from the others; vtr "
            f"reads its training cache. One video: {LOOKS} of them at random, likewise. All reading is from the page "
            "cache. In brackets the time, to vtr's."
        ),
        "",
        *_table(("", "written", "an epoch", "one video"), rows),
        *paragraph(
            f"Before they are in a shard, extracted videos wait in one small file each, with fsync: "
            f"{store.spooled * 1e3:.1f} ms a video, which is part of the pipeline's own time below."
        ),
        "",
    ]


def _rates(found: Found) -> list[str]:
    real = found.overhead
    scale = 15 / real.duration if real else 0.0
    rows = [
        (
            name,
            f"{one.by_expert[name] / one.clips:.2f}",
            f"{(one.wall - one.by_expert[name]) / one.clips:.2f}",
            f"{real.by_expert[name] * scale:.2f}" if real and name in real.by_expert else "",
        )
        for name, one in found.rates.items()
    ]
    lines = [
        "## Experts",
        "",
        *paragraph(
            "Seconds of one core for 15 s of video. On the clips made here, which show no face, no text and say no "
            "word, each expert alone: inside the expert, and for all else (decoding, sound, writing). On the real "
            "clips, the experts of the first six rows together, inside each."
        ),
        "",
        *_table(("expert", "made clips", "all else", "real clips"), rows),
    ]
    if real is None:
        return lines
    inside = sum(real.by_expert.values())
    return [
        *lines,
        *paragraph(
            f"The six on {real.clips} real clips, {real.duration:.0f} s of video: {real.wall:.1f} s in all, "
            f"{inside:.1f} s inside the experts, {real.wall - inside:.1f} s outside: {real.ratio:.1%} more. MP4s "
            "among them hold 2 frames a second, so they decode faster than what they were made from; the column "
            '"all else" is of 30. No GPU was here: what share of the time one would be busy is not measured.'
        ),
        "",
    ]
