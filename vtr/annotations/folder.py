"""Anybody's videos: a folder, and a CSV of captions when there is one."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtr.errors import InputError, counted, some
from vtr.types import Caption, Video

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    )
)
UNFINISHED_SUFFIXES = frozenset((".part", ".partial", ".temp", ".tmp"))
"""What downloaders and editors put before or behind the suffix of a file they have not finished."""
ID_COLUMNS = ("video", "video_id", "videoid", "file", "filename", "file_name", "path", "id")
TEXT_COLUMNS = ("caption", "sentence", "text", "description")


@dataclass(frozen=True, slots=True)
class FoundVideos:
    """What a folder holds.

    Attributes:
        files: video id -> path; the id is the path relative to the folder, without suffix.
        others: files that are not videos, and unfinished ones, as relative paths.
    """

    files: Mapping[str, Path]
    others: Sequence[str]


def find_videos(folder: Path) -> FoundVideos:
    """Return the videos in a folder and its sub-folders, links followed, in the order of their ids.

    Hidden files and folders are passed over.

    Raises:
        InputError: the folder is missing, is a file, cannot be read, or holds no video; two files would have one id;
            or a name is not UTF-8.
    """
    found: dict[str, Path] = {}
    others: list[str] = []
    clashes: list[str] = []
    for path in sorted(path for files in visible_files(folder).values() for path in files):
        if not is_video(path):
            others.append(shown(path.relative_to(folder)))
            continue
        name = name_in(folder, path)
        if found.setdefault(name, path) is not path:
            clashes.append(f"{found[name]} and {path} would both be the video '{name}'")
    if clashes:
        raise InputError(f"{some(clashes)}. Rename or move one of them.")
    if not found:
        raise InputError(no_video(folder, others))
    return FoundVideos(found, others)


def is_video(path: Path) -> bool:
    """Return whether a file's name is that of a video that is whole."""
    unfinished = UNFINISHED_SUFFIXES.intersection(suffix.lower() for suffix in path.suffixes[-2:])
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("~") and not unfinished


def name_in(folder: Path, path: Path) -> str:
    """Return the id of a file in a folder: its relative path without suffix.

    Raises:
        InputError: the name is not UTF-8.
    """
    name = path.relative_to(folder).with_suffix("").as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the file name {os.fsencode(path)!r} is not UTF-8. Rename the file.") from error
    return name


def shown(path: Path | str) -> str:
    """Return a path as text that can be printed, whatever bytes its name is made of."""
    return str(path).encode(errors="backslashreplace").decode()


def ignored(others: Sequence[str]) -> str:
    """Return how many files were passed over and the first few, in words."""
    return f"{counted(len(others), 'other file')}{': ' if others else ''}{some(others)}"


def no_video(folder: Path, others: Sequence[str]) -> str:
    """Return what is said of a folder without videos."""
    kinds = ", ".join(sorted(VIDEO_SUFFIXES))
    return f"{folder} holds no video ({ignored(others)}). Videos end in: {kinds}."


def files_by_stem(found: FoundVideos, wanted: Mapping[str, Video]) -> dict[str, Path]:
    """Return stem -> path of those files whose name without suffix is a wanted video's id, wherever they lie.

    Raises:
        InputError: two files have one such stem; both are named.
    """
    files: dict[str, Path] = {}
    for path in found.files.values():
        if path.stem in files and path.stem in wanted:
            raise InputError(
                f"{files[path.stem]} and {path} would both be the video '{path.stem}'. Remove or move one of them."
            )
        files[path.stem] = path
    return {stem: path for stem, path in files.items() if stem in wanted}


def read_captions(path: Path, videos: Mapping[str, Path]) -> tuple[Caption, ...]:
    """Return the captions of a CSV with the columns video and caption, in file order.

    A video is given by its id, its file name, or its file name without suffix.

    Raises:
        InputError: the file is missing or not a UTF-8 CSV, a column is missing, a video is unknown or ambiguous, a
            caption is empty; with the line number.
    """
    names = _names(videos)
    captions: list[Caption] = []
    counts: dict[str, int] = {}
    for line, name, text in _rows(path):
        matches = names.get(_normal(name), set())
        if len(matches) != 1:
            problem = "is none of the videos" if not matches else f"may be any of {', '.join(sorted(matches))}"
            raise InputError(f"{path}, line {line}: '{name}' {problem}. Give the video's path in its folder.")
        if not text:
            raise InputError(f"{path}, line {line}: the caption of '{name}' is empty. Fill it in or drop the line.")
        video_id = next(iter(matches))
        place = counts.get(video_id, 0)
        counts[video_id] = place + 1
        captions.append(Caption(f"{video_id}#{place}", video_id, text))
    if not captions:
        raise InputError(f"{path} holds no captions. Leave --captions out to prepare videos without captions.")
    return tuple(captions)


def visible_files(folder: Path) -> dict[Path, list[Path]]:
    """Return a folder and those below it -> their files, links followed, hidden files and folders passed over.

    Raises:
        InputError: the folder is missing, is a file, or cannot be read.
    """
    if not folder.exists():
        raise InputError(f"{folder} does not exist. Give the folder that holds the videos.")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file. Give the folder that holds the videos.")

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}. Make it readable or move it.") from error

    found: dict[Path, list[Path]] = {}
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(parent, name) for name in sorted(files) if not name.startswith("."))
        found[Path(parent)] = [path for path in paths if path.is_file()]
    return found


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, video and caption of each row of a caption CSV."""
    try:
        reader = csv.reader(io.StringIO(_read_text(path), newline=""))
        columns = next(reader, [])
        video_column, text_column = (_column(path, columns, names) for names in (ID_COLUMNS, TEXT_COLUMNS))
        for row in reader:
            if not row:
                continue
            if len(row) != len(columns):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, {len(columns)} were expected "
                    f"({', '.join(columns)}). A caption that holds a comma must be in double quotes."
                )
            yield reader.line_num, row[video_column].strip(), row[text_column].strip()
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not a CSV ({error}).") from error


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. A CSV with the columns video,caption is expected."
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8 ({error.reason}). Save the CSV as UTF-8.") from error


def _column(path: Path, columns: Sequence[str], accepted: Sequence[str]) -> int:
    found = [column.strip().lower().replace(" ", "_") for column in columns]
    for name in accepted:
        if name in found:
            return found.index(name)
    held = ", ".join(f"'{column}'" for column in columns) or "none"
    raise InputError(
        f"{path}, line 1: the columns are {held}; one named '{accepted[0]}' is expected. Begin the file with the line "
        "video,caption."
    )


def _names(videos: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return what a CSV may call a video -> the ids that may be meant."""
    names: dict[str, set[str]] = {}
    for video_id, path in videos.items():
        for name in (video_id, path.name, path.stem, video_id + path.suffix, video_id.removesuffix(path.suffix)):
            names.setdefault(_normal(name), set()).add(video_id)
    for suffix in (True, False):  # a path in the folder is never ambiguous, and an id least of all
        names |= {_normal(video_id + suffix * path.suffix): {video_id} for video_id, path in videos.items()}
    return names


def _normal(name: str) -> str:
    """Return a name with its accents composed: file systems and spreadsheets differ in how they write them."""
    return unicodedata.normalize("NFC", name)
