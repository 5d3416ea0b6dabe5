"""Making splits: published lists, hashed parts for data that has none, and which captions are the queries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vtr.errors import InputError, some
from vtr.types import Annotations, Caption, Split

VALIDATION_NAMES = ("val", "validation")
"""What `--split` takes for the validation part of a run's split; no split can be named so."""


def read_list(path: Path, known: Iterable[str]) -> tuple[str, ...]:
    """Return the video ids of a list, one a line.

    Raises:
        InputError: the file is missing, empty or not text, names a video that is not known, or names one twice (with
            line numbers).
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. A list with one video id a line is expected."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text ({error}). A list with one video id a line is expected.") from error
    ids = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not ids:
        raise InputError(f"{path} is empty. A list with one video id a line is expected.")
    names = set(known)
    if unknown := [f"'{name}' (line {number})" for number, name in ids if name not in names]:
        raise InputError(f"{path} names videos the annotations do not hold: {some(unknown)}.")
    first: dict[str, int] = {}
    if repeated := [f"'{name}' (lines {first[name]} and {n})" for n, name in ids if first.setdefault(name, n) != n]:
        raise InputError(f"{path} names videos more than once: {some(repeated)}. Each may be there once.")
    return tuple(name for _, name in ids)


def check_disjoint(lists: Mapping[Path, Sequence[str]]) -> None:
    """Check that no video is in two lists.

    Raises:
        InputError: naming both files and the videos.
    """
    owner: dict[str, Path] = {}
    for path, ids in lists.items():
        if both := [video_id for video_id in ids if owner.setdefault(video_id, path) != path]:
            raise InputError(
                f"{owner[both[0]]} and {path} overlap in {len(both)} videos: {some(both)}. "
                "A video may be in one part only."
            )


def check_count(what: str, found: int, expected: int) -> None:
    """Raise `InputError` unless a published count is met."""
    if found != expected:
        raise InputError(
            f"{what}: {found} found, {expected} are published. The file is not the official one, or not whole."
        )


def place(key: str, salt: str) -> float:
    """Return a number in [0, 1) that depends on key and salt alone: the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{salt}:{key}".encode()).digest()[:8], "big") / 2**64


def hashed_split(name: str, annotations: Annotations, validation: float = 0.1, test: float = 0.1) -> Split:
    """Return a split whose parts are chosen by the hash of each video's source (its id where no source is known).

    Clips of one source stay together, and a video keeps its part when others are added. Chance may leave a part of a
    small collection empty; it is then given the source whose hash lies nearest, as long as there are three sources.
    """
    groups = {video.source_id or video.id for video in annotations.videos}
    at = {group: place(group, "part") for group in groups}
    ordered = sorted(groups, key=at.__getitem__)  # the part of a source follows from its place in this order
    first = sum(at[group] < test for group in groups)
    second = sum(at[group] < test + validation for group in groups)
    if len(groups) >= 3:
        first = min(max(first, 1), len(groups) - 2)
        second = min(max(second, first + 1), len(groups) - 1)
    part_of = {group: ("test", "validation", "train")[(n >= first) + (n >= second)] for n, group in enumerate(ordered)}
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for video in annotations.videos:
        parts[part_of[video.source_id or video.id]].append(video.id)
    note = f"parts by hash of the source: about {validation:.0%} validation, {test:.0%} test; every caption is a query"
    return Split(name, tuple(parts["train"]), tuple(parts["validation"]), tuple(parts["test"]), note=note)


def one_caption_a_video(split: Split, annotations: Annotations) -> Split:
    """Return `<name>-single`: the same parts, one query caption a video, chosen by the SHA-256 of the video's id."""
    note = f"{split.name} with one query caption a video, chosen by hash of the video's id"
    queries = _pick(split.validation + split.test, annotations, lambda captions: place(captions[0].video_id, "query"))
    return replace(split, name=f"{split.name}-single", query_caption_ids=queries, note=note)


def first_caption_a_video(split: Split, annotations: Annotations) -> tuple[str, ...]:
    """Return the ids of the first captions of the validation and test videos."""
    return _pick(split.validation + split.test, annotations, lambda _: 0.0)


def _pick(
    video_ids: Iterable[str], annotations: Annotations, at: Callable[[Sequence[Caption]], float]
) -> tuple[str, ...]:
    """Return one caption id a video that has captions; `at` says which, as a place in [0, 1) among them."""
    groups = (annotations.captions_by_video[video_id] for video_id in video_ids)
    return tuple(captions[int(at(captions) * len(captions))].id for captions in groups if captions)


def hold_out(split: Split, count: int) -> Split:
    """Return `<name>-holdout`: `count` training videos, first by hash, become the validation part.

    For published splits without a validation part: a checkpoint is never chosen by test.
    """
    chosen = set(sorted(split.train, key=lambda video_id: place(video_id, "holdout"))[:count])
    note = f"{split.name} with {count} of its training videos, chosen by hash, held out to select checkpoints"
    return replace(
        split,
        name=f"{split.name}-holdout",
        train=tuple(v for v in split.train if v not in chosen),
        validation=tuple(v for v in split.train if v in chosen),
        note=note,
    )


def words(text: str) -> str:
    """Return a text's letters and digits in lower case: what is left when spacing and punctuation are not looked at."""
    return "".join(character for character in text.lower() if character.isalnum())


def match_queries(
    texts: Mapping[str, str], index: Mapping[str, int] | None, annotations: Annotations
) -> tuple[dict[str, str], list[str]]:
    """Return video id -> query caption id for queries given as text, as places, or both, and the disagreements.

    Args:
        texts: video id -> text of the query CSV; empty when there is only the index.
        index: video id -> which of the video's captions is the query; None when there is only the CSV.
        annotations: the captions, in published order.

    Raises:
        InputError: a query's video is unknown, its text is none of the video's captions, or the two name other words.
    """
    if index is not None and texts and (odd := sorted(set(index) ^ set(texts))):
        raise InputError(f"query CSV and query index name {len(odd)} different videos: {some(odd)}.")
    chosen: dict[str, str] = {}
    differ: list[str] = []
    for video_id in index if index is not None else texts:
        captions = annotations.captions_by_video.get(video_id)
        if not captions:
            raise InputError(f"the query list names '{video_id}', which has no captions in the annotations.")
        text = texts.get(video_id)
        at = _place_of_text(video_id, text or "", captions) if index is None else index[video_id]
        if not 0 <= at < len(captions):
            raise InputError(f"the query index of {video_id} is {at}; it has {len(captions)} captions, from 0 on.")
        caption = captions[at]
        chosen[video_id] = caption.id
        if text is not None and text != caption.text:
            if words(text) != words(caption.text):
                raise InputError(
                    f"the query of {video_id} is '{text}' in the CSV, but '{caption.text}' (caption {at}) by the index."
                )
            differ.append(f"{video_id}: CSV '{text}', annotation '{caption.text}'")
    return chosen, differ


def _place_of_text(video_id: str, text: str, captions: Sequence[Caption]) -> int:
    for same in (lambda caption: caption.text == text, lambda caption: words(caption.text) == words(text)):
        if (found := next((n for n, caption in enumerate(captions) if same(caption)), None)) is not None:
            return found
    raise InputError(f"the query of {video_id}, '{text}', is none of its {len(captions)} captions.")
