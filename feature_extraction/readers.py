"""Reading frames with decord or PyAV. Runs in the decoder's child process only: decord can hang or crash.

Both readers answer alike: the times of all frames, and then the frames asked for, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from feature_extraction.extractor import VideoInfo


class Reader(Protocol):
    """An open video.

    Attributes:
        frame_seconds: [N] float64 ascending times at which frames appear, the first one 0.
        end_seconds: when the last frame ends.
    """

    frame_seconds: NDArray[np.float64]
    end_seconds: float

    def frames(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames [H, W, 3] RGB at ascending `indices`."""


def probe(path: str) -> VideoInfo:
    """Return what a container says about its streams.

    Raises:
        ValueError: there is no video stream.
        av.error.FFmpegError, OSError: the file is missing or no video.
    """
    with av.open(path) as container:
        if not container.streams.video:
            raise ValueError("there is no video stream")
        stream = container.streams.video[0]
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
        if duration is None and container.duration is not None:
            duration = container.duration / av.time_base
        width, height = stream.width, stream.height
        if not width or not height:
            raise ValueError("the video stream has no picture size")
        return VideoInfo(
            path=path,
            duration_seconds=duration or 0.0,
            width=width,
            height=height,
            frames_per_second=float(stream.average_rate) if stream.average_rate else None,
            has_sound=bool(container.streams.audio),
        )


class DecordReader:
    """decord: fast seeking, unmaintained."""

    def __init__(self, path: str, size: tuple[int, int]) -> None:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self._reader: Any = decord.VideoReader(path, num_threads=1, width=size[0], height=size[1])
        if not len(self._reader):
            raise ValueError("decord finds no frames")
        spans = self._reader.get_frame_timestamp(range(len(self._reader))).astype(np.float64)
        first = float(spans[:, 0].min())
        self.frame_seconds = spans[:, 0] - first
        if (np.diff(self.frame_seconds) <= 0).any():
            raise ValueError("decord knows no frame times for this container")  # AVI, for example
        self.end_seconds = float(spans[:, 1].max()) - first

    def frames(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames at ascending `indices`."""
        for index in indices:
            yield self._reader[int(index)].asnumpy()


class PyAVReader:
    """PyAV: slower to seek, maintained, and it honours the rotation that phones write."""

    def __init__(self, path: str, size: tuple[int, int]) -> None:
        self._path, self._size = path, size
        with av.open(path) as container:
            stream = container.streams.video[0]
            packets = [p for p in container.demux(stream) if p.pts is not None and p.size]
            if not packets:
                raise ValueError("there are no frames")
            base = float(stream.time_base or 1)
            self._pts = sorted({int(p.pts) for p in packets if p.pts is not None})
            last = max(packets, key=lambda p: p.pts or 0)
            rate = float(stream.average_rate or 0) or 25.0
            length = last.duration * base if last.duration else 1 / rate
        self.frame_seconds = (np.asarray(self._pts, np.float64) - self._pts[0]) * base
        self.end_seconds = float(self.frame_seconds[-1]) + length

    def frames(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames at ascending `indices`; a frame that will not decode is replaced by the next that does.

        Raises:
            ValueError: the video ends before a frame asked for.
        """
        wanted = [self._pts[int(index)] for index in indices]
        place = 0
        with av.open(self._path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                image = None
                while place < len(wanted) and frame.pts is not None and frame.pts >= wanted[place]:
                    image = self._image(frame) if image is None else image
                    yield image
                    place += 1
                if place == len(wanted):
                    return
        raise ValueError(f"only {place} of {len(wanted)} frames could be decoded: the file is cut or damaged")

    def _image(self, frame: Any) -> NDArray[np.uint8]:
        width, height = self._size
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        if turns % 2:
            width, height = height, width
        image = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(image, turns))


def rotation(path: str) -> int:
    """Return by how many degrees the container asks the picture to be turned."""
    with av.open(path) as container:
        for frame in container.decode(video=0):
            return round(getattr(frame, "rotation", 0)) % 360
    return 0


READERS: dict[str, Callable[[str, tuple[int, int]], Reader]] = {"decord": DecordReader, "pyav": PyAVReader}
