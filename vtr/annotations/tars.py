"""Tar files of videos, as webdataset lays them out: the files of a sample share a name up to its first dot."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vtr.annotations.folder import VIDEO_SUFFIXES
from vtr.annotations.images import are_frames
from vtr.annotations.locators import IMAGE_SUFFIXES

MOST_CAPTION_BYTES = 1 << 24
"""Larger .txt and .json members are no captions."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar file: its name as written there, and where its bytes are."""

    name: str
    offset: int
    size: int


@dataclass
class TarIndex:
    """The files of a tar file.

    Attributes:
        members: name -> member; of two with one name the later one, as `tar` itself has it.
        repeated: names that occur more than once.
        damage: why the rest cannot be read, None when the tar file is whole.
    """

    members: dict[str, Member] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    damage: str | None = None


def read_index(stream: IO[bytes]) -> TarIndex:
    """Return the files of an uncompressed tar file. Only the headers are read, whatever the size of the files.

    What lies before a damaged place is listed. Links, folders and sparse files are passed over.

    Raises:
        OSError: it cannot be read.
    """
    index = TarIndex()
    size = stream.seek(0, 2)
    stream.seek(0)
    try:
        with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                if not info.isreg() or info.issparse():
                    continue
                if info.offset_data + info.size > size:
                    index.damage = f"it ends within {info.name}"
                    return index
                if info.name in index.members:
                    index.repeated.append(info.name)
                index.members[info.name] = Member(info.name, info.offset_data, info.size)
            end = archive.offset
    except tarfile.TarError as error:
        index.damage = str(error) or "not a tar file"
        return index
    stream.seek(end)
    if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile stops at a damaged header without a word
        index.damage = f"the header at byte {end} is damaged"
    return index


@dataclass
class TarVideos:
    """What a tar file holds, by member.

    Attributes:
        videos: members that are videos.
        frames: what the names of the images of a sample begin with, up to the dot, where they are numbered frames.
        captions: video or frames -> its captions.
        others: files that are neither videos, frames nor captions, and those whose names are not UTF-8.
        unreadable: members that look like captions and are not.
        damage: see `TarIndex`.
        repeated: see `TarIndex`.
    """

    videos: list[str] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    captions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)
    damage: str | None = None
    repeated: list[str] = field(default_factory=list)


def read_tar(path: Path) -> TarVideos:
    """Return the videos, folders of frames and captions of a tar file in webdataset's layout.

    A sample's captions are those of its key.json under "captions", else its key.txt, else key.json's "caption" or
    "text". Where a key holds several videos (a.left.mp4, a.right.mp4), a.left.txt is of the one, a.txt of both.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        index = read_index(stream)
        found = TarVideos(damage=index.damage, repeated=index.repeated)
        images: dict[str, list[str]] = {}
        texts: dict[str, Member] = {}
        for name, member in index.members.items():
            suffix = Path(name).suffix.lower()
            if Path(name).name.startswith(".") or not _is_text(name):
                found.others.append(name)
            elif suffix in VIDEO_SUFFIXES:
                found.videos.append(name)
            elif suffix in IMAGE_SUFFIXES:
                images.setdefault(sample_key(name), []).append(name)
            elif suffix in (".txt", ".json") and member.size <= MOST_CAPTION_BYTES:
                texts[name] = member
            else:
                found.others.append(name)
        for key, names in images.items():
            if are_frames([name.removeprefix(f"{key}.") for name in names]):
                found.frames.append(key)
            else:
                found.others += names
        _read_captions(stream, found, texts)
    return found


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def sample_key(name: str) -> str:
    """Return what the members of a webdataset sample share: the name up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _read_captions(stream: IO[bytes], found: TarVideos, texts: Mapping[str, Member]) -> None:
    for video in [*found.videos, *found.frames]:
        stem = video if video in found.frames else str(Path(video).with_suffix(""))
        for key in dict.fromkeys((stem, sample_key(video))):
            captions = _captions_of(stream, found, texts.get(f"{key}.txt"), texts.get(f"{key}.json"))
            if captions:
                found.captions[video] = captions
                break


def _captions_of(stream: IO[bytes], found: TarVideos, text: Member | None, data: Member | None) -> tuple[str, ...]:
    values, written = _json(stream, found, data), _text(stream, found, text)
    several = values.get("captions")
    choices = (several if isinstance(several, list) else [several], [written], [values.get("caption")])
    for choice in (*choices, [values.get("text")]):
        if kept := tuple(one.strip() for one in choice if isinstance(one, str) and one.strip()):
            return kept
    return ()


def _json(stream: IO[bytes], found: TarVideos, member: Member | None) -> dict[str, Any]:
    try:
        content = {} if member is None else json.loads(_read(stream, member))
    except ValueError:  # not UTF-8, or not JSON
        found.unreadable.add(member.name if member else "")
        return {}
    return content if isinstance(content, dict) else {}


def _text(stream: IO[bytes], found: TarVideos, member: Member | None) -> str:
    try:
        return "" if member is None else _read(stream, member).decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        found.unreadable.add(member.name if member else "")
        return ""


def _read(stream: IO[bytes], member: Member) -> bytes:
    stream.seek(member.offset)
    return stream.read(member.size)


def find_images(members: Mapping[str, Member], key: str) -> Iterator[Member]:
    """Yield the images of a sample of frames, in the order of the tar file."""
    for name, member in members.items():
        if name.startswith(f"{key}.") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
            yield member
