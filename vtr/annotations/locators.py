"""Where a video lies: what `Video.path` may hold.

    ../videos/a.mp4                                 a file (in the tables relative to the workspace)
    frames://25@../frames/a                         a folder of images, 25 a second
    tar://a.mp4::../shards/00000.tar                a member of a tar file, in fsspec's way of writing it
    frames://25@tar://a::../shards/00000.tar        the images of a tar file whose names begin with "a."
    https://host/a.mp4, s3://bucket/a.mp4, ...      whatever fsspec reads, also behind the :: of a tar member

In a member's name, ":" and "%" are written %3A and %25, so that the first "::" always ends it.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vtr.errors import InputError

IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
"""What the frames of a frame folder may end in."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FRAMES, _TAR, _FILE = "frames://", "tar://", "file://"


@dataclass(frozen=True, slots=True)
class Locator:
    """Where a video lies. `str()` of it is what `parse` reads.

    Attributes:
        path: a local path, or a URL: of the video's file, of its folder of images, or of the tar file it is in.
        member: its name in that tar file; of images, what their names begin with, up to the dot.
        images_per_second: the rate of the images, where it is images.

    Raises:
        InputError: the path or the member is empty, or the rate is not a positive number.
    """

    path: str
    member: str | None = None
    images_per_second: float | None = None

    def __post_init__(self) -> None:
        if not self.path or self.member == "":
            raise InputError(f"{self} names no file. A path, a URL or tar://MEMBER::FILE.tar was expected.")
        rate = self.images_per_second
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise InputError(f"{self}: {rate} frames a second, a positive number was expected, as in {_FRAMES}25@...")

    def __str__(self) -> str:
        text = self.path
        if self.member is not None:
            text = f"{_TAR}{self.member.replace('%', '%25').replace(':', '%3A')}::{text}"
        if self.images_per_second is not None:
            text = f"{_FRAMES}{repr(float(self.images_per_second)).removesuffix('.0')}@{text}"
        return text

    @property
    def is_local(self) -> bool:
        """Whether the file, folder or tar file lies on this machine's file systems."""
        return not is_url(self.path)

    @property
    def name(self) -> str:
        """The last part of the video's own name: of its file, folder or member."""
        path = self.path if self.is_local else urlsplit(self.path).path or self.path
        return (self.member or path).rstrip("/").rpartition("/")[2]


def is_url(text: str) -> bool:
    """Return whether a text begins like a URL, "s3://"."""
    return _SCHEME.match(text) is not None


def parse(text: str) -> Locator:
    """Return what a locator says.

    Raises:
        InputError: it is not one; the message says what was expected.
    """
    rate, member, rest = None, None, text
    if rest.startswith(_FRAMES):
        written, at, rest = rest.removeprefix(_FRAMES).partition("@")
        try:
            rate = float(written)
        except ValueError:
            at = ""
        if not at:
            raise InputError(f"{text} is no folder of frames: {_FRAMES}RATE@FOLDER was expected, as {_FRAMES}25@dir.")
    if rest.startswith(_TAR):
        written, colons, rest = rest.removeprefix(_TAR).partition("::")
        if not colons:
            raise InputError(f"{text} names no tar file: {_TAR}MEMBER::FILE.tar was expected.")
        member = unquote(written)
    if rest.startswith((_FRAMES, _TAR)):
        raise InputError(f"{text}: one of frames:// and one of tar:// are possible, in that order, and no more.")
    if rest.startswith(_FILE):
        rest = unquote(urlsplit(rest).path)
    return Locator(rest, member, rate)


def relative(text: str, root: Path) -> str:
    """Return a locator with its local path, if it has one, relative to `root`. URLs stay as they are.

    Raises:
        InputError: see `parse`.
    """
    return _with_path(text, functools.partial(_relative, str(root)))


def absolute(text: str, root: Path) -> str:
    """Return a locator with its local path, if it has one, absolute and normal; a relative one is seen from `root`.

    Raises:
        InputError: see `parse`.
    """
    return _with_path(text, functools.partial(_absolute, str(root)))


def _with_path(text: str, change: Callable[[str], str]) -> str:
    if not is_url(text):  # most are files: a million of them must not take long
        return change(text)
    locator = parse(text)
    return str(replace(locator, path=change(locator.path)) if locator.is_local else locator)


def _relative(root: str, path: str) -> str:
    folder, name = os.path.split(path)
    if name in ("", ".", "..") or f"{root}/".startswith(f"{path}/"):
        return os.path.relpath(path, root)
    known = _relative_folder(root, folder)
    return name if known == "." else f"{known}/{name}"


def _absolute(root: str, path: str) -> str:
    folder, name = os.path.split(path)
    if name in ("", ".", ".."):
        return os.path.normpath(os.path.join(root, path))  # noqa: PTH118 (Path keeps "..")
    return f"{_absolute_folder(root, folder)}/{name}".replace("//", "/")


@functools.lru_cache(maxsize=4096)
def _relative_folder(root: str, folder: str) -> str:
    return os.path.relpath(folder or ".", root)


@functools.lru_cache(maxsize=4096)
def _absolute_folder(root: str, folder: str) -> str:
    return os.path.normpath(os.path.join(root, folder))  # noqa: PTH118 (Path keeps "..")


def local_file(text: str | None) -> Path | None:
    """Return the video's own file where it is an ordinary one on this machine that is there, else None."""
    if text is None or is_url(text):
        return None
    path = Path(text)
    return path if path.is_file() else None
