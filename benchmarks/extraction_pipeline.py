"""The measurements of benchmarks/extraction.py that run the pipeline's own processes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_extraction.experts import EXTRACTORS
from feature_extraction.extractor import Expert, Extracted, Reading, Sound
from feature_extraction.frames import Frames, VideoInfo
from feature_extraction.plan import Task
from feature_extraction.pool import Pool
from feature_extraction.probing import probe
from feature_extraction.spool import Spool
from feature_extraction.worker import VideoWorker
from vtr.extract_config import ExtractConfig

EXPERTS = ("appearance", "audio", "face", "motion", "ocr", "speech")


@dataclass(frozen=True)
class Overhead:
    """Where one worker's time goes.

    Attributes:
        clips: how many clips were read.
        duration: seconds of video in them.
        wall: seconds from the first clip to the last.
        by_expert: expert -> seconds inside it.
    """

    clips: int
    duration: float
    wall: float
    by_expert: dict[str, float]

    @property
    def ratio(self) -> float:
        """What is not inside experts, over what is."""
        inside = sum(self.by_expert.values())
        return (self.wall - inside) / inside


class _Timed(Expert):
    """An expert whose time is taken."""

    def __init__(self, name: str, expert: Expert, seconds: dict[str, float]) -> None:
        self._name, self._expert, self._seconds = name, expert, seconds
        self.spec, self.frames, self.sound, self.scaler = expert.spec, expert.frames, expert.sound, expert.scaler

    def take(self, run: Any, *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return run(*arguments)
        finally:
            self._seconds[self._name] = self._seconds.get(self._name, 0.0) + time.perf_counter() - started

    def begin(self, info: VideoInfo) -> Reading:
        return _TimedReading(self, self.take(self._expert.begin, info))


class _TimedReading(Reading):
    def __init__(self, expert: _Timed, reading: Reading) -> None:
        self._expert, self._reading = expert, reading

    def add(self, frames: Frames) -> None:
        self._expert.take(self._reading.add, frames)

    def finish(self, sound: Sound | None) -> Extracted | None:
        found: Extracted | None = self._expert.take(self._reading.finish, sound)
        return found


def measure_overhead(clips: Sequence[Path], experts: Sequence[str] = EXPERTS) -> Overhead:
    """Return where the time of one worker goes that reads clips, decoding and spooling included; one thread."""
    seconds: dict[str, float] = {}
    config = ExtractConfig(experts=tuple(experts))
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoWorker(config, experts, EXTRACTORS, Path(folder, "scratch")) as worker,
    ):
        worker.process(Task("warm", str(clips[0]), tuple(experts)))
        worker.extractors = {name: _Timed(name, expert, seconds) for name, expert in worker.extractors.items()}
        spool = Spool(Path(folder, "spool"), {})
        started = time.perf_counter()
        for path in clips:
            spool.put(worker.process(Task(path.stem, str(path), tuple(experts))))
        wall = time.perf_counter() - started
    return Overhead(len(clips), sum(probe(str(path)).duration_seconds for path in clips), wall, seconds)


def measure_processes(clips: Sequence[Path], workers: int) -> float:
    """Return the seconds that a pool needs for the clips once its workers are loaded, with the expert appearance."""
    config = ExtractConfig(experts=("appearance",), sampling="uniform", max_frames=12)
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(workers, config, ("appearance",), EXTRACTORS, Spool(Path(folder, "spool"), {}))
        try:
            pool.wait_ready()
            warm = [Task(f"warm{number}", str(clips[0]), ("appearance",)) for number in range(4 * workers)]
            for _ in pool.run(warm):  # all workers are loaded when this ends
                pass
            tasks = [Task(path.stem, str(path), ("appearance",)) for path in clips]
            started = time.perf_counter()
            for _ in pool.run(tasks):
                pass
            return time.perf_counter() - started
        finally:
            pool.close()
