"""MSR-VTT (Xu et al. 2016): the official annotations, the published splits full, 1k-A and 1k-B, and their counts."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vtr.annotations.splits import check_count, hold_out, match_queries, one_caption_a_video, read_list
from vtr.errors import InputError
from vtr.safe_pickle import load_pickle
from vtr.types import Annotations, Caption, Split, Video

JSON_FILES = ("train_val_videodatainfo.json", "test_videodatainfo.json")
CAPTIONS_PER_VIDEO = 20
COUNTS = {"train": 6513, "validate": 497, "test": 2990}
HOLDOUT = 500
"""Training videos that 1k-A-holdout keeps for validation."""

CATEGORIES = (
    *("music", "people", "gaming", "sports", "news", "education", "tv-shows", "movie", "animation", "vehicles"),
    *("howto", "travel", "science", "animals", "kids", "documentary", "food", "cooking", "beauty", "advertisement"),
)


def read_annotations(folder: Path, *, check_counts: bool = True) -> tuple[Annotations, Split]:
    """Return MSR-VTT's annotations and the full split, from the JSON files or the zips that hold them.

    Captions are in `sen_id` order within a video; a caption's id is "videoN#place".

    Raises:
        InputError: a file is missing, cut, or inconsistent, or a published count is not met.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder. Give the folder that holds {' and '.join(JSON_FILES)} or their zips."
        )
    videos: list[Video] = []
    sentences: list[tuple[str, int, str]] = []
    parts: dict[str, list[str]] = {"train": [], "validate": [], "test": []}
    for name in JSON_FILES:
        source, content = _read_json(folder, name)
        for entry in _entries(source, content, "videos", ("video_id", "split")):
            videos.append(_video(entry))
            if entry["split"] not in parts:
                raise InputError(
                    f"{source}: {entry['video_id']} has split '{entry['split']}', one of {list(parts)} expected."
                )
            parts[entry["split"]].append(entry["video_id"])
        for entry in _entries(source, content, "sentences", ("video_id", "sen_id", "caption")):
            sentences.append((entry["video_id"], entry["sen_id"], entry["caption"]))
    places: dict[str, int] = {}
    captions = []
    for video_id, _, text in sorted(sentences, key=lambda sentence: sentence[1]):
        place = places.setdefault(video_id, 0)
        places[video_id] += 1
        captions.append(Caption(f"{video_id}#{place}", video_id, text))
    try:
        annotations = Annotations(tuple(videos), tuple(captions))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    if check_counts:
        _check_counts(annotations, parts)
    note = "the official split of 2016: 6513/497/2990 videos, every caption a query"
    train, validation, test = (tuple(parts[name]) for name in COUNTS)
    return annotations, Split("full", train, validation, test, note=note)


def read_splits(folder: Path, annotations: Annotations, full: Split) -> tuple[list[Split], list[str]]:
    """Return the splits full, 1k-A and 1k-B with their variants, and every disagreement found on the way.

    1k-A is published without a validation part and gets none; `1k-A-holdout` keeps 500 of its training videos for
    selecting a checkpoint.

    Raises:
        InputError: a list is missing, names an unknown video, overlaps another, or a published count is not met.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Give the folder with train_list_jsfusion.txt and the other lists.")
    known = annotations.video_by_id
    disagreements: list[str] = []
    for name, ids in (("train", full.train), ("val", full.validation), ("test", full.test)):
        path = folder / f"{name}_list_full.txt"
        if path.exists() and (differing := set(read_list(path, known)) ^ set(ids)):
            some = ", ".join(sorted(differing)[:5])
            raise InputError(f"{path} and the annotations disagree on {len(differing)} videos: {some}.")
    queries, differ = _jsfusion_queries(folder, annotations)
    disagreements += differ
    train, test = (
        read_list(folder / "train_list_jsfusion.txt", known),
        read_list(folder / "val_list_jsfusion.txt", known),
    )
    check_count("1k-A train", len(train), 9000)
    check_count("1k-A test", len(test), 1000)
    if odd := sorted(set(queries) ^ set(test)):
        raise InputError(f"the 1k-A queries and val_list_jsfusion.txt name different videos: {', '.join(odd[:5])}.")
    query_ids = tuple(queries[video_id] for video_id in test)
    note = "JSFusion's 1k-A: 9000/1000 videos, one published query a test video, no validation part"
    first = Split("1k-A", train, (), test, query_ids, note)
    train_b, test_b = (
        read_list(folder / "train_list_miech.txt", known),
        read_list(folder / "test_list_miech.txt", known),
    )
    check_count("1k-B test", len(test_b), 1000)
    second = Split("1k-B", train_b, (), test_b, note="Miech et al.'s 1k-B: 6656/1000 videos, every caption a query")
    return [
        full,
        one_caption_a_video(full, annotations),
        first,
        replace(hold_out(first, HOLDOUT), query_caption_ids=_with_validation(first, query_ids, annotations)),
        second,
        one_caption_a_video(second, annotations),
    ], disagreements


def _with_validation(split: Split, test_queries: tuple[str, ...], annotations: Annotations) -> tuple[str, ...]:
    single = one_caption_a_video(hold_out(split, HOLDOUT), annotations)
    held_out = set(single.validation)
    ours = tuple(q for q in single.query_caption_ids or () if annotations.caption_by_id[q].video_id in held_out)
    return ours + test_queries


def _jsfusion_queries(folder: Path, annotations: Annotations) -> tuple[dict[str, str], list[str]]:
    table, index = folder / "MSRVTT_JSFUSION_test.csv", folder / "jsfusion_val_caption_idx.pkl"
    rows: list[tuple[str, str]] = []
    if table.exists():
        with table.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            if not {"video_id", "sentence"} <= set(reader.fieldnames or ()):
                raise InputError(f"{table} has columns {reader.fieldnames}; video_id and sentence are expected.")
            rows = [(row["video_id"], row["sentence"]) for row in reader]
        check_count(f"{table}: queries", len(dict(rows)), 1000)
    elif not index.exists():
        raise InputError(f"{folder} holds neither {table.name} nor {index.name}: the 1k-A queries are in them.")
    content = load_pickle(index) if index.exists() else None
    if content is not None and not (isinstance(content, dict) and all(isinstance(v, int) for v in content.values())):
        raise InputError(f"{index} does not map video ids to caption numbers.")
    return match_queries(rows, content, annotations)


def _read_json(folder: Path, name: str) -> tuple[str, Any]:
    for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
        if path.exists():
            if path.is_dir():
                raise InputError(f"{path} is a folder, the annotation file {name} was expected.")
            return str(path), _parse(str(path), path.read_bytes())
    for path in sorted((*folder.glob("*.zip"), *folder.glob("*/*.zip"))):
        try:
            with zipfile.ZipFile(path) as archive:
                inside = [member for member in archive.namelist() if Path(member).name == name]
                if inside:
                    return f"{path}:{inside[0]}", _parse(f"{path}:{inside[0]}", archive.read(inside[0]))
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path} is not a whole zip ({error}). Fetch it again.") from error
    raise InputError(f"{folder} does not hold {name}, neither plain nor in a zip.")


def _parse(source: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise InputError(
            f"{source} is not whole JSON ({error}). It may have been cut in half: fetch it again."
        ) from error


def _entries(source: str, content: Any, key: str, fields: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise InputError(f"{source} holds no list '{key}'; MSR-VTT's official JSON has one.")
    for place, entry in enumerate(content[key]):
        missing = [field for field in fields if not isinstance(entry, dict) or field not in entry]
        if missing:
            raise InputError(f"{source}: entry {place} of '{key}' lacks {', '.join(missing)}.")
        yield entry


def _video(entry: Mapping[str, Any]) -> Video:
    number = entry.get("category")
    category = CATEGORIES[number] if isinstance(number, int) and 0 <= number < len(CATEGORIES) else None
    return Video(
        entry["video_id"],
        start_seconds=entry.get("start time"),
        end_seconds=entry.get("end time"),
        source_id=entry.get("url"),
        category=category,
    )


def _check_counts(annotations: Annotations, parts: Mapping[str, list[str]]) -> None:
    for part, expected in COUNTS.items():
        check_count(f"full {part}", len(parts[part]), expected)
    check_count("captions", len(annotations.captions), CAPTIONS_PER_VIDEO * len(annotations.videos))
    for video_id, captions in annotations.captions_by_video.items():
        check_count(f"captions of {video_id}", len(captions), CAPTIONS_PER_VIDEO)
