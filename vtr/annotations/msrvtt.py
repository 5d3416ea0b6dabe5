"""MSR-VTT (Xu et al. 2016): the official annotations, the published splits full, 1k-A and 1k-B, and their counts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from vtr.annotations.ids import read_ids
from vtr.annotations.msrvtt_places import Place, find_places
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
TRAIN_1K_A, TEST_1K_A, TABLE_1K_A = "train_list_jsfusion.txt", "val_list_jsfusion.txt", "MSRVTT_train.9k.csv"
COUNTS_1K_A = {TRAIN_1K_A: 9000, TEST_1K_A: 1000}
COUNTS_1K_B = {"train_list_miech.txt": 6656, "test_list_miech.txt": 1000}
JSON_LISTS = ("msrvtt_train_9k.json", "msrvtt_test_1k.json")
"""1k-A as on Hugging Face: one object a video, with its captions, and with the query."""
TRAIN_LISTS, QUERY_TEXTS = (TRAIN_1K_A, TABLE_1K_A, JSON_LISTS[0]), (QUERY_TABLE, JSON_LISTS[1])
LISTS = (
    *(f"{part}_list_full.txt" for part in ("train", "val", "test")),
    *(*TRAIN_LISTS, TEST_1K_A, *QUERY_TEXTS, QUERY_INDEX, *COUNTS_1K_B),
)
"""The files that splits are made of, by the names under which they are passed on."""
HOLDOUT = 500
"""Training videos that 1k-A-holdout keeps for validation."""

CATEGORIES = (
    *("music", "people", "gaming", "sports", "news", "education", "tv-shows", "movie", "animation", "vehicles"),
    *("howto", "travel", "science", "animals", "kids", "documentary", "food", "cooking", "beauty", "advertisement"),
)


def read_annotations(folder: Path, *, check_counts: bool = True) -> tuple[Annotations, Split]:
    """Return MSR-VTT's annotations and the full split, from the official JSON files or the zips that hold them.

    Args:
        folder: where the files are, or a folder above.
        check_counts: refuse what is not the published data set, whole.

    Raises:
        InputError: a file is missing, cut, or inconsistent, or a published count is not met.
    """
    found = find_places(folder, JSON_FILES, zipped=JSON_FILES)

    def place(name: str) -> Place:
        if name not in found:
            raise InputError(f"{folder} does not hold {name}, neither plain nor in a zip.")
        return found[name][0]

    return read_official(map(place, JSON_FILES), check_counts=check_counts)


def read_official(places: Iterable[Place], *, check_counts: bool = True) -> tuple[Annotations, Split]:
    """Return the annotations and the full split of files in the official format: lists of videos and of sentences.

    Captions are in `sen_id` order within a video; a caption's id is "videoN#place". Where a video's `split` is not
    given, its number tells the part.

    Raises:
        InputError: as `read_annotations`.
    """
    sources: list[str] = []
    videos: list[Video] = []
    sentences: list[tuple[int, str, str]] = []
    parts: dict[str, list[str]] = {part: [] for part in COUNTS}
    for place in places:
        source, content = str(place), place.parsed()
        sources.append(source)
        for entry in entries(source, content, "videos", {"video_id": str}):
            videos.append(video_of(source, entry))
            part = str(entry["split"]) if "split" in entry else part_of(entry["video_id"])
            if part not in parts:
                raise InputError(
                    f"{source}: {entry['video_id']} has split '{part}', one of {', '.join(parts)} expected."
                )
            parts[part].append(entry["video_id"])
        for entry in entries(source, content, "sentences", {"video_id": str, "sen_id": int, "caption": str}):
            sentences.append((entry["sen_id"], entry["video_id"], entry["caption"]))
    try:
        annotations = Annotations(tuple(videos), captions_of(sentences))
    except InputError as error:
        raise InputError(f"{' and '.join(sources)}: {error}") from error
    if check_counts:
        check_published(annotations, parts)
    return annotations, full_split(parts)


def part_of(video_id: str) -> str:
    """Return which part of the full split a video is in: the parts are ranges of numbers (the official readme.txt).

    Raises:
        InputError: it is not named as MSR-VTT's videos are, or has a number of none of them.
    """
    number = video_id.removeprefix("video")
    if video_id.startswith("video") and number.isascii() and number.isdigit():
        for part, end in zip(COUNTS, accumulate(COUNTS.values()), strict=True):
            if int(number) < end:
                return part
    raise InputError(f"'{video_id}' is not a video of MSR-VTT; they are video0 to video{sum(COUNTS.values()) - 1}.")


def full_split(parts: Mapping[str, Sequence[str]]) -> Split:
    """Return the full split of video ids under train, validate and test."""
    note = "the official split of 2016: 6513/497/2990 videos, every caption a query"
    train, validation, test = (tuple(parts[name]) for name in COUNTS)
    return Split("full", train, validation, test, note=note)


@dataclass(frozen=True, slots=True)
class PublishedSplits:
    """The published splits that could be made.

    Attributes:
        splits: `full` first; each followed by its variants.
        differ: every query on which the CSV and the annotations disagree in spacing or punctuation.
        missing: what could not be made and which files that takes, a sentence each.
    """

    splits: tuple[Split, ...]
    differ: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def read_splits(folder: Path, annotations: Annotations, full: Split) -> tuple[list[Split], list[str]]:
    """Return the published splits with their variants, all of them, and every disagreement found on the way.

    Args:
        folder: where the lists and the 1k-A queries are.
        annotations: what they are lists of.
        full: the full split.

    Raises:
        InputError: as `published_splits`, or a list or the 1k-A queries are missing.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Give the folder with train_list_jsfusion.txt and the other lists.")
    made = published_splits({name: folder / name for name in LISTS if (folder / name).exists()}, annotations, full)
    if made.missing:
        raise InputError(f"{folder}: {' '.join(made.missing)}")
    return list(made.splits), list(made.differ)


def published_splits(files: Mapping[str, Path], annotations: Annotations, full: Split) -> PublishedSplits:
    """Return the splits that the lists among `files` make.

    `full` and `full-single` (one query a video); `1k-A`, which is published without a validation part and gets none,
    and `1k-A-holdout`, which keeps 500 of its training videos for selecting a checkpoint; `1k-B`.

    Args:
        files: name -> path of those of `LISTS` that there are.
        annotations: what they are lists of.
        full: the full split, which lists of it must agree with.

    Raises:
        InputError: a list names an unknown video, names one twice, overlaps another, or a published count is not met;
            the 1k-A queries contradict each other.
    """
    for name, ids in (("train", full.train), ("val", full.validation), ("test", full.test)):
        path = files.get(f"{name}_list_full.txt")
        if path and (odd := sorted(set(read_list(path, annotations.video_by_id)) ^ set(ids))):
            raise InputError(f"{path} and the annotations disagree on {len(odd)} videos: {some(odd)}.")
    splits = [full, one_caption_a_video(full, annotations)]
    differ: list[str] = []
    missing: list[str] = []
    needed = ((QUERY_TABLE, QUERY_INDEX, JSON_LISTS[1]), TRAIN_LISTS)
    if lacking := [" nor ".join(names) for names in needed if not files.keys() & set(names)]:
        missing.append(f"1k-A is not made: there is neither {' and neither '.join(lacking)}.")
    else:
        first, differ = _read_1k_a(files, annotations)
        splits += with_holdout(first, annotations)
    if lacking := [name for name in COUNTS_1K_B if name not in files]:
        missing.append(f"1k-B is not made: there is no {' and no '.join(lacking)}.")
    else:
        splits.append(_read_1k_b(files, annotations))
    return PublishedSplits(tuple(splits), tuple(differ), tuple(missing))


def with_holdout(first: Split, annotations: Annotations) -> list[Split]:
    """Return 1k-A and 1k-A-holdout."""
    holdout = hold_out(replace(first, query_caption_ids=None), HOLDOUT)
    validation = one_caption_a_video(replace(holdout, test=()), annotations).query_caption_ids or ()
    return [first, replace(holdout, query_caption_ids=validation + (first.query_caption_ids or ()))]


def split_1k_a(train: tuple[str, ...], test: tuple[str, ...], queries: Mapping[str, str]) -> Split:
    """Return 1k-A of its video ids, and of video id -> caption id of the queries."""
    note = "JSFusion's 1k-A: 9000/1000 videos, one published query a test video, no validation part"
    return Split("1k-A", train, (), test, tuple(queries[video_id] for video_id in test), note)


def captions_of(sentences: list[tuple[int, str, str]]) -> tuple[Caption, ...]:
    """Return captions of (number, video id, text), in the order of the numbers; the ids are "videoN#place"."""
    places: dict[str, int] = {}
    captions = []
    for _, video_id, text in sorted(sentences, key=lambda sentence: sentence[0]):
        place = places.get(video_id, 0)
        places[video_id] = place + 1
        captions.append(Caption(f"{video_id}#{place}", video_id, text))
    return tuple(captions)


def _read_1k_a(files: Mapping[str, Path], annotations: Annotations) -> tuple[Split, list[str]]:
    queries, differ = _read_queries(files, annotations)
    listed = next(files[name] for name in TRAIN_LISTS if name in files)
    train = _read_train(listed, annotations)
    if tested := files.get(TEST_1K_A):
        test = read_list(tested, annotations.video_by_id)
        if odd := sorted(set(queries) ^ set(test)):
            raise InputError(f"the 1k-A queries and {tested} name different videos: {some(odd)}.")
    else:  # the list's order, which is that of the numbers
        tested = next(files[name] for name in (*QUERY_TEXTS, QUERY_INDEX) if name in files)
        test = tuple(sorted(queries, key=number_of))
    check_count(str(listed), len(train), COUNTS_1K_A[TRAIN_1K_A])
    check_count(str(tested), len(test), COUNTS_1K_A[TEST_1K_A])
    check_disjoint({listed: train, tested: test})
    return split_1k_a(train, test, queries), differ


def _read_train(path: Path, annotations: Annotations) -> tuple[str, ...]:
    """Return the ids of a training list in one of its three forms."""
    if path.suffix == ".txt":
        return read_list(path, annotations.video_by_id)
    ids = read_ids(path) if path.suffix == ".csv" else tuple(entry["video_id"] for entry in listed_videos(Place(path)))
    if unknown := [video_id for video_id in ids if video_id not in annotations.video_by_id]:
        raise InputError(f"{path} names videos the annotations do not hold: {some(unknown)}.")
    return ids


def listed_videos(place: Place) -> list[Mapping[str, Any]]:
    """Return the objects of a JSON list of videos, as on Hugging Face.

    Raises:
        InputError: it is damaged or no such list, or an object has no `video_id`.
    """
    return list(entries(str(place), {"videos": place.parsed()}, "videos", {"video_id": str}))


def number_of(video_id: str) -> int:
    """Return N of "videoN", for sorting; -1 for another name."""
    digits = video_id.removeprefix("video")
    return int(digits) if digits.isascii() and digits.isdigit() else -1


def _read_1k_b(files: Mapping[str, Path], annotations: Annotations) -> Split:
    lists = {files[name]: read_list(files[name], annotations.video_by_id) for name in COUNTS_1K_B}
    for (path, ids), expected in zip(lists.items(), COUNTS_1K_B.values(), strict=True):
        check_count(str(path), len(ids), expected)
    check_disjoint(lists)
    train, test = lists.values()
    note = "Miech et al.'s 1k-B: 6656/1000 videos, the first caption of each test video is the query"
    split = Split("1k-B", train, (), test, note=note)
    return replace(split, query_caption_ids=first_caption_a_video(split, annotations))


def _read_queries(files: Mapping[str, Path], annotations: Annotations) -> tuple[dict[str, str], list[str]]:
    table = next((files[name] for name in QUERY_TEXTS if name in files), None)
    index = files.get(QUERY_INDEX)
    texts = {} if table is None else _read_query_table(table) if table.suffix == ".csv" else _query_texts(table)
    places = load_pickle(index) if index else None
    if places is not None and not (
        isinstance(places, dict) and all(isinstance(k, str) and isinstance(v, int) for k, v in places.items())
    ):
        raise InputError(f"{index} does not map video ids to caption numbers. Fetch it again.")
    try:
        return match_queries(texts, places, annotations)
    except InputError as error:
        raise InputError(f"{' and '.join(str(path) for path in (table, index) if path)}: {error}") from error


def _query_texts(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for entry in listed_videos(Place(path)):
        if not isinstance(text := entry.get("caption"), str) or entry["video_id"] in texts:
            raise InputError(
                f"{path}: {entry['video_id']} is named again or has caption {text!r:.60}, text is expected."
            )
        texts[entry["video_id"]] = text
    return texts


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


def entries(source: str, content: Any, key: str, fields: Mapping[str, type]) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of the list `key`, checked to have the fields.

    Raises:
        InputError: there is no such list, or an entry lacks a field or has another type of it.
    """
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise InputError(f"{source} holds no list '{key}'; MSR-VTT's JSON has one.")
    for place, entry in enumerate(content[key]):
        if not isinstance(entry, dict):
            raise InputError(f"{source}: entry {place} of '{key}' is {entry!r:.60}, an object was expected.")
        for field, kind in fields.items():
            if not isinstance(value := entry.get(field), kind):
                raise InputError(
                    f"{source}: entry {place} of '{key}' has {field} {value!r:.60}, {kind.__name__} was expected."
                )
        yield entry


def video_of(source: str, entry: Mapping[str, Any]) -> Video:
    """Return the video of an entry in the official format; what the entry does not hold is None.

    Raises:
        InputError: a time is not a number, or the URL not text.
    """
    number, start, end = entry.get("category"), entry.get("start time"), entry.get("end time")
    for name, value in (("start time", start), ("end time", end)):
        if value is not None and not isinstance(value, (int, float)):
            raise InputError(f"{source}: {entry['video_id']} has {name} {value!r:.60}, seconds were expected.")
    if not isinstance(url := entry.get("url"), (str, type(None))):
        raise InputError(f"{source}: {entry['video_id']} has url {url!r:.60}, text was expected.")
    category = CATEGORIES[number] if isinstance(number, int) and 0 <= number < len(CATEGORIES) else None
    return Video(entry["video_id"], start_seconds=start, end_seconds=end, source_id=entry.get("url"), category=category)


def check_published(annotations: Annotations, parts: Mapping[str, Sequence[str]]) -> None:
    """Check the counts of videos and captions against the published ones.

    Raises:
        InputError: one is not met.
    """
    for part, expected in COUNTS.items():
        check_count(f"full {part}", len(parts[part]), expected)
    for video_id, captions in annotations.captions_by_video.items():
        check_count(f"captions of {video_id}", len(captions), CAPTIONS_PER_VIDEO)
    check_count("captions", len(annotations.captions), CAPTIONS_PER_VIDEO * sum(COUNTS.values()))
