"""What one server takes on: sizes, times and numbers of requests; all may be set where the server is made."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vtr.errors import InputError

MOST_RESULTS = 100
"""Results one request may ask for."""

MOST_CHARACTERS = 2000
"""Characters of a query."""

MIB = 1 << 20
UNITS = {"": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server.

    Attributes:
        most_waiting: searches that wait for the model; one more is refused with 503.
        most_batched: queries that are embedded and searched together.
        gather_seconds: while several clients ask, how long the model waits for a fuller batch.
        timeout_seconds: how long a request may take, waiting included; then 504. An upload has a time of its own.
        most_upload_bytes: an upload's body may be this large, else 413.
        most_uploads: uploads under way, being received, waiting or extracted; one more is refused with 429.
        upload_seconds: how long an upload may take to be received, and its features to be extracted; then 504.
        stop_seconds: how long requests under way may go on once the server is told to stop.
        refresh_seconds: how often the server looks whether its gallery has changed on disk.
    """

    most_waiting: int = 256
    most_batched: int = 64
    gather_seconds: float = 0.003
    timeout_seconds: float = 30.0
    most_upload_bytes: int = 200 * MIB
    most_uploads: int = 4
    upload_seconds: float = 300.0
    stop_seconds: float = 10.0
    refresh_seconds: float = 1.0


def bytes_of(text: str) -> int:
    """Return a size in bytes: "200MiB", "1.5 GiB", "4096".

    Raises:
        InputError: it is no size, or not a positive one.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    unit = match and {name.lower(): size for name, size in UNITS.items()}.get(match[2].lower())
    if not match or unit is None or (size := int(float(match[1]) * unit)) < 1:
        raise InputError(f"'{text}' is no size. A number of bytes was expected, or one with KiB, MiB or GiB: 200MiB.")
    return size
