"""What a container holds, read with PyAV before frames are decoded: sizes, frame times, and whom to trust with them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from feature_extraction.containers import bytes_promised
from feature_extraction.frames import VideoInfo

DECORD_CONTAINERS = ("mp4", "matroska")
"""Where decord's frames are those that its times promise. It has no times for AVI and MPEG-PS, and after a seek in
MPEG-TS it shows frames from elsewhere without a word."""
DECORD_CODECS = ("h264", "vp8", "vp9")
"""Likewise: in MPEG-4 part 2 with B-frames, and in HEVC with the open groups of pictures that x265 makes unasked,
decord shows neighbours of the frames asked for."""
STORED_ORDER_CONTAINERS = ("avi",)
"""Where packets are numbered as stored, not as shown: the n-th frame to leave the decoder is shown at the n-th time."""
DURATION_CONTAINERS = ("flv",)
"""Where only the duration in the header tells that a file is cut short."""
PIXEL_SHAPES = (0.1, 10.0)
"""Pixel aspect ratios beyond these are damage, not intent."""
LOSES_COUNT = "decord loses count of frames in damaged files, and repeats others in place of those that are missing"
FIRST_PACKETS = 100
"""So many packets are given to the decoder in search of a first frame, which alone tells how the picture is turned."""
SHORT_SECONDS = 0.5
"""A video that ends so much before its header says is cut short."""


class NoVideoError(ValueError):
    """There is no video stream."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A video stream, or a folder of images, before decoding.

    Attributes:
        info: the container's facts, with the exact duration of what can be read.
        degrees: by how much the picture is to be turned counter-clockwise.
        pts: the presentation times of the frames that are shown, ascending, in the stream's time base.
        frame_seconds: [N] the same in seconds; the first is 0.
        video_start_seconds: when the first frame appears after the container's first packet of any stream.
        key_frames: how many of the frames can be decoded by themselves, as far as the container tells.
        stored_order: whether frames are told apart by their rank instead of their time.
        not_for_decord: why decord would show wrong frames; None where it is right.
        codec: FFmpeg's name of the codec.
        sound_track: which of the audio streams is heard, counted from 0; None when there is none.
        damage: what of the file cannot be read, in words; None when it is whole.
        images: for a folder, its images in order.
    """

    info: VideoInfo
    frame_seconds: NDArray[np.float64]
    degrees: int = 0
    pts: tuple[int, ...] = ()
    video_start_seconds: float = 0.0
    key_frames: int = 0
    stored_order: bool = False
    not_for_decord: str | None = None
    codec: str = ""
    sound_track: int | None = None
    damage: str | None = None
    images: tuple[str, ...] = ()


@dataclass(slots=True)
class _Packets:
    """What the packets of a video stream say; their data is not kept.

    Attributes:
        pts: times of the frames that are shown.
        key_frames: how many of them can be decoded by themselves.
        last_duration: of the packet shown last.
        hidden: packets that an edit list hides.
        damaged: packets that arrived incomplete.
        end_seconds: the last time in any stream that was read.
        frame: the first decoded frame.
        error: what ended the reading before the end of the file.
    """

    pts: set[int] = field(default_factory=set)
    key_frames: int = 0
    last_duration: int = 0
    hidden: int = 0
    damaged: int = 0
    end_seconds: float = 0.0
    frame: Any = None
    error: str | None = None


def probe(path: str) -> VideoInfo:
    """Return what a container says about its streams, without reading all of it.

    Raises:
        ValueError: there is no video stream.
        av.error.FFmpegError, OSError: the file is missing or no video.
    """
    with av.open(path) as container:
        stream = video_stream(container)
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
        if duration is None and container.duration is not None:
            duration = container.duration / av.time_base
        frame = next(container.decode(stream), None)
        return _info(container, path, duration or 0.0, _degrees(frame))


def inspect(path: str) -> Contents:
    """Return what a video stream holds. All packets are read, once; the first frame is decoded.

    Raises:
        NoVideoError: there is no video stream.
        ValueError: it is empty.
        av.error.FFmpegError, OSError: the file is missing or no video.
    """
    with av.open(path) as container:
        stream = video_stream(container)
        packets = _read_packets(container, stream)
        if not packets.pts:
            raise ValueError("there are no frames that could be read")
        base = float(stream.time_base or 1)
        pts = tuple(sorted(packets.pts))
        seconds = (np.asarray(pts, np.float64) - pts[0]) * base
        rate = float(stream.average_rate) if stream.average_rate else None
        length = packets.last_duration * base or _usual_gap(seconds, rate)
        damage = _damage(container, stream, path, packets)
        degrees = _degrees(packets.frame)
        return Contents(
            info=_info(container, path, float(seconds[-1]) + length, degrees),
            frame_seconds=seconds,
            degrees=degrees,
            pts=pts,
            video_start_seconds=max(0.0, pts[0] * base - (container.start_time or 0) / av.time_base),
            key_frames=packets.key_frames,
            stored_order=container.format.name in STORED_ORDER_CONTAINERS,
            not_for_decord=_not_for_decord(container, stream, degrees, packets.hidden > 0, damage),
            codec=stream.codec_context.name,
            sound_track=_sound_track(container),
            damage=damage,
        )


def video_stream(container: Any) -> Any:
    """Return the first video stream that moves; the cover picture of a sound file is none.

    Raises:
        NoVideoError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise NoVideoError("there is no video stream")


def _read_packets(container: Any, stream: Any) -> _Packets:
    packets = _Packets()
    context = stream.codec_context
    context.thread_count = 1
    last = None
    limits = container.format.name in DURATION_CONTAINERS
    streams = [stream, *container.streams.audio] if limits else [stream]
    try:
        for number, packet in enumerate(container.demux(*streams)):
            pts = packet.pts
            if pts is None or not packet.size:
                continue
            if limits:
                packets.end_seconds = max(packets.end_seconds, float((pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index != stream.index:
                    continue
            if packets.frame is None and number < FIRST_PACKETS:
                packets.frame = _first_frame(packet)
            if packet.is_discard:
                packets.hidden += 1
            elif packet.is_corrupt:
                packets.damaged += 1
            else:
                packets.pts.add(pts)
                packets.key_frames += packet.is_keyframe
                if last is None or pts > last:
                    last, packets.last_duration = pts, packet.duration or 0
    except av.error.FFmpegError as error:
        packets.error = error.strerror or str(error)
    return packets


def _first_frame(packet: Any) -> Any:
    try:
        return next(iter(packet.decode()), None)
    except av.error.FFmpegError:  # whether its frames can be decoded is for the reader to find out
        return None


def _degrees(frame: Any) -> int:
    return round(frame.rotation) % 360 if frame is not None else 0


def _info(container: Any, path: str, duration_seconds: float, degrees: int) -> VideoInfo:
    stream = video_stream(container)
    if not stream.width or not stream.height:
        raise ValueError("the video stream has no picture size")
    shape = float(stream.sample_aspect_ratio or 1)
    if not PIXEL_SHAPES[0] < shape < PIXEL_SHAPES[1]:
        shape = 1.0
    width, height = max(1, round(stream.width * shape)), stream.height
    if degrees % 180 == 90:
        width, height = height, width
    rate = float(stream.average_rate) if stream.average_rate else None
    return VideoInfo(path, duration_seconds, width, height, rate, bool(container.streams.audio))


def _sound_track(container: Any) -> int | None:
    """Return the audio stream that the container marks as the default one, else the first."""
    streams = container.streams.audio
    for number, stream in enumerate(streams):
        if stream.disposition & av.stream.Disposition.default:
            return number
    return 0 if streams else None


def _usual_gap(seconds: NDArray[np.float64], rate: float | None) -> float:
    if len(seconds) > 1:
        return float(np.median(np.diff(seconds)))
    return 1 / rate if rate else 0.04


def _damage(container: Any, stream: Any, path: str, packets: _Packets) -> str | None:
    """Return what is missing, in words."""
    there, promised = os.stat(path).st_size, bytes_promised(path)  # noqa: PTH116
    frames, declared = len(packets.pts), stream.frames
    short_of_time = (
        container.format.name in DURATION_CONTAINERS
        and (container.duration or 0) / av.time_base > packets.end_seconds + SHORT_SECONDS
    )
    if (promised or 0) > there or short_of_time:
        if declared > frames:
            return f"the file is cut short: {frames} of {declared} frames could be read"
        if (promised or 0) > there:
            return f"the file is cut short: {there} of {promised} bytes are there, with {frames} frames"
        length = (container.duration or 0) / av.time_base
        return f"the file is cut short: {packets.end_seconds:.2f} of {length:.2f} seconds could be read"
    if packets.error:
        return f"reading ends after {frames} frames: {packets.error}"
    if packets.damaged:
        return f"{packets.damaged} of {packets.damaged + frames} frames are damaged"
    return None


def _not_for_decord(
    container: Any, stream: Any, degrees: int, has_hidden_frames: bool, damage: str | None
) -> str | None:
    name, codec = container.format.name, stream.codec_context.name
    if not any(known in name for known in DECORD_CONTAINERS):
        return f"decord's frames and times cannot be relied on in {name} containers"
    if codec not in DECORD_CODECS:
        return f"decord's frames cannot be relied on for {codec} streams"
    if has_hidden_frames:
        return "decord shows frames that the container's edit list hides"
    if degrees:
        return "decord does not turn the picture as the container asks"
    if damage:
        return LOSES_COUNT
    return None
