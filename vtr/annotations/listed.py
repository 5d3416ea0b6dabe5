"""From the rows of a list to annotations: where each video lies, what it is called, which captions are its own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import fsspec

from vtr.annotations.folder import VIDEO_SUFFIXES
from vtr.annotations.lists import Entry
from vtr.annotations.locators import Locator, absolute, is_url, parse
from vtr.errors import InputError, counted, some
from vtr.packaged import lacking
from vtr.types import PARTS, Annotations, Caption, Part, Split, Video

_FACTS = ("start_seconds", "end_seconds", "source_id", "category", "part")


@dataclass
class _Known:
    """A video of the list so far."""

    entry: Entry
    locator: Locator | None
    captions: list[str]

    def continues(self, entry: Entry, locator: Locator | None) -> bool:
        """Return whether a later row only adds a caption."""
        same = all(getattr(entry, name) == getattr(self.entry, name) for name in _FACTS)
        return same and locator == self.locator and bool(self.captions) and bool(entry.captions)


@dataclass(frozen=True)
class Listed:
    """What a list holds.

    Attributes:
        annotations: its videos, local paths absolute, and captions. A video whose file is not there has no path.
        split: the split named "list", where the list has a column of parts.
        notes: what a reader should know: files that are not there, packages that URLs need.
    """

    annotations: Annotations
    split: Split | None
    notes: tuple[str, ...]


@dataclass
class _Reader:
    """Makes locators of a list's paths.

    Attributes:
        root: relative paths are seen from here; absolute.
        frame_rate: images a second of paths that are folders.
        missing: local files that are not there.
        needed: what URLs need that is not installed.
    """

    root: Path
    frame_rate: float | None
    missing: list[str] = field(default_factory=list)
    needed: dict[str, None] = field(default_factory=dict)

    def locator(self, text: str) -> Locator:
        """Return where a video lies.

        Raises:
            InputError: it is no locator, or a folder whose rate is not known, or its protocol is not known.
        """
        if not is_url(text):
            return self._file(text)
        found = parse(absolute(text, self.root))
        if not found.is_local and (needed := _needed(found.path.partition("://")[0])):
            self.needed[needed] = None
        return found

    def _file(self, text: str) -> Locator:
        path = absolute(text, self.root)
        if not os.path.isdir(path):  # noqa: PTH112 (a million of them)
            if path.lower().endswith(".tar"):
                raise InputError(
                    f"{text} is a tar file. List its videos, as tar://MEMBER::{text}, or prepare all tar files of a "
                    "folder with `vtr prepare folder`."
                )
            return Locator(path)
        if self.frame_rate is None:
            raise InputError(
                f"{text} is a folder. Give --frame-rate when it holds the frames of a video, for example "
                "--frame-rate 25, or the path of a file."
            )
        return Locator(path, images_per_second=self.frame_rate)

    def kept(self, locator: Locator) -> str | None:
        """Return the locator as text, None where its local file is not there."""
        if locator.is_local and not os.path.exists(locator.path):  # noqa: PTH110 (a million of them)
            self.missing.append(locator.path)
            return None
        return str(locator)


@cache
def _needed(scheme: str) -> str | None:
    """Return what reading a protocol's URLs needs that is not installed.

    Raises:
        InputError: fsspec does not know the protocol.
    """
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        raise InputError(f"{scheme}:// is no protocol that fsspec knows ({error}).") from error
    except ImportError as error:
        return f"not all videos can be read here yet: {lacking(f'{scheme}://', error)}"
    return None


def list_annotations(entries: Iterable[Entry], source: Path, root: Path, frame_rate: float | None = None) -> Listed:
    """Return the annotations that the rows of a list make.

    A video may have several rows that each hold a caption of it, and are otherwise equal. A video without an id is
    called what its path is, without suffix.

    Args:
        entries: the rows.
        source: the list, for errors.
        root: relative paths are seen from here.
        frame_rate: images a second of paths that are folders.

    Raises:
        InputError: a row names no video, a path is no locator, two rows are different videos of one id; with the rows.
    """
    reader = _Reader(root.resolve(), frame_rate)
    known: dict[str, _Known] = {}
    repeated: list[str] = []
    has_parts = False
    for entry in entries:
        has_parts |= entry.part is not None
        try:
            video_id, locator = _identify(entry, reader)
        except InputError as error:
            raise InputError(f"{source}, {entry.place}: {error}") from error
        before = known.setdefault(video_id, _Known(entry, locator, []))
        if before.entry is not entry and not before.continues(entry, locator):
            repeated.append(f"'{video_id}' ({before.entry.place} and {entry.place})")
        before.captions += entry.captions
    if repeated:
        raise InputError(
            f"{source} has different rows of one id: {some(repeated)}. Ids must be unique; rows that only add a "
            "caption must otherwise be equal. A column of ids can be named with --id-column."
        )
    if not known:
        raise InputError(f"{source} is empty. At least one video was expected.")
    return _listed(known, reader, has_parts)


def _identify(entry: Entry, reader: _Reader) -> tuple[str, Locator | None]:
    """Return a row's video id, and where it lies."""
    if entry.path is None:
        if entry.id is None:
            raise InputError("there is neither a path nor an id. Fill one in or drop the row.")
        return entry.id, None
    locator = reader.locator(entry.path)
    return entry.id or _default_id(entry.path, locator, reader.root), locator


def _listed(known: dict[str, _Known], reader: _Reader, has_parts: bool) -> Listed:
    videos, captions = [], []
    parts: dict[Part, list[str]] = {part: [] for part in PARTS}
    for video_id, held in known.items():
        entry = held.entry
        path = None if held.locator is None else reader.kept(held.locator)
        videos.append(Video(video_id, path, entry.start_seconds, entry.end_seconds, entry.source_id, entry.category))
        captions += [Caption(f"{video_id}#{place}", video_id, text) for place, text in enumerate(held.captions)]
        if entry.part is not None:
            parts[entry.part].append(video_id)
    split = None
    if has_parts:
        train, validation, test = (tuple(parts[part]) for part in PARTS)
        split = Split("list", train, validation, test, note="the parts that the list gives")
    return Listed(Annotations(tuple(videos), tuple(captions)), split, tuple(_notes(videos, reader)))


def _notes(videos: list[Video], reader: _Reader) -> Iterable[str]:
    if reader.missing:
        yield (
            f"{len(reader.missing)} listed files are not there: {some(reader.missing)}. Relative paths are seen from "
            f"{reader.root}; --root changes that."
        )
    yield from reader.needed
    if any(video.start_seconds is not None or video.end_seconds is not None for video in videos):
        yield (
            "nothing is cut: every file is read from its beginning to its end; start and end only say where a clip "
            "lies in its source"
        )
    files = Counter(video.path for video in videos if video.path is not None)
    if shared := sum(count for count in files.values() if count > 1):
        yield f"{counted(shared, 'video')} share their file with another one, and get the same features"


def _default_id(text: str, locator: Locator, root: Path) -> str:
    """Return what a video is called that has no id: its path without suffix, a tar file's member behind it."""
    if locator.is_local:
        written = parse(text).path if is_url(text) else text
        path = os.path.normpath(written)
        if os.path.isabs(written):  # noqa: PTH117 (a million of them)
            path = os.path.relpath(path, root) if path.startswith(f"{root}/") else path.lstrip("/")
        while path.startswith("../"):
            path = path.removeprefix("../")
    else:
        path = _id_of_url(locator.path)
    if locator.member is not None:
        path = f"{path.removesuffix('.tar')}/{os.path.normpath(locator.member).lstrip('/')}"
    stem, suffix = os.path.splitext(path)  # noqa: PTH122 (a million of them)
    return stem if suffix.lower() in VIDEO_SUFFIXES else path


def _id_of_url(url: str) -> str:
    """Return a URL without its scheme; of a web address that ends in a file's name, without what follows a "?"."""
    scheme, _, path = url.partition("://")
    if scheme not in ("http", "https"):
        return path
    parts = urlsplit(url)
    plain = f"{parts.netloc}{unquote(parts.path)}"
    return plain if PurePosixPath(plain).suffix or not parts.query else f"{plain}?{parts.query}"
