"""The layouts in which MSR-VTT is passed on, recognised by the names of their annotation files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtr.annotations.folder import files_by_stem, find_videos, ignored, is_video, shown, visible_files
from vtr.annotations.msrvtt import (
    CAPTIONS_PER_VIDEO,
    COUNTS,
    COUNTS_1K_A,
    JSON_FILES,
    JSON_LISTS,
    LISTS,
    PublishedSplits,
    captions_of,
    check_published,
    entries,
    full_split,
    listed_videos,
    number_of,
    part_of,
    published_splits,
    read_official,
    split_1k_a,
    video_of,
    with_holdout,
)
from vtr.annotations.msrvtt_places import Place, files_of, find_places, members
from vtr.annotations.splits import check_count, check_disjoint
from vtr.errors import InputError, some
from vtr.types import Annotations, Split, Video

Read = tuple[Annotations, Split]
"""Annotations, with the split that they tell by themselves: full, or 1k-A of the lists of 1k-A."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout: what it is called, the annotation files it is known by, what they lack, and what reads them."""

    name: str
    files: tuple[str, ...]
    lacks: str
    read: Callable[[Sequence[Place]], Read]


@dataclass(frozen=True, slots=True)
class Recognised:
    """A layout found in a folder: where its annotation files lie, and what else a reader should know."""

    layout: Layout
    places: tuple[Place, ...]
    notes: tuple[str, ...]


def recognise(folder: Path) -> Recognised:
    """Return which layout's annotation files a folder holds, the most complete where there are several.

    Raises:
        InputError: the folder is missing or is a zip, or holds the files of no layout; the message lists them.
    """
    if folder.is_file():
        raise InputError(
            f"{folder} is a file. Unpack it (unzip {folder.name} -d DIR) and give DIR: videos are read as files."
        )
    names = [name for layout in LAYOUTS for name in layout.files]
    found = find_places(folder, names, zipped=JSON_FILES)
    held = [layout for layout in LAYOUTS if all(name in found for name in layout.files)]
    if not held:
        raise InputError(_unknown(folder, found))
    chosen = held[0]
    notes = [f"layout: {chosen.name}: {', '.join(_below(folder, found[name][0]) for name in chosen.files)}"]
    if chosen.lacks:
        notes.append(f"these annotations have {chosen.lacks}")
    unread = [name for layout in held[1:] if layout is not LISTS_1K_A for name in layout.files]  # those serve as lists
    others = [_below(folder, place) for name in unread for place in found[name]]
    others += [_below(folder, place) for name in chosen.files for place in found[name][1:]]
    if others:
        notes.append(f"other annotations there, not read: {some(others)}")
    return Recognised(chosen, tuple(found[name][0] for name in chosen.files), tuple(notes))


def splits_in(folder: Path, recognised: Recognised, read: Read) -> tuple[PublishedSplits, list[str]]:
    """Return the splits that can be made of the lists in a folder, and notes on the lists that were used.

    Args:
        folder: where the lists are, or a folder above.
        recognised: the annotations' layout.
        read: the annotations and the split that they tell.

    Raises:
        InputError: a list holds a mistake; see `vtr.annotations.msrvtt.published_splits`.
    """
    annotations, told = read
    if recognised.layout is LISTS_1K_A:
        missing = "full and 1k-B are not made: these annotations have one caption of each 1k-A test video."
        return PublishedSplits(tuple(with_holdout(told, annotations)), missing=(missing,)), []
    found = find_places(folder, LISTS)
    made = published_splits(files_of(found), annotations, told)
    used = sorted({_below(folder, Place(places[0].path.parent)) for places in found.values()})
    notes = [f"lists of splits: {len(found)} in {' and '.join(used)}"] if found else []
    if copies := [_below(folder, place) for places in found.values() for place in places[1:]]:
        notes.append(f"other copies of the lists there, not read: {some(copies)}")
    return made, notes


def videos_in(folder: Path, wanted: Mapping[str, Video]) -> tuple[dict[str, Path], list[str]]:
    """Return video id -> file of a whole data set's folder, wherever below it the files lie, and notes on them.

    Args:
        folder: where to look.
        wanted: the videos by id.

    Raises:
        InputError: two files would be one video.
    """
    held = [path for paths in visible_files(folder).values() for path in paths]
    if not any(map(is_video, held)):
        zips = sorted(path for path in held if path.suffix.lower() == ".zip")
        packed = [shown(path.relative_to(folder)) for path in zips if any(is_video(Path(m)) for m in members(path))]
        return {}, [f"no video is unpacked in {folder}" + (f"; unzip {' and '.join(packed)}" if packed else "")]
    found = find_videos(folder)
    try:
        files = files_by_stem(found, wanted)
    except InputError as error:
        raise InputError(f"{error} Or give the folder that is meant with --videos.") from error
    parents = sorted({_below(folder, Place(path.parent)) for path in files.values()})
    notes = [f"videos: {len(files)} in {some(parents)}"] if files else [f"no video in {folder} is one of MSR-VTT's"]
    used = set(files.values())
    if others := [shown(path.relative_to(folder)) for path in found.files.values() if path not in used]:
        notes.append(f"ignored in {folder}: {ignored(others)}")
    return files, notes


def _below(folder: Path, place: Place) -> str:
    path = shown(place.path.relative_to(folder))
    return f"{path}:{place.member}" if place.member else str(folder) if path == "." else path


def _unknown(folder: Path, found: Mapping[str, tuple[Place, ...]]) -> str:
    known = "".join(f"\n  {' and '.join(layout.files)}: {layout.name}" for layout in LAYOUTS)
    part = f" It has only {' and '.join(sorted(found))}." if found else ""
    held = (shown(path.relative_to(folder)) for paths in visible_files(folder).values() for path in paths)
    zips = [name for name in held if name.lower().endswith(".zip")]
    unpack = f" Not unpacked there: {some(zips)}; unzip what is needed and run again." if zips else ""
    return (
        f"{folder} is none of the known layouts of MSR-VTT.{part}{unpack} The annotation files that were looked for, "
        f"in the folder and below it:{known}"
    )


def _read_captions_only(places: Sequence[Place]) -> Read:
    """Read MSR_VTT.json: `images` with an id, `annotations` with image_id and caption, as COCO's captions are."""
    source, content = str(places[0]), places[0].parsed()
    found = [
        (place, entry["image_id"], entry["caption"])
        for place, entry in enumerate(entries(source, content, "annotations", {"image_id": str, "caption": str}))
    ]
    ids = sorted({video_id for _, video_id, _ in found}, key=number_of)
    parts: dict[str, list[str]] = {part: [] for part in COUNTS}
    try:
        for video_id in ids:
            parts[part_of(video_id)].append(video_id)
        annotations = Annotations(tuple(Video(video_id) for video_id in ids), captions_of(found))
        check_published(annotations, parts)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    return annotations, full_split(parts)


def _read_lists_1k_a(places: Sequence[Place]) -> Read:
    """Read the two lists of 1k-A: one object a video; `caption` is a list of 20, or the one query of a test video."""
    videos: list[Video] = []
    sentences: list[tuple[int, str, str]] = []
    parts: dict[Path, tuple[str, ...]] = {}
    for place, expected, each in zip(places, COUNTS_1K_A.values(), (CAPTIONS_PER_VIDEO, 1), strict=True):
        source = str(place)
        listed = listed_videos(place)
        check_count(source, len(listed), expected)
        parts[place.path] = tuple(sorted((entry["video_id"] for entry in listed), key=number_of))
        for entry in listed:
            texts = [entry["caption"]] if isinstance(entry.get("caption"), str) else entry.get("caption")
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise InputError(
                    f"{source}: {entry['video_id']} has caption {texts!r:.60}, text or a list of it is expected."
                )
            check_count(f"{source}: captions of {entry['video_id']}", len(texts), each)
            videos.append(video_of(source, entry))
            sentences += [(len(sentences) + at, entry["video_id"], text) for at, text in enumerate(texts)]
    check_disjoint(parts)
    train, test = parts.values()
    try:
        annotations = Annotations(tuple(sorted(videos, key=lambda video: number_of(video.id))), captions_of(sentences))
    except InputError as error:
        raise InputError(f"{' and '.join(map(str, places))}: {error}") from error
    return annotations, split_1k_a(train, test, {video_id: f"{video_id}#0" for video_id in test})


LISTS_1K_A = Layout(
    "lists of 1k-A, as on Hugging Face",
    JSON_LISTS,
    "20 captions of the 9,000 training videos, and of the 1,000 test videos the query only",
    _read_lists_1k_a,
)
LAYOUTS = (
    Layout("official files", JSON_FILES, "", read_official),
    Layout("msrvtt_data.zip of CLIP4Clip", ("MSRVTT_data.json",), "", read_official),
    Layout(
        "MSRVTT.zip of Frozen in Time",
        ("MSR_VTT.json",),
        "captions only: no categories, sources or times, so which clips share a source cannot be told",
        _read_captions_only,
    ),
    LISTS_1K_A,
)
"""The known layouts, that with the most facts first."""
