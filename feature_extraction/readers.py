"""Reading frames with decord, PyAV or from a folder of images. Runs in the decoder's child process only.

All readers show the same frames for the same indices into `Contents.frame_seconds`, scaled with the bilinear filter,
which is decord's and cannot be changed: decord has libswscale make pictures of one size while it decodes, and further
sizes are made from those (by libswscale, grey ones by Pillow); with PyAV libswscale makes every size from the decoded
frame; Pillow scales images. On clips of MSR-VTT the pictures of decord and PyAV then differ by 0.12 grey levels on
average (0.6 on the worst clip); with the bicubic filter in one of them it would be 1 to 2. Where several sizes are
asked for, decord's of one need may differ by up to 2 from those that the need alone gets; PyAV's are the same.

In AVI with B-frames a lost frame moves the times of its neighbours, within the reach of the reordering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from feature_extraction.images import open_image
from feature_extraction.probing import Contents, video_stream
from feature_extraction.sampling import common_size
from feature_extraction.wire import ReaderName

SAME_TIME_SECONDS = 2e-3
"""Decord keeps times in single precision; beyond this its frames are others than PyAV's."""
CHUNK_FRAMES = 16
CHUNK_BYTES = 16 << 20
"""So many decoded pictures are held at a time: few, so that the next are decoded while these are looked at."""

Size = tuple[int, int]
"""(width, height) in pixels."""


class Picture(Protocol):
    """One frame, of which pictures are made."""

    def at(self, size: Size, grey: bool) -> NDArray[np.uint8]:
        """Return it as [H, W, 3] RGB, or [H, W] grey (ITU-R BT.601 luma), of a size."""


class Reader(Protocol):
    """An open video.

    Attributes:
        damage: once the frames have been read, what was found damaged, in words.
    """

    damage: str | None

    def pictures(self, indices: NDArray[np.int64]) -> Iterator[tuple[int, Picture]]:
        """Yield (place in `indices`, frame) for ascending `indices`. Frames that cannot be decoded are left out."""


class DecordReader:
    """decord: fast seeking, unmaintained.

    Raises:
        ValueError: decord would show wrong frames of this video.
    """

    def __init__(self, contents: Contents, sizes: Sequence[Size], complaint: Callable[[], str]) -> None:
        if contents.not_for_decord:
            raise ValueError(contents.not_for_decord)
        import decord

        decord.logging.set_level(decord.logging.ERROR)
        self.damage: str | None = None
        self._complaint, self._scaler = complaint, _Scaler()
        width, height = common_size(sizes, contents.info.width, contents.info.height)
        self._batch = frames_at_a_time([(width, height)])
        self._reader: Any = decord.VideoReader(contents.info.path, num_threads=1, width=width, height=height)
        if len(self._reader) != len(contents.pts):
            raise ValueError(f"decord finds {len(self._reader)} frames, the container holds {len(contents.pts)}")
        starts = self._reader.get_frame_timestamp(range(len(self._reader)))[:, 0].astype(np.float64)
        tolerance = SAME_TIME_SECONDS + contents.frame_seconds * 2.0**-23
        if (np.abs(starts - starts[0] - contents.frame_seconds) > tolerance).any():
            raise ValueError("decord's frame times are not the container's")

    def pictures(self, indices: NDArray[np.int64]) -> Iterator[tuple[int, Picture]]:
        """Yield the frames at ascending `indices`.

        Raises:
            ValueError: FFmpeg reported an error. decord counts the frames that leave its decoder, so that after one
                that is lost it shows the frames behind those asked for.
        """
        for start in range(0, len(indices), self._batch):
            images = self._reader.get_batch(indices[start : start + self._batch]).asnumpy()
            if complaint := self._complaint():
                raise ValueError(f"decord met damage: {complaint}")
            for place, image in enumerate(images, start):
                yield place, _DecordPicture(image, self._scaler)
            del images, image  # or two batches are held while the next is read


class _DecordPicture:
    def __init__(self, image: NDArray[np.uint8], scaler: _Scaler) -> None:
        self._image, self._scaler = image, scaler

    def at(self, size: Size, grey: bool) -> NDArray[np.uint8]:
        if grey:  # one channel is scaled in half the time of three
            return np.asarray(Image.fromarray(self._image).convert("L").resize(size, Image.Resampling.BILINEAR))
        if self._image.shape[1::-1] == size:
            return self._image
        return self._scaler.scale(av.VideoFrame.from_ndarray(self._image, "rgb24"), size)


class _Scaler:
    """libswscale, set up once for each size."""

    def __init__(self) -> None:
        self._made: dict[Size, VideoReformatter] = {}

    def scale(self, frame: Any, size: Size) -> NDArray[np.uint8]:
        """Return a frame as [H, W, 3] RGB of a size."""
        scaler = self._made.setdefault(size, VideoReformatter())
        scaled = scaler.reformat(frame, *size, "rgb24", interpolation=Interpolation.BILINEAR)
        return scaled.to_ndarray().astype(np.uint8, copy=False)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).convert("L"))


class PyAVReader:
    """PyAV: decodes from the start, is maintained, and right in every container."""

    def __init__(self, contents: Contents, sizes: Sequence[Size], complaint: Callable[[], str]) -> None:
        del sizes
        self.damage: str | None = None
        self._contents, self._complaint = contents, complaint
        self._errors: list[str] = []

    def pictures(self, indices: NDArray[np.int64]) -> Iterator[tuple[int, Picture]]:
        """Yield the frames at ascending `indices`; those that will not decode are left out, and told in `damage`."""
        contents = self._contents
        keys = indices.tolist() if contents.stored_order else [contents.pts[index] for index in indices.tolist()]
        places = {key: place for place, key in enumerate(keys)}
        turns, scaler = round(contents.degrees / 90) % 4, _Scaler()
        for key, frame in self._decoded(places):
            if (place := places.pop(key, None)) is not None:
                if frame.is_corrupt:
                    self._errors.append("a damaged frame")
                yield place, _AVPicture(frame, turns, scaler)
            if not places:
                break
        if complaint := self._complaint():
            self._errors.append(complaint)
        if places:
            self.damage = f"{len(places)} of {len(keys)} frames asked for could not be decoded"
        elif self._errors and not contents.damage:  # of which they are the signs
            self.damage = f"the decoder met errors: {self._errors[0]}"

    def _decoded(self, wanted: dict[int, int]) -> Iterator[tuple[int, Any]]:
        """Yield (rank or presentation time, frame) for what can be decoded.

        H.264 pictures that no other refers to (nal_ref_idc 0) are not decoded unless they are wanted: nothing depends
        on them. In HEVC the like is true only within a temporal layer, and ranks need every frame.
        """
        by_rank = self._contents.stored_order
        skips = self._contents.codec == "h264" and not by_rank
        rank = 0
        with av.open(self._contents.info.path) as container:
            stream = video_stream(container)
            context = stream.codec_context
            context.thread_count = 1
            for packet in self._packets(container, stream):
                if skips:
                    needed = packet.pts is None or packet.pts in wanted
                    context.skip_frame = "DEFAULT" if needed else "NONREF"
                try:
                    frames = packet.decode()
                except av.error.FFmpegError as error:
                    self._errors.append(error.strerror or str(error))
                    rank += 1  # the frame that is lost had a rank
                    continue
                for frame in frames:
                    key = rank if by_rank else frame.pts
                    rank += 1
                    if key is not None:
                        yield key, frame

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yield packets to the end of the file, or to where it cannot be read."""
        try:
            yield from container.demux(stream)
        except av.error.FFmpegError as error:
            self._errors.append(error.strerror or str(error))


class _AVPicture:
    def __init__(self, frame: Any, turns: int, scaler: _Scaler) -> None:
        self._frame, self._turns, self._scaler = frame, turns, scaler

    def at(self, size: Size, grey: bool) -> NDArray[np.uint8]:
        image = self._scaler.scale(self._frame, size[::-1] if self._turns % 2 else size)
        image = np.ascontiguousarray(np.rot90(image, self._turns))
        return _grey(image) if grey else image


class ImagesReader:
    """A folder of images, one a frame."""

    def __init__(self, contents: Contents, sizes: Sequence[Size], complaint: Callable[[], str]) -> None:
        del sizes, complaint
        self.damage: str | None = None
        self._contents = contents

    def pictures(self, indices: NDArray[np.int64]) -> Iterator[tuple[int, Picture]]:
        """Yield the images at ascending `indices`; those that cannot be read are left out, and told in `damage`."""
        broken = []
        for place, index in enumerate(indices.tolist()):
            path = Path(self._contents.info.path, self._contents.images[index])
            try:
                image = open_image(path)
            except Exception:  # Pillow's plug-ins raise what they like
                broken.append(path.name)
                continue
            yield place, _Image(image)
        if broken:
            self.damage = f"{len(broken)} of {len(indices)} images asked for could not be read, the first {broken[0]}"


class _Image:
    def __init__(self, image: Image.Image) -> None:
        self._image = image

    def at(self, size: Size, grey: bool) -> NDArray[np.uint8]:
        image = np.asarray(self._image.resize(size, Image.Resampling.BILINEAR))
        return _grey(image) if grey else image


def frames_at_a_time(sizes: Sequence[Size]) -> int:
    """Return how many frames to hold when each is kept in all of `sizes`."""
    each = sum(width * height * 3 for width, height in sizes)
    return max(1, min(CHUNK_FRAMES, CHUNK_BYTES // max(1, each)))


def readers_in_order(
    asked_for: ReaderName, contents: Contents, sizes: Sequence[Size], indices: NDArray[np.int64]
) -> tuple[ReaderName, ...]:
    """Return the readers to try.

    For "auto" that is decord first where it can leave out most of the video: it seeks to the key frame before a frame,
    which pays where the ascending `indices` are fewer than the key frames (benchmarks/extraction.md). Else PyAV is
    first, which reads from the start to the last frame but leaves out the B-frames that nobody needs; also for pictures
    of several sizes, as it makes each from the decoded frame. decord is left out where it would show wrong frames.
    """
    if contents.images:
        return ("images",)
    if asked_for != "auto":
        return (asked_for,)
    if contents.not_for_decord:
        return ("pyav",)
    key_frames = contents.key_frames * (indices[-1] + 1) / len(contents.pts)
    seeks = len(set(sizes)) == 1 and len(indices) < key_frames
    return ("decord", "pyav") if seeks else ("pyav", "decord")


READERS: dict[str, Callable[[Contents, Sequence[Size], Callable[[], str]], Reader]] = {
    "decord": DecordReader,
    "pyav": PyAVReader,
    "images": ImagesReader,
}
