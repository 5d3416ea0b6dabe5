"""Reading frames with decord or PyAV. Runs in the decoder's child process only: decord can hang or crash.

Both readers show the same frames for the same indices into `Contents.frame_seconds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from feature_extraction.probing import Contents, video_stream

SAME_TIME_SECONDS = 2e-3
"""Decord keeps times in single precision; beyond this its frames are others than PyAV's."""


class Reader(Protocol):
    """An open video."""

    def frames(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames [H, W, 3] RGB at ascending `indices`."""


class DecordReader:
    """decord: fast seeking, unmaintained.

    Raises:
        ValueError: decord would show wrong frames of this video.
    """

    def __init__(self, contents: Contents, size: tuple[int, int]) -> None:
        if contents.not_for_decord:
            raise ValueError(contents.not_for_decord)
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self._reader: Any = decord.VideoReader(contents.info.path, num_threads=1, width=size[0], height=size[1])
        if len(self._reader) != len(contents.pts):
            raise ValueError(f"decord finds {len(self._reader)} frames, the container holds {len(contents.pts)}")
        starts = self._reader.get_frame_timestamp(range(len(self._reader)))[:, 0].astype(np.float64)
        if np.abs(starts - starts[0] - contents.frame_seconds).max() > SAME_TIME_SECONDS:
            raise ValueError("decord's frame times are not the container's")

    def frames(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames at ascending `indices`."""
        for index in indices:
            yield self._reader[int(index)].asnumpy()


class PyAVReader:
    """PyAV: decodes from the start, maintained, and right in every container."""

    def __init__(self, contents: Contents, size: tuple[int, int]) -> None:
        self._contents = contents
        self._turns = round(contents.degrees / 90) % 4
        self._size = size[::-1] if self._turns % 2 else size

    def frames(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames at ascending `indices`; a frame that will not decode is replaced by the next that does.

        Raises:
            ValueError: the video ends before a frame asked for.
        """
        ordered = self._contents.stored_order
        wanted = [int(index) if ordered else self._contents.pts[int(index)] for index in indices]
        place = 0
        with av.open(self._contents.info.path) as container:
            stream = video_stream(container)
            stream.codec_context.thread_count = 1
            for rank, frame in enumerate(container.decode(stream)):
                reached = rank if ordered else frame.pts
                image = None
                while place < len(wanted) and reached is not None and reached >= wanted[place]:
                    image = self._image(frame) if image is None else image
                    yield image
                    place += 1
                if place == len(wanted):
                    return
        raise ValueError(f"only {place} of {len(wanted)} frames could be decoded: the file is cut or damaged")

    def _image(self, frame: Any) -> NDArray[np.uint8]:
        width, height = self._size
        resized = frame.reformat(width=width, height=height, format="rgb24", interpolation=Interpolation.BICUBIC)
        return np.ascontiguousarray(np.rot90(resized.to_ndarray(), self._turns))


READERS: dict[str, Callable[[Contents, tuple[int, int]], Reader]] = {"decord": DecordReader, "pyav": PyAVReader}
