"""An hour of video is read in bounded memory; all its pictures together would fill one and a half gigabytes."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
from extraction_processes import MemoryWatch, extract_command, prepare, rows, running
from tiny_clips import make_clip

from vtr.store.reader import FeatureStore

WIDTH, HEIGHT, RATE, SECONDS = 160, 120, 8, 3600
BOUND_BYTES = 750 * 2**20


def _make_hour(path: Path) -> Path:
    """Write an hour of drifting noise: ten seconds of it, its packets repeated."""
    noise = np.random.default_rng(0).integers(60, 200, (HEIGHT // 20, WIDTH // 20, 3)).repeat(20, 0).repeat(20, 1)
    pictures = [np.roll(noise, shift, 1).astype(np.uint8) for shift in range(10 * RATE)]
    short = make_clip(path.with_name("short.mp4"), pictures, "silent.mp4", rate=RATE)
    with av.open(str(short)) as source, av.open(str(path), "w") as output:
        stream = source.streams.video[0]
        copied = output.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        times = [(packet.pts, packet.dts) for packet in packets]
        length = int(10 / stream.time_base)
        for round_ in range(SECONDS // 10):
            for packet, (pts, dts) in zip(packets, times, strict=True):
                packet.pts, packet.dts, packet.stream = pts + round_ * length, dts + round_ * length, copied
                output.mux(packet)
    short.unlink()
    return path


@pytest.mark.slow
def test_an_hour_of_video_is_read_in_bounded_memory(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    _make_hour(clips / "hour.mp4")
    workspace = prepare(clips, tmp_path / "ws")
    command = extract_command(workspace.root, "everyframe", max_seconds=4000.0, timeout_seconds=80.0, dtype="float32")
    with running(command, tmp_path / "log") as started, MemoryWatch(started) as memory:
        ended = started.wait()
    assert ended.status == 0, ended.err
    ((*_, frames),) = FeatureStore(workspace.features).read("everyframe")["hour"].values
    assert round(1000 * float(frames)) == RATE * SECONDS
    assert len(rows(workspace)["everyframe"]) == 1
    together = WIDTH * HEIGHT * 3 * RATE * SECONDS
    assert together > 2 * BOUND_BYTES
    for kind in ("parent", "worker", "decoder"):
        assert 10 * 2**20 < memory.most(kind) < BOUND_BYTES, memory.peaks
    told = re.search(r"peak memory: (\d+) MiB", ended.out)
    assert told, ended.out
    seen = (memory.most("worker") + memory.most("decoder")) / 2**20
    assert abs(int(told[1]) - seen) < 0.1 * seen
