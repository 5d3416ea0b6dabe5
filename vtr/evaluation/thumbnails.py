"""Small pictures of videos: as JPEG, and inside a page itself."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import av
from PIL.Image import Transpose

WIDTH = 160
JPEG_QUALITY = 70
TALLEST = 8
"""How many times its width a picture may be high: a video of one column would fill the memory."""

MOST_DECODED_SECONDS = 20.0
"""How far a video is decoded from the frame that seeking leads to; a picture from there will do."""


def thumbnail(path: str | None) -> str | None:
    """Return a frame from the middle of a video as a `data:` URI, None where there is no file or it cannot be read."""
    if path is None or not Path(path).is_file():
        return None
    try:
        picture = jpeg(path)
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"


def jpeg(path: str, at_seconds: float | None = None, width: int = WIDTH) -> bytes:
    """Return one frame of a video as JPEG.

    Args:
        path: a file.
        at_seconds: when in the video, from its beginning; beyond its end is its last frame. None is a key frame near
            its middle.
        width: of the picture, in pixels; its height follows.

    Raises:
        av.FFmpegError, IndexError, OSError, ValueError: it cannot be read, or has no picture.
    """
    with av.open(f"file:{path}") as container:  # "file:" keeps names with a colon from being taken for a protocol
        stream = container.streams.video[0]
        frame = _middle(container, stream) if at_seconds is None else _frame_at(container, stream, at_seconds)
    turns = round(frame.rotation / 90) % 4  # as phones tell how they were held, counter-clockwise
    upright = turns % 2 == 0
    shape = frame.height / frame.width if upright else frame.width / frame.height
    height = max(1, round(width * min(shape, TALLEST)))
    size = (width, height) if upright else (height, width)
    image = frame.to_image(width=size[0], height=size[1])  # type: ignore[no-untyped-call]
    if turns:
        image = image.transpose((Transpose.ROTATE_90, Transpose.ROTATE_180, Transpose.ROTATE_270)[turns - 1])
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=JPEG_QUALITY)
    return stored.getvalue()


def _middle(container: av.container.InputContainer, stream: av.VideoStream) -> av.VideoFrame:
    if container.duration:
        container.seek(container.duration // 2)
    frame = next(container.decode(stream), None)
    if frame is None:
        raise ValueError("no frame could be decoded")
    return frame


def _frame_at(container: av.container.InputContainer, stream: av.VideoStream, at_seconds: float) -> av.VideoFrame:
    """Return the frame shown at a time: the last that begins by then."""
    begins = (container.start_time or 0) / av.time_base
    last = (container.duration or 0) / av.time_base
    wanted = begins + (min(at_seconds, last) if last else at_seconds)
    container.seek(int(wanted * av.time_base))
    shown: av.VideoFrame | None = None
    first = wanted
    for frame in container.decode(stream):
        seconds = wanted if frame.time is None else frame.time
        if shown is None:
            first = seconds
        elif seconds > wanted or seconds - first > MOST_DECODED_SECONDS:
            break
        shown = frame
    if shown is None:
        raise ValueError("no frame could be decoded")
    return shown
