"""Lists of ids, as files: the order of a matrix's rows, the videos of a split."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path

from vtr.errors import InputError, some

ID_COLUMNS = ("caption_id", "query_id", "video_id", "id", "key")

_LIST = "A list of ids is expected: a .txt with one id a line, a .csv or a .json list."


def read_ids(path: Path) -> tuple[str, ...]:
    """Return the ids that a file lists, in order.

    Args:
        path: a .txt file with one id a line; a .csv file with a header, where the first of the columns caption_id,
            query_id, video_id, id and key that is there holds the ids; or a .json file, a list of strings. Blank lines
            do not count.

    Raises:
        InputError: the file is missing, empty, not text or of another form, or an id occurs twice (with line numbers).
    """
    readers = {".txt": _lines, ".csv": _column, ".json": _strings}
    if (read := readers.get(path.suffix.lower())) is None:
        raise InputError(f"{path} ends in '{path.suffix}'. {_LIST}")
    try:
        ids = list(read(path, path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. {_LIST}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text ({error}). {_LIST}") from error
    if not ids:
        raise InputError(f"{path} is empty. {_LIST}")
    if unnamed := [str(number) for number, name in ids if not name]:
        raise InputError(f"{path} has no id in {_place(path)}s {some(unnamed)}. Each row needs one.")
    first: dict[str, int] = {}
    if repeated := [
        f"'{name}' ({_place(path)}s {first[name]} and {n})" for n, name in ids if first.setdefault(name, n) != n
    ]:
        raise InputError(
            f"{path} holds ids more than once: {some(repeated)}. Each may be there once; where several captions of a "
            "video are meant, give caption ids."
        )
    return tuple(name for _, name in ids)


def _lines(_: Path, text: str) -> Iterable[tuple[int, str]]:
    return ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _column(path: Path, text: str) -> Iterable[tuple[int, str]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        heads = [head.strip().lower() for head in next(reader, [])]
        if not (columns := [heads.index(name) for name in ID_COLUMNS if name in heads]):
            raise InputError(
                f"{path}, line 1: the columns are {', '.join(heads) or '(none)'}; one of {', '.join(ID_COLUMNS)} "
                "was expected. Begin the file with a header."
            )
        for row in filter(None, reader):
            yield reader.line_num, row[columns[0]].strip() if columns[0] < len(row) else ""
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not a CSV ({error}). {_LIST}") from error


def _strings(path: Path, text: str) -> Iterable[tuple[int, str]]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not whole JSON ({error}). {_LIST}") from error
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(f"{path} is not a JSON list of strings. {_LIST}")
    return enumerate(values, 1)


def _place(path: Path) -> str:
    return "entry number" if path.suffix.lower() == ".json" else "line"
