"""Reading frames with decord, PyAV or from a folder of images. Runs in the decoder's child process: decord can hang or crash.

All readers show the same frames for the same indices. decord scales with swscale's bicubic filter, PyAV with the same
filter by another path: their pictures differ by one or two grey levels on average.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from PIL import Image

from feature_extraction.frames import VideoInfo
from feature_extraction.probing import Heading, read_contents, video_stream

SAME_TIME_SECONDS = 2e-3
"""Decord keeps times in single precision; beyond this its frames are others than PyAV's."""
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
SEEK_FRAMES = 300
"""Frames further ahead than this are sought where a key frame lies between; nearer ones are reached by decoding on."""

Picture = NDArray[np.uint8]
SizeOf = Callable[[VideoInfo], tuple[int, int]]
"""Says at which (width, height) a video's frames are wanted."""


class Reader(Protocol):
    """An open video.

    Attributes:
        name: "decord", "pyav" or "images".
        info: the facts, with the exact duration.
        seconds: [N] when each frame appears; the first is 0.
        damage: what of the file is missing, in words; None when all is there. Final once the frames have been read.
    """

    name: str
    info: VideoInfo
    seconds: NDArray[np.float64]
    damage: str | None

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, Picture]]:
        """Yield ascending indices with their frames [H, W, 3] RGB; a frame that cannot be decoded is left out."""


class DecordReader:
    """decord: fast, unmaintained.

    Raises:
        ValueError: decord would show wrong frames of this video.
    """

    name = "decord"
    damage: str | None = None

    def __init__(self, heading: Heading, size_of: SizeOf) -> None:
        if heading.not_for_decord:
            raise ValueError(heading.not_for_decord)
        contents = None if heading.indexed else read_contents(heading)
        if contents is not None and (contents.num_hidden or contents.damage):
            raise ValueError(contents.damage or "decord shows frames that the container's edit list hides")
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        width, height = size_of(heading.info)
        self._open: Any = decord.VideoReader(heading.info.path, num_threads=1, width=width, height=height)
        times = self._open.get_frame_timestamp(range(len(self._open))).astype(np.float64)
        self.seconds = times[:, 0] - times[0, 0]
        duration = float(times[-1, 1] - times[0, 0])
        expected = heading.num_frames if contents is None else len(contents.pts)
        if len(times) != expected:
            raise ValueError(f"decord finds {len(times)} frames, the container holds {expected}")
        if (np.diff(self.seconds) <= 0).any():
            raise ValueError("decord's frame times do not ascend")
        if contents is not None:
            if np.abs(self.seconds - contents.seconds).max() > SAME_TIME_SECONDS:
                raise ValueError("decord's frame times are not the container's")
            self.seconds, duration = contents.seconds, contents.duration_seconds
        self.info = with_duration(heading.info, duration)

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, Picture]]:
        """Yield the frames at ascending indices, decoding on from one to the next: seeking for each costs more."""
        reader = self._open
        keys = np.asarray(reader.get_key_indices())
        at = 0
        for index in indices:
            key = int(keys[np.searchsorted(keys, index, side="right") - 1])
            if index - at > SEEK_FRAMES and key > at:
                reader.seek_accurate(index)
            elif index > at:
                reader.skip_frames(index - at)
            yield index, reader.next().asnumpy()
            at = index + 1


class PyAVReader:
    """PyAV: decodes from the start, maintained, and right in every container."""

    name = "pyav"

    def __init__(self, heading: Heading, size_of: SizeOf) -> None:
        self._heading, self._contents = heading, read_contents(heading)
        self.info = with_duration(heading.info, self._contents.duration_seconds)
        self.seconds = self._contents.seconds
        self.damage = self._contents.damage
        self._turns = round(heading.degrees / 90) % 4
        size = size_of(heading.info)
        self._size = size[::-1] if self._turns % 2 else size

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, Picture]]:
        """Yield the frames at ascending indices; those that do not decode are left out and told in `damage`."""
        wanted, missing, broken = list(indices), 0, 0
        for rank, frame in self._decoded():
            while wanted and self._passed(wanted[0], rank, frame.pts):
                wanted.pop(0)
                missing += 1
            if wanted and self._shows(wanted[0], rank, frame.pts):
                broken += bool(frame.is_corrupt)
                yield wanted.pop(0), self._image(frame)
            if not wanted:
                break
        missing += len(wanted)
        if self.damage is None and (missing or broken):
            parts = [f"{missing} cannot be decoded"] * bool(missing) + [f"{broken} are damaged"] * bool(broken)
            self.damage = f"of {len(indices)} frames asked for, {' and '.join(parts)}"

    def _decoded(self) -> Iterator[tuple[int, Any]]:
        """Yield all frames that decode, with their rank among those that did."""
        rank = 0
        with av.open(self._heading.info.path) as container:
            stream = video_stream(container)
            stream.codec_context.thread_count = 1
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets)
                    frames = packet.decode()
                except StopIteration:
                    return
                except av.error.FFmpegError as error:
                    if isinstance(error, av.error.EOFError):
                        return
                    continue
                for frame in frames:
                    yield rank, frame
                    rank += 1

    def _passed(self, index: int, rank: int, pts: int | None) -> bool:
        """Return whether a frame lies beyond the one asked for, which then has not been decoded."""
        if self._heading.stored_order:
            return rank > index
        following = self._contents.pts[index + 1 : index + 2]
        return pts is not None and bool(following) and pts >= following[0]

    def _shows(self, index: int, rank: int, pts: int | None) -> bool:
        if self._heading.stored_order:
            return rank == index
        return pts is not None and pts >= self._contents.pts[index]

    def _image(self, frame: Any) -> Picture:
        width, height = self._size
        resized = frame.reformat(width=width, height=height, format="rgb24", interpolation=Interpolation.BICUBIC)
        return np.ascontiguousarray(np.rot90(resized.to_ndarray(), self._turns))


class ImagesReader:
    """A folder of images, in the natural order of their names, so many a second.

    Raises:
        ValueError: there are none, or none can be read.
    """

    name = "images"

    def __init__(self, folder: str, per_second: float, size_of: SizeOf) -> None:
        self._paths = sorted((p for p in Path(folder).iterdir() if is_image(p)), key=_natural)
        self.seconds = np.arange(len(self._paths)) / per_second
        self.damage: str | None = None
        for path in self._paths:
            image = _load(path)
            if image is not None:
                self.info = VideoInfo(folder, len(self._paths) / per_second, *image.size, per_second, False)
                self._size = size_of(self.info)
                return
        raise ValueError(f"none of its {len(self._paths)} images ({', '.join(IMAGE_SUFFIXES)}) can be read")

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, Picture]]:
        """Yield the images at ascending indices; broken ones are left out and told in `damage`."""
        broken = []
        for index in indices:
            image = _load(self._paths[index])
            if image is None:
                broken.append(self._paths[index].name)
                continue
            if image.size != self._size:
                image = image.resize(self._size, Image.Resampling.BICUBIC)
            yield index, np.asarray(image)
        if broken:
            self.damage = f"of {len(indices)} images asked for, {len(broken)} cannot be read, {broken[0]} among them"


def is_image(path: Path) -> bool:
    """Return whether a file is an image by its name, hidden ones apart."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def with_duration(info: VideoInfo, seconds: float) -> VideoInfo:
    """Return the facts with an exact duration."""
    return VideoInfo(info.path, seconds, info.width, info.height, info.frames_per_second, info.has_sound)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort "frame2" before "frame10"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _load(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
