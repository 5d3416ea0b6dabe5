"""How long a file says it is. A file cut short opens and plays, and neither FFmpeg nor PyAV calls it an error."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import IO

ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
TS_SYNC, TS_BYTES = b"G", 188
EBML_HEADER, EBML_SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
BOXES = tuple(b"ftyp styp moov moof mdat free skip wide uuid pnot sidx mfra meta emsg".split())
"""What stands at the top level of MP4 and QuickTime files."""


def bytes_promised(path: str) -> int | None:
    """Return how many bytes the sizes written in a file's top-level elements add up to; None when they do not tell.

    More than the file has means that its end is missing. Read are AVI (RIFF), MP4 and QuickTime (boxes), Matroska and
    WebM (EBML) and WMV (ASF). MPEG streams carry no sizes: of a transport stream it only shows when the last of its
    packets of 188 bytes is cut, of a program stream nothing.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - the child gets a str, and Path adds nothing here
        size = os.fstat(file.fileno()).st_size
        head = file.read(16)
        if head[:4] == b"RIFF":
            return _walk(file, size, _riff)
        if head[:4] == EBML_HEADER:
            return _segment_end(file)
        if head == ASF_HEADER:
            return _walk(file, size, _asf)
        if head[4:8] in BOXES:
            return _walk(file, size, _box)
        if head[:1] == TS_SYNC and file.read(TS_BYTES)[TS_BYTES - len(head) :][:1] == TS_SYNC:
            return -(-size // TS_BYTES) * TS_BYTES
    return None


def _walk(file: IO[bytes], size: int, measure: Callable[[bytes], int]) -> int | None:
    """Go from element to element to the end of the file, or to an element that reaches beyond it."""
    at = 0
    while at < size:
        file.seek(at)
        length = measure(file.read(24))
        if not length:
            return None if at == 0 else at  # an open end, or bytes that are no element: nothing is promised
        at += length
    return at


def _riff(head: bytes) -> int:
    return 8 + int.from_bytes(head[4:8], "little") if head[:4] == b"RIFF" and head[4:8] != bytes(4) else 0


def _asf(head: bytes) -> int:
    length = int.from_bytes(head[16:24], "little")
    return length if length >= 24 else 0


def _box(head: bytes) -> int:
    if len(head) < 8 or head[4:8] not in BOXES:
        return 0
    (length,) = struct.unpack(">I", head[:4])
    if length == 1:
        length = int.from_bytes(head[8:16], "big")
    return length if length >= 8 else 0


def _segment_end(file: IO[bytes]) -> int | None:
    file.seek(len(EBML_HEADER))
    header = _variable_length(file)
    if header is None:
        return None
    file.seek(header, os.SEEK_CUR)
    if file.read(len(EBML_SEGMENT)) != EBML_SEGMENT:
        return None
    length = _variable_length(file)
    return None if length is None else file.tell() + length


def _variable_length(file: IO[bytes]) -> int | None:
    """Read an EBML size (RFC 8794, section 4); None when it is unknown, as in a live stream."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + file.read(more), "big")
    return None if value == (1 << 7 * (more + 1)) - 1 else value
