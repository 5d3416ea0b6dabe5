"""What a container holds, read with PyAV before frames are decoded: sizes, frame times, and whom to trust with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Contents:
    """A video stream before decoding.

    Attributes:
        info: the container's facts, with the exact duration.
        degrees: by how much the picture is to be turned counter-clockwise.
        pts: the presentation times of the frames that are shown, ascending, in the stream's time base.
        frame_seconds: [N] the same in seconds; the first is 0.
        video_start_seconds: when the first frame appears after the container's first packet of any stream.
        stored_order: whether frames are told apart by their rank instead of their time.
        not_for_decord: why decord would show wrong frames; None where it is right.
    """

    info: VideoInfo
    degrees: int
    pts: tuple[int, ...]
    frame_seconds: NDArray[np.float64]
    video_start_seconds: float
    stored_order: bool
    not_for_decord: str | None


def probe(path: str) -> VideoInfo:
    """Return what a container says about its streams, without reading all of it.

    Raises:
        ValueError: there is no video stream.
        av.error.FFmpegError, OSError: the file is missing or no video.
    """
    with av.open(path) as container:
        return _describe(container, path)[0]


def inspect(path: str) -> Contents:
    """Return what a video stream holds. All packets are read, one frame is decoded.

    Raises:
        ValueError: there is no video stream, it is empty, or it is cut short.
        av.error.FFmpegError, OSError: the file is missing or no video.
    """
    with av.open(path) as container:
        info, degrees = _describe(container, path)
    with av.open(path) as container:
        stream = video_stream(container)
        packets = [p for p in container.demux(stream) if p.pts is not None and p.size]
        if len(packets) < stream.frames - 1:
            raise ValueError(f"the file is cut short: {len(packets)} of {stream.frames} frames are there")
        shown = [p for p in packets if not p.is_discard]
        if not shown:
            raise ValueError("there are no frames")
        base = float(stream.time_base or 1)
        pts = tuple(sorted({int(p.pts) for p in shown if p.pts is not None}))
        seconds = (np.asarray(pts, np.float64) - pts[0]) * base
        last = max(shown, key=lambda p: p.pts or 0)
        length = (last.duration or 0) * base or _usual_gap(seconds, info.frames_per_second)
        first = (container.start_time or 0) / av.time_base
        return Contents(
            info=replace(info, duration_seconds=float(seconds[-1]) + length),
            degrees=degrees,
            pts=pts,
            frame_seconds=seconds,
            video_start_seconds=max(0.0, pts[0] * base - first),
            stored_order=container.format.name in STORED_ORDER_CONTAINERS,
            not_for_decord=_not_for_decord(
                container.format.name, stream.codec_context.name, degrees, len(shown) < len(packets)
            ),
        )


def video_stream(container: Any) -> Any:
    """Return the first video stream that moves; the cover picture of a sound file is none.

    Raises:
        ValueError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise ValueError("there is no video stream")


def _describe(container: Any, path: str) -> tuple[VideoInfo, int]:
    """Return the facts, and the degrees by which the picture is to be turned: only a decoded frame tells them."""
    stream = video_stream(container)
    duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
    if duration is None and container.duration is not None:
        duration = container.duration / av.time_base
    if not stream.width or not stream.height:
        raise ValueError("the video stream has no picture size")
    shape = float(stream.sample_aspect_ratio or 1)
    if not PIXEL_SHAPES[0] < shape < PIXEL_SHAPES[1]:
        shape = 1.0
    width, height = max(1, round(stream.width * shape)), stream.height
    rate = float(stream.average_rate) if stream.average_rate else None
    has_sound = bool(container.streams.audio)
    frame = next(container.decode(stream), None)
    degrees = round(frame.rotation) % 360 if frame is not None else 0
    if degrees % 180 == 90:
        width, height = height, width
    return VideoInfo(path, duration or 0.0, width, height, rate, has_sound), degrees


def _usual_gap(seconds: NDArray[np.float64], rate: float | None) -> float:
    if len(seconds) > 1:
        return float(np.median(np.diff(seconds)))
    return 1 / rate if rate else 0.04


def _not_for_decord(container: str, codec: str, degrees: int, has_hidden_frames: bool) -> str | None:
    if not any(name in container for name in DECORD_CONTAINERS):
        return f"decord's frames and times cannot be relied on in {container} containers"
    if codec not in DECORD_CODECS:
        return f"decord's frames cannot be relied on for {codec} streams"
    if has_hidden_frames:
        return "decord shows frames that the container's edit list hides"
    if degrees:
        return "decord does not turn the picture as the container asks"
    return None
