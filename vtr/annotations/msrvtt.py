"""MSR-VTT (Xu et al. 2016): the official annotations, the published splits full, 1k-A and 1k-B, and their counts."""

from __future__ import annotations

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vtr.annotations.splits import (
    check_count,
    check_disjoint,
    first_caption_a_video,
    hold_out,
    match_queries,
    one_caption_a_video,
    read_list,
)
from vtr.errors import InputError, some
from vtr.safe_pickle import load_pickle
from vtr.types import Annotations, Caption, Split, Video

JSON_FILES = ("train_val_videodatainfo.json", "test_videodatainfo.json")
QUERY_TABLE, QUERY_INDEX = "MSRVTT_JSFUSION_test.csv", "jsfusion_val_caption_idx.pkl"
CAPTIONS_PER_VIDEO = 20
COUNTS = {"train": 6513, "validate": 497, "test": 2990}
COUNTS_1K_A = {"train_list_jsfusion.txt": 9000, "val_list_jsfusion.txt": 1000}
COUNTS_1K_B = {"train_list_miech.txt": 6656, "test_list_miech.txt": 1000}
HOLDOUT = 500
"""Training videos that 1k-A-holdout keeps for validation."""

CATEGORIES = (
    *("music", "people", "gaming", "sports", "news", "education", "tv-shows", "movie", "animation", "vehicles"),
    *("howto", "travel", "science", "animals", "kids", "documentary", "food", "cooking", "beauty", "advertisement"),
)


def read_annotations(folder: Path, *, check_counts: bool = True) -> tuple[Annotations, Split]:
    """Return MSR-VTT's annotations and the full split, from the JSON files or the zips that hold them.

    Captions are in `sen_id` order within a video; a caption's id is "videoN#place".

    Args:
        folder: where the files are, or one folder below.
        check_counts: refuse what is not the published data set, whole.

    Raises:
        InputError: a file is missing, cut, or inconsistent, or a published count is not met.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder. Give the folder that holds {' and '.join(JSON_FILES)} or their zips."
        )
    videos: list[Video] = []
    sentences: list[tuple[int, str, str]] = []
    parts: dict[str, list[str]] = {part: [] for part in COUNTS}
    for name in JSON_FILES:
        source, content = _read_json(folder, name)
        for entry in _entries(source, content, "videos", {"video_id": str, "split": str}):
            videos.append(_video(source, entry))
            if entry["split"] not in parts:
                raise InputError(
                    f"{source}: {entry['video_id']} has split '{entry['split']}', one of {', '.join(parts)} expected."
                )
            parts[entry["split"]].append(entry["video_id"])
        for entry in _entries(source, content, "sentences", {"video_id": str, "sen_id": int, "caption": str}):
            sentences.append((entry["sen_id"], entry["video_id"], entry["caption"]))
    try:
        annotations = Annotations(tuple(videos), _captions(sentences))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    if check_counts:
        _check_counts(annotations, parts)
    note = "the official split of 2016: 6513/497/2990 videos, every caption a query"
    train, validation, test = (tuple(parts[name]) for name in COUNTS)
    return annotations, Split("full", train, validation, test, note=note)


def read_splits(folder: Path, annotations: Annotations, full: Split) -> tuple[list[Split], list[str]]:
    """Return the published splits with their variants, and every disagreement found on the way.

    `full` and `full-single` (one query a video); `1k-A`, which is published without a validation part and gets none,
    and `1k-A-holdout`, which keeps 500 of its training videos for selecting a checkpoint; `1k-B`.

    Raises:
        InputError: a list is missing, names an unknown video, names one twice, overlaps another, or a published count
            is not met; the 1k-A queries are missing or contradict each other.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Give the folder with train_list_jsfusion.txt and the other lists.")
    for name, ids in (("train", full.train), ("val", full.validation), ("test", full.test)):
        path = folder / f"{name}_list_full.txt"
        if path.exists() and (odd := sorted(set(read_list(path, annotations.video_by_id)) ^ set(ids))):
            raise InputError(f"{path} and the annotations disagree on {len(odd)} videos: {some(odd)}.")
    queries, differ = _read_queries(folder, annotations)
    train, test = _read_lists(folder, annotations, COUNTS_1K_A)
    if odd := sorted(set(queries) ^ set(test)):
        raise InputError(f"the 1k-A queries and {folder / 'val_list_jsfusion.txt'} name different videos: {some(odd)}.")
    query_ids = tuple(queries[video_id] for video_id in test)
    note = "JSFusion's 1k-A: 9000/1000 videos, one published query a test video, no validation part"
    first = Split("1k-A", train, (), test, query_ids, note)
    holdout = hold_out(replace(first, query_caption_ids=None), HOLDOUT)
    validation_queries = one_caption_a_video(replace(holdout, test=()), annotations).query_caption_ids or ()
    train_b, test_b = _read_lists(folder, annotations, COUNTS_1K_B)
    note = "Miech et al.'s 1k-B: 6656/1000 videos, the first caption of each test video is the query"
    second = Split("1k-B", train_b, (), test_b, note=note)
    splits = [
        full,
        one_caption_a_video(full, annotations),
        first,
        replace(holdout, query_caption_ids=validation_queries + query_ids),
        replace(second, query_caption_ids=first_caption_a_video(second, annotations)),
    ]
    return splits, differ


def _captions(sentences: list[tuple[int, str, str]]) -> tuple[Caption, ...]:
    places: dict[str, int] = {}
    captions = []
    for _, video_id, text in sorted(sentences, key=lambda sentence: sentence[0]):
        place = places.get(video_id, 0)
        places[video_id] = place + 1
        captions.append(Caption(f"{video_id}#{place}", video_id, text))
    return tuple(captions)


def _read_lists(folder: Path, annotations: Annotations, counts: Mapping[str, int]) -> list[tuple[str, ...]]:
    lists = {folder / name: read_list(folder / name, annotations.video_by_id) for name in counts}
    for (path, ids), expected in zip(lists.items(), counts.values(), strict=True):
        check_count(str(path), len(ids), expected)
    check_disjoint(lists)
    return list(lists.values())


def _read_queries(folder: Path, annotations: Annotations) -> tuple[dict[str, str], list[str]]:
    table, index = folder / QUERY_TABLE, folder / QUERY_INDEX
    if not table.exists() and not index.exists():
        raise InputError(f"{folder} holds neither {table.name} nor {index.name}: the 1k-A queries are in them.")
    texts = _read_query_table(table) if table.exists() else {}
    places = load_pickle(index) if index.exists() else None
    if places is not None and not (
        isinstance(places, dict) and all(isinstance(k, str) and isinstance(v, int) for k, v in places.items())
    ):
        raise InputError(f"{index} does not map video ids to caption numbers. Fetch it again.")
    try:
        return match_queries(texts, places, annotations)
    except InputError as error:
        raise InputError(f"{' and '.join(str(p) for p in (table, index) if p.exists())}: {error}") from error


def _read_query_table(path: Path) -> dict[str, str]:
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        if not {"video_id", "sentence"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path} has the columns {reader.fieldnames}; video_id and sentence are expected.")
        rows = [(row["video_id"], row["sentence"]) for row in reader]
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. The CSV of the 1k-A queries is expected."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV in UTF-8 ({error}). Fetch it again.") from error
    texts: dict[str, str] = {}
    for number, (video_id, text) in enumerate(rows, 2):
        if not video_id or not text or video_id in texts:
            problem = "has no video id or no sentence" if not video_id or not text else f"names {video_id} again"
            raise InputError(f"{path}: row {number} {problem}. Fetch the file again.")
        texts[video_id] = text
    return texts


def _read_json(folder: Path, name: str) -> tuple[str, Any]:
    for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
        if path.is_dir():
            raise InputError(f"{path} is a folder, the annotation file {name} was expected.")
        if path.exists():
            try:
                return str(path), _parse(str(path), path.read_bytes())
            except OSError as error:
                raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    for path in sorted((*folder.glob("*.zip"), *folder.glob("*/*.zip"))):
        try:
            with zipfile.ZipFile(path) as archive:
                inside = [member for member in archive.namelist() if Path(member).name == name]
                data = archive.read(inside[0]) if inside else b""
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise InputError(f"{path} is not a whole zip ({error}). Fetch it again.") from error
        if inside:
            return f"{path}:{inside[0]}", _parse(f"{path}:{inside[0]}", data)
    raise InputError(f"{folder} does not hold {name}, neither plain nor in a zip.")


def _parse(source: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise InputError(
            f"{source} is not whole JSON ({error}). It may have been cut in half: fetch it again."
        ) from error


def _entries(source: str, content: Any, key: str, fields: Mapping[str, type]) -> Iterator[Mapping[str, Any]]:
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise InputError(f"{source} holds no list '{key}'; MSR-VTT's official JSON has one.")
    for place, entry in enumerate(content[key]):
        if not isinstance(entry, dict):
            raise InputError(f"{source}: entry {place} of '{key}' is {entry!r:.60}, an object was expected.")
        for field, kind in fields.items():
            if not isinstance(value := entry.get(field), kind):
                raise InputError(
                    f"{source}: entry {place} of '{key}' has {field} {value!r:.60}, {kind.__name__} was expected."
                )
        yield entry


def _video(source: str, entry: Mapping[str, Any]) -> Video:
    number, start, end = entry.get("category"), entry.get("start time"), entry.get("end time")
    for name, value in (("start time", start), ("end time", end)):
        if value is not None and not isinstance(value, (int, float)):
            raise InputError(f"{source}: {entry['video_id']} has {name} {value!r:.60}, seconds were expected.")
    if not isinstance(url := entry.get("url"), (str, type(None))):
        raise InputError(f"{source}: {entry['video_id']} has url {url!r:.60}, text was expected.")
    category = CATEGORIES[number] if isinstance(number, int) and 0 <= number < len(CATEGORIES) else None
    return Video(entry["video_id"], start_seconds=start, end_seconds=end, source_id=entry.get("url"), category=category)


def _check_counts(annotations: Annotations, parts: Mapping[str, list[str]]) -> None:
    for part, expected in COUNTS.items():
        check_count(f"full {part}", len(parts[part]), expected)
    for video_id, captions in annotations.captions_by_video.items():
        check_count(f"captions of {video_id}", len(captions), CAPTIONS_PER_VIDEO)
    check_count("captions", len(annotations.captions), CAPTIONS_PER_VIDEO * sum(COUNTS.values()))
