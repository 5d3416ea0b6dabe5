"""Making splits: published lists, hashed parts for data that has none, and which captions are the queries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from vtr.errors import InputError
from vtr.types import Annotations, Split


def read_list(path: Path, known: Iterable[str]) -> tuple[str, ...]:
    """Return the video ids of a list, one a line.

    Raises:
        InputError: the file is missing, empty, not text, or names a video that is not known (with line numbers).
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
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
    unknown = [f"'{name}' (line {number})" for number, name in ids if name not in names]
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise InputError(f"{path} names videos the annotations do not hold: {', '.join(unknown[:5])}{more}.")
    return tuple(name for _, name in ids)


def place(key: str, salt: str) -> float:
    """Return a number in [0, 1) that depends on key and salt alone: the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{salt}:{key}".encode()).digest()[:8], "big") / 2**64


def hashed_split(name: str, annotations: Annotations, validation: float = 0.1, test: float = 0.1) -> Split:
    """Return a split whose parts are chosen by the hash of each video's source (its id where no source is known).

    Clips of one source stay together, and a video keeps its part when others are added.
    """
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for video in annotations.videos:
        at = place(video.source_id or video.id, "part")
        parts["test" if at < test else "validation" if at < test + validation else "train"].append(video.id)
    note = f"parts by hash of the source: about {validation:.0%} validation, {test:.0%} test; every caption is a query"
    return Split(name, tuple(parts["train"]), tuple(parts["validation"]), tuple(parts["test"]), note=note)


def one_caption_a_video(split: Split, annotations: Annotations) -> Split:
    """Return `<name>-single`: the same parts, one query caption a video, chosen by the hash of the video's id."""
    queries = []
    for video_id in split.validation + split.test:
        captions = annotations.captions_by_video[video_id]
        if captions:
            queries.append(captions[int(place(video_id, "query") * len(captions))].id)
    note = f"{split.name} with one query caption a video, chosen by hash of the video's id"
    return replace(split, name=f"{split.name}-single", query_caption_ids=tuple(queries), note=note)


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


def check_count(what: str, found: int, expected: int) -> None:
    """Raise `InputError` unless a published count is met."""
    if found != expected:
        raise InputError(
            f"{what}: {found} found, {expected} are published. The file is not the official one, or not whole."
        )


def words(text: str) -> str:
    """Return a text's letters and digits in lower case: what is left when spacing and punctuation are not looked at."""
    return "".join(character for character in text.lower() if character.isalnum())


def match_queries(
    csv_queries: Sequence[tuple[str, str]], index: dict[str, int] | None, annotations: Annotations
) -> tuple[dict[str, str], list[str]]:
    """Return video id -> query caption id for queries given as text, as places, or both, and the disagreements.

    Args:
        csv_queries: (video id, text) of the query CSV; empty when there is only the index.
        index: video id -> which of the video's captions is the query; None when there is only the CSV.
        annotations: the captions, in published order.

    Raises:
        InputError: a query's video is unknown, its text is none of the video's captions, or the two name other words.
    """
    chosen: dict[str, str] = {}
    differ: list[str] = []
    texts = dict(csv_queries)
    if index is not None and texts and set(index) != set(texts):
        odd = sorted(set(index) ^ set(texts))
        raise InputError(f"query CSV and query index name different videos: {', '.join(odd[:5])} ({len(odd)} in all).")
    for video_id in index if index is not None else texts:
        captions = annotations.captions_by_video.get(video_id)
        if not captions:
            raise InputError(f"the query list names '{video_id}', which the annotations do not hold.")
        if index is None:
            same = [c for c in captions if words(c.text) == words(texts[video_id])]
            if not same:
                raise InputError(f"the query of {video_id}, '{texts[video_id]}', is none of its captions.")
            chosen[video_id] = same[0].id
            continue
        if not 0 <= index[video_id] < len(captions):
            raise InputError(f"the query index of {video_id} is {index[video_id]}; it has {len(captions)} captions.")
        caption = captions[index[video_id]]
        chosen[video_id] = caption.id
        text = texts.get(video_id)
        if text is not None and text != caption.text:
            if words(text) != words(caption.text):
                raise InputError(f"the query of {video_id} is '{text}' in the CSV, '{caption.text}' by the index.")
            differ.append(f"{video_id}: CSV '{text}', annotation '{caption.text}' (spacing or punctuation only)")
    return chosen, differ
