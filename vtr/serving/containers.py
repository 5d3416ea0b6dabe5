"""What a video file begins with: whether a file is one, and of which type, by its first bytes and not by its name."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = 4096
"""How much of a file's beginning is looked at."""

UNKNOWN = "application/octet-stream"

_BEGINNINGS = {
    b"FLV\x01": "video/x-flv",
    b"OggS": "video/ogg",
    b"\x00\x00\x01\xba": "video/mpeg",
    b"\x00\x00\x01\xb3": "video/mpeg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "video/x-ms-wmv",
    b"GIF8": "image/gif",
    b"YUV4MPEG2": "video/x-yuv4mpeg",
    b"DKIF": "video/x-ivf",
    b"\x06\x0e\x2b\x34": "application/mxf",
    b".RMF": "application/vnd.rn-realmedia",
}
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MP4_BRANDS = {b"qt  ": "video/quicktime", b"3gp": "video/3gpp", b"3g2": "video/3gpp2"}
_MATROSKA = b"\x1a\x45\xdf\xa3"
_PLAYLISTS = (b"#extm3u", b"<mpd", b"ffconcat version")
_TS_PACKETS = (188, 192)


def type_of(head: bytes) -> str | None:
    """Return the media type of a video file that begins with `head`, None where it is none that is known.

    A playlist is none: it names other files, and whoever reads it would read those.
    """
    if any(mark in head.lower() for mark in _PLAYLISTS):
        return None
    if head[4:8] in _MP4_BOXES:
        brand = head[8:12] if head[4:8] == b"ftyp" else b"qt  "
        return _MP4_BRANDS.get(brand, _MP4_BRANDS.get(brand[:3], "video/mp4"))
    if head.startswith(_MATROSKA):
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return "video/x-msvideo"
    if any(len(head) > 2 * size and head[at::size][:2] == b"GG" for size in _TS_PACKETS for at in (0, size - 188)):
        return "video/mp2t"
    return next((kind for mark, kind in _BEGINNINGS.items() if head.startswith(mark)), None)


def type_of_file(path: Path) -> str | None:
    """Return the media type of a file, None where it begins like no video.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return type_of(stream.read(HEAD_BYTES))
