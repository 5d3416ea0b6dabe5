"""Anybody's videos: a folder, and a CSV of captions when there is one."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from vtr.errors import InputError
from vtr.types import Annotations, Caption, Video

VIDEO_SUFFIXES = frozenset(
    suffix
    for suffix in (
        *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    )
)
ID_COLUMNS = ("video", "video_id", "file", "filename", "path", "id")
TEXT_COLUMNS = ("caption", "sentence", "text", "description")


def find_videos(folder: Path) -> dict[str, Path]:
    """Return id -> path of the videos in a folder and its sub-folders; the id is the relative path without suffix.

    Hidden files and folders are passed over, and so are files that are not videos.

    Raises:
        InputError: the folder is missing, is a file, or holds no video; or two files would have one id.
    """
    if not folder.exists():
        raise InputError(f"{folder} does not exist. Give the folder that holds the videos.")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file. Give the folder that holds the videos.")
    found: dict[str, Path] = {}
    others = 0
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            others += 1
            continue
        name = relative.with_suffix("").as_posix()
        if name in found:
            raise InputError(f"{found[name]} and {path} would both be the video '{name}'. Rename or move one of them.")
        found[name] = path
    if not found:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES))
        raise InputError(f"{folder} holds no video ({others} other files). Videos end in: {kinds}.")
    return found


def read_captions(path: Path, videos: Mapping[str, Path]) -> tuple[Caption, ...]:
    """Return the captions of a CSV with the columns video and caption.

    A video is given by its id, its file name, or its file name without suffix.

    Raises:
        InputError: the file is missing or not a UTF-8 CSV, a column is missing, a video is unknown or ambiguous, a
            caption is empty; with the line number.
    """
    names = _names(videos)
    captions: list[Caption] = []
    counts: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            id_column, text_column = (
                _column(path, reader.fieldnames, accepted) for accepted in (ID_COLUMNS, TEXT_COLUMNS)
            )
            for row in reader:
                name, text = (row[id_column] or "").strip(), (row[text_column] or "").strip()
                matches = names.get(name, set())
                if len(matches) != 1:
                    problem = "is none of the videos" if not matches else f"may be any of {', '.join(sorted(matches))}"
                    raise InputError(
                        f"{path}, line {reader.line_num}: '{name}' {problem}. Give the video's path or id."
                    )
                if not text:
                    raise InputError(
                        f"{path}, line {reader.line_num}: the caption of '{name}' is empty. Fill it in or drop it."
                    )
                video_id = next(iter(matches))
                place = counts.setdefault(video_id, 0)
                counts[video_id] += 1
                captions.append(Caption(f"{video_id}#{place}", video_id, text))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. A CSV with the columns video,caption is expected."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV in UTF-8 ({error}).") from error
    if not captions:
        raise InputError(f"{path} holds no captions. Leave --captions out to prepare videos without captions.")
    return tuple(captions)


def folder_annotations(folder: Path, captions: Path | None) -> Annotations:
    """Return the annotations of a folder of videos.

    Raises:
        InputError: see `find_videos` and `read_captions`.
    """
    found = find_videos(folder)
    videos = tuple(Video(name, str(path.resolve())) for name, path in found.items())
    return Annotations(videos, read_captions(captions, found) if captions else ())


def _names(videos: Mapping[str, Path]) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for video_id, path in videos.items():
        for name in {video_id, path.name, path.stem, video_id + path.suffix}:
            names.setdefault(name, set()).add(video_id)
    for video_id in videos:
        names[video_id] = {video_id}  # an exact id is never ambiguous
    return names


def _column(path: Path, columns: object, accepted: tuple[str, ...]) -> str:
    found = [str(column) for column in columns or ()] if isinstance(columns, (list, tuple)) else []
    for name in accepted:
        for column in found:
            if column.strip().lower() == name:
                return column
    raise InputError(f"{path} has the columns {', '.join(found) or 'none'}; a column '{accepted[0]}' is expected.")
