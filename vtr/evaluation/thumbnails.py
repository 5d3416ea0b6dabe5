"""Small pictures of videos, inside the page itself."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import av

WIDTH = 160
JPEG_QUALITY = 70


def thumbnail(path: str | None) -> str | None:
    """Return a frame from the middle of a video as a `data:` URI, None where there is no file or it cannot be read."""
    if path is None or not Path(path).is_file():
        return None
    try:
        return _picture(path)
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return None


def _picture(path: str) -> str | None:
    with av.open(f"file:{path}") as container:  # "file:" keeps names with a colon from being taken for a protocol
        stream = container.streams.video[0]
        if container.duration:
            container.seek(container.duration // 2)
        frame = next(container.decode(stream), None)
    if frame is None:
        return None
    height = max(1, round(WIDTH * frame.height / frame.width))
    stored = io.BytesIO()
    image = frame.to_image(width=WIDTH, height=height)  # type: ignore[no-untyped-call]
    image.save(stored, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stored.getvalue()).decode('ascii')}"
