"""What a container holds, read with PyAV before frames are decoded: sizes, frame times, and whom to trust with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from feature_extraction.frames import VideoInfo

DECORD_CONTAINERS = ("mp4", "matroska")
"""Where decord's frames are those that its times promise. It has no times for AVI and MPEG-PS, and after a seek in
MPEG-TS it shows frames from elsewhere without a word."""
DECORD_CODECS = ("h264", "vp8", "vp9")
"""Likewise: in MPEG-4 part 2 with B-frames, and in HEVC with the open groups of pictures that x265 makes unasked,
decord shows neighbours of the frames asked for."""
STORED_ORDER_CONTAINERS = ("avi",)
"""Where packets are numbered as stored, not as shown: the n-th frame to leave the decoder is shown at the n-th time."""
PIXEL_SHAPES = (0.1, 10.0)
"""Pixel aspect ratios beyond these are damage, not intent."""
MISSING_SECONDS = 1.0
"""A container that says it is longer than what is there by more than this has been cut short."""


class NoVideoError(ValueError):
    """A file without a video stream."""


@dataclass(frozen=True, slots=True)
class Heading:
    """What a container says before its packets are read.

    Attributes:
        info: the container's facts.
        degrees: by how much the picture is to be turned counter-clockwise.
        container, codec: FFmpeg's names.
        num_frames: of the video stream; 0 where the container does not tell.
        indexed: whether the container's index lists every frame, all of them shown and inside the file: then a reader
            that finds as many frames needs no other count of them.
        start_seconds: when the first frame appears after the container's first packet of any stream.
        declared_seconds: the container's length; 0 where it does not tell.
        sound_track: which of the audio streams is heard: the default one, else the first; None without any.
        sound_seconds: how long that one is; 0 where the container does not tell.
    """

    info: VideoInfo
    degrees: int
    container: str
    codec: str
    num_frames: int
    indexed: bool
    start_seconds: float
    declared_seconds: float
    sound_track: int | None
    sound_seconds: float

    @property
    def not_for_decord(self) -> str | None:
        """Why decord would show wrong frames; None where it is right."""
        if not any(name in self.container for name in DECORD_CONTAINERS):
            return f"decord's frames and times cannot be relied on in {self.container} containers"
        if self.codec not in DECORD_CODECS:
            return f"decord's frames cannot be relied on for {self.codec} streams"
        if self.degrees:
            return "decord does not turn the picture as the container asks"
        return None

    @property
    def stored_order(self) -> bool:
        """Whether frames are told apart by their rank instead of their time."""
        return self.container in STORED_ORDER_CONTAINERS


@dataclass(frozen=True, slots=True)
class Contents:
    """A video stream's frames, before decoding.

    Attributes:
        duration_seconds: when the last frame ends.
        pts: the presentation times of the frames that are shown, ascending, in the stream's time base.
        seconds: [N] the same in seconds; the first is 0.
        num_hidden: frames that the container's edit list hides.
        damage: what is missing, in words; None when all is there.
    """

    duration_seconds: float
    pts: tuple[int, ...]
    seconds: NDArray[np.float64]
    num_hidden: int
    damage: str | None


def probe(path: str) -> VideoInfo:
    """Return what a container says about its streams, without reading all of it.

    Raises:
        NoVideoError: there is no video stream.
        av.error.FFmpegError, OSError: the file is missing or no video.
    """
    return read_heading(path).info


def read_heading(path: str) -> Heading:
    """Return what a container says before its packets are read. One frame is decoded: only it tells how it is turned.

    Raises:
        NoVideoError: there is no video stream.
        ValueError: it has no picture size.
        av.error.FFmpegError, OSError: the file is missing or no video.
    """
    with av.open(path) as container:
        stream: Any = video_stream(container)
        if not stream.width or not stream.height:
            raise ValueError("the video stream has no picture size")
        base = float(stream.time_base or 1)
        declared = (container.duration or 0) / av.time_base
        indexed = _is_indexed(stream, Path(path).stat().st_size)
        start = max(0.0, (stream.start_time or 0) * base - (container.start_time or 0) / av.time_base)
        track, sound_seconds = _sound_track(container)
        stream.codec_context.thread_count = 1
        degrees = _degrees(container, stream)
        shape = float(stream.sample_aspect_ratio or 1)
        if not PIXEL_SHAPES[0] < shape < PIXEL_SHAPES[1]:
            shape = 1.0
        size = max(1, round(stream.width * shape)), stream.height
        width, height = size[::-1] if degrees % 180 == 90 else size
        return Heading(
            info=VideoInfo(
                path=path,
                duration_seconds=float(stream.duration * stream.time_base) if stream.duration else declared,
                width=width,
                height=height,
                frames_per_second=float(stream.average_rate) if stream.average_rate else None,
                has_sound=track is not None,
            ),
            degrees=degrees,
            container=container.format.name,
            codec=stream.codec_context.name,
            num_frames=stream.frames,
            indexed=indexed,
            start_seconds=start,
            declared_seconds=declared,
            sound_track=track,
            sound_seconds=sound_seconds,
        )


def read_contents(heading: Heading) -> Contents:
    """Return a video stream's frames from its packets, all of which are read.

    Raises:
        ValueError: there are no frames.
        av.error.FFmpegError, OSError: the file cannot be read.
    """
    with av.open(heading.info.path) as container:
        stream = video_stream(container)
        packets = [p for p in _packets(container, stream) if p.pts is not None and p.size]
        shown = [p for p in packets if not p.is_discard]
        if not shown:
            raise ValueError("there are no frames")
        base = float(stream.time_base or 1)
    pts = tuple(sorted({int(p.pts) for p in shown}))
    seconds = (np.asarray(pts, np.float64) - pts[0]) * base
    last = max(shown, key=lambda p: p.pts)
    length = (last.duration or 0) * base or _usual_gap(seconds, heading.info.frames_per_second)
    duration = float(seconds[-1]) + length
    damage = None
    if len(packets) < heading.num_frames - 1:
        damage = f"the file is cut short: {len(packets)} of {heading.num_frames} frames are there"
    elif not heading.num_frames and duration + heading.start_seconds < heading.declared_seconds - MISSING_SECONDS:
        damage = _cut_short(heading)
    return Contents(duration, pts, seconds, len(packets) - len(shown), damage)


def video_stream(container: Any) -> Any:
    """Return the first video stream that moves; the cover picture of a sound file is none.

    Raises:
        NoVideoError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise NoVideoError("there is no video stream")


def _packets(container: Any, *streams: Any) -> Any:
    """Yield packets until the file ends or cannot be read on."""
    packets = container.demux(*streams)
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.error.FFmpegError):
            return


def _cut_short(heading: Heading) -> str | None:
    """Return that the file ends early, unless another stream, such as the sound, is as long as the container says."""
    ends = [0.0]
    with av.open(heading.info.path) as container:
        for packet in _packets(container):
            if packet.pts is not None and packet.size:
                ends.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
        end = max(ends) - (container.start_time or 0) / av.time_base
    if end >= heading.declared_seconds - MISSING_SECONDS:
        return None
    return f"the file is cut short: it ends at {end:.1f} of {heading.declared_seconds:.1f} seconds"


def _is_indexed(stream: Any, num_bytes: int) -> bool:
    entries = stream.index_entries
    if not stream.frames or len(entries) != stream.frames:
        return False
    return all(not entry.is_discard and entry.pos + entry.size <= num_bytes for entry in entries)


def _degrees(container: Any, stream: Any) -> int:
    """Return how the first frame that decodes is turned; 0 when none does."""
    for packet in _packets(container, stream):
        try:
            for frame in packet.decode():
                return int(round(frame.rotation)) % 360
        except av.error.FFmpegError:
            continue
    return 0


def _sound_track(container: Any) -> tuple[int | None, float]:
    tracks = container.streams.audio
    if not tracks:
        return None, 0.0
    default = (n for n, track in enumerate(tracks) if track.disposition & av.stream.Disposition.default)
    number = next(default, 0)
    track = tracks[number]
    return number, float(track.duration * track.time_base) if track.duration and track.time_base else 0.0


def _usual_gap(seconds: NDArray[np.float64], rate: float | None) -> float:
    if len(seconds) > 1:
        return float(np.median(np.diff(seconds)))
    return 1 / rate if rate else 0.04
