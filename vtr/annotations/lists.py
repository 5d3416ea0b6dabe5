"""Lists of videos as people have them: CSV, TSV, JSON lines, Parquet, or one path a line. Read a row at a time."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vtr.errors import InputError, nearest
from vtr.types import Part

_LIST = (
    "A list of videos is expected: .csv, .tsv, .jsonl, .parquet, or a .txt with one path or URL a line (# comments)."
)
_PARTS: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a list that are read; None takes the first of the names in `ACCEPTED` that is there."""

    path: str | None = None
    id: str | None = None
    caption: str | None = None
    start: str | None = None
    end: str | None = None
    source_id: str | None = None
    category: str | None = None
    split: str | None = None


COMMENT = "#"
"""Lines of a .txt that begin with it do not count. A file that is called so is written ./#1.mp4."""
FIELDS = tuple(field.name for field in fields(Columns))
ACCEPTED: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "url", "uri", "file", "filename", "file_name", "video_path", "video"),
    "id": ("video_id", "videoid", "id", "key"),
    "caption": ("captions", "caption", "sentence", "text", "description"),
    "start": ("start_seconds", "start", "start_time"),
    "end": ("end_seconds", "end", "end_time"),
    "source_id": ("source_id",),
    "category": ("category",),
    "split": ("split",),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a list.

    Attributes:
        place: "line 3", "row 3", as errors name it.
        path: a locator as the list has it, None where the row has none.
        id: the video's, None where the row has none.
        captions: none, one or several.
        start_seconds, end_seconds, source_id, category: as `Video` has them.
        part: the part of the split.
    """

    place: str
    path: str | None
    id: str | None
    captions: tuple[str, ...]
    start_seconds: float | None
    end_seconds: float | None
    source_id: str | None
    category: str | None
    part: Part | None


USUAL = Columns()


def read_list(path: Path, columns: Columns = USUAL) -> Iterator[Entry]:
    """Yield the rows of a list.

    Raises:
        InputError: the file is missing, damaged or of another kind, a column is missing, or a value is not what it
            should be; with the line (of Parquet, the row).
    """
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    readers[".txt"] = _text_file
    if (read := readers.get(path.suffix.lower())) is None:
        raise InputError(f"{path} ends in '{path.suffix}'. {_LIST}")
    try:
        for place, values in read(path, columns):
            try:
                yield _entry(place, values)
            except ValueError as error:
                raise InputError(f"{path}, {place}: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. {_LIST}") from error


def _entry(place: str, values: Sequence[Any]) -> Entry:
    path, video_id, captions, start, end, source, category, split = values
    part = None
    if (named := _text("split", split)) is not None and (part := _PARTS.get(named.lower())) is None:
        raise ValueError(f"the split is '{named}'; train, val or test was expected.")
    start_seconds, end_seconds = _seconds("start", start), _seconds("end", end)
    if start_seconds is not None and end_seconds is not None and start_seconds >= end_seconds:
        raise ValueError(
            f"the start is {start_seconds:g} and the end {end_seconds:g} seconds; an end after the start was expected."
        )
    return Entry(
        place,
        _text("path", path),
        _name("id", video_id),
        _captions(captions),
        start_seconds,
        end_seconds,
        _name("source_id", source),
        _name("category", category),
        part,
    )


def _text(what: str, value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise ValueError(f"the {what} is {value!r}; text was expected.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the {what} {value!r} is not Unicode text.") from None
    return value.strip() or None


def _name(what: str, value: Any) -> str | None:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(what, value)


def _captions(value: Any) -> tuple[str, ...]:
    several = value if isinstance(value, list) else [value]
    texts = (_text("caption", one) for one in several)
    return tuple(text for text in texts if text is not None)


def _seconds(what: str, value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the {what} is {value!r}; seconds were expected, as 12.5.") from None
    if math.isnan(seconds):
        return None
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"the {what} is {seconds} seconds; a number from 0 up was expected.")
    return seconds


_Rows = Iterator[tuple[str, Sequence[Any]]]


def _text_file(path: Path, columns: Columns) -> _Rows:
    if given := [name for name in FIELDS if getattr(columns, name)]:
        raise InputError(f"{path} is one path or URL a line and has no columns; the {given[0]} column was asked for.")
    for number, line in _lines(path):
        if line.strip() and not line.lstrip().startswith(COMMENT):
            yield f"line {number}", (line, *[None] * (len(FIELDS) - 1))


def _csv(path: Path, columns: Columns) -> _Rows:
    tabs = path.suffix.lower() == ".tsv"
    reader = csv.reader((line for _, line in _lines(path)), delimiter="\t" if tabs else ",", strict=True)
    try:
        heads = [head.strip() for head in next(reader, [])]
        places = [None if name is None else heads.index(name) for name in _chosen(path, "line 1", heads, columns)]
        plural = _chosen(path, "line 1", heads, columns)[FIELDS.index("caption")] == "captions"
        for row in reader:
            if not row:
                continue
            if len(row) != len(heads):
                mark = "a tab" if tabs else "a comma"
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, {len(heads)} were expected "
                    f"({', '.join(heads)}). A field that holds {mark} must be in double quotes."
                )
            values: list[Any] = [None if place is None else row[place] for place in places]
            if plural:
                values[FIELDS.index("caption")] = _json_list(path, reader.line_num, values[FIELDS.index("caption")])
            yield f"line {reader.line_num}", values
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not a {path.suffix[1:].upper()} ({error}).") from error


def _json_list(path: Path, number: int, text: str) -> Any:
    """Return what the column `captions` of a CSV holds: a JSON list, or one caption."""
    if not text.lstrip().startswith("["):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(
            f'{path}, line {number}: the captions {text[:60]} are no JSON list ({error}). Write ["one", "two"], or one '
            "caption a line in a column named caption."
        ) from error


def _json_lines(path: Path, columns: Columns) -> _Rows:
    names = [(given,) if (given := getattr(columns, name)) else ACCEPTED[name] for name in FIELDS]
    seen: dict[str, None] = {}
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error}).") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}, line {number}: {line.strip()[:60]} is no object, {{...}} was expected.")
        seen.update(dict.fromkeys(values))
        yield f"line {number}", [next((values[name] for name in some if name in values), None) for some in names]
    if seen:
        _chosen(path, "all lines", list(seen), columns)


def _parquet(path: Path, columns: Columns) -> _Rows:
    if path.is_dir():
        raise InputError(f"{path} is a folder. {_LIST}")
    try:
        with pq.ParquetFile(path) as table:
            chosen = _chosen(path, "the schema", table.schema_arrow.names, columns)
            number = 0
            for batch in table.iter_batches(batch_size=8192, columns=[name for name in chosen if name]):
                nothing = [None] * len(batch)
                held = [batch.column(name).to_pylist() if name else nothing for name in chosen]
                for values in zip(*held, strict=True):
                    number += 1
                    yield f"row {number}", values
    except pa.ArrowException as error:
        raise InputError(f"{path} is not whole Parquet ({error}). {_LIST}") from error


def _chosen(path: Path, place: str, held: Sequence[str], columns: Columns) -> list[str | None]:
    """Return which of the columns that are there each field is read from.

    Raises:
        InputError: one that was asked for is not there, or none holds paths.
    """
    plain = {name.strip().lower().replace(" ", "_"): name for name in reversed(held)}
    chosen: list[str | None] = []
    for field in FIELDS:
        if (given := getattr(columns, field)) is not None and given not in held:
            raise InputError(
                f"{path}, {place}: there is no column '{given}'.{nearest(given, list(held))} There are: "
                f"{', '.join(held) or 'none'}."
            )
        chosen.append(given or next((plain[name] for name in ACCEPTED[field] if name in plain), None))
    if chosen[0] is None:
        raise InputError(
            f"{path}, {place}: the columns are {', '.join(held) or 'none'}; one named path or url was expected. Name "
            "the column that holds them with --path-column."
        )
    return chosen


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file with their numbers, line ends kept."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{path}, line {number}: not UTF-8 ({error.reason}). Save it as UTF-8.") from error
