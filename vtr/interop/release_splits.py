"""The split lists that MMT's and CE's releases bring along, made into the splits that `vtr prepare msrvtt` makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vtr.annotations.msrvtt import HOLDOUT, QUERY_INDEX
from vtr.annotations.splits import (
    check_disjoint,
    first_caption_a_video,
    hold_out,
    match_queries,
    one_caption_a_video,
    read_list,
)
from vtr.errors import InputError, some
from vtr.safe_pickle import load_pickle
from vtr.types import Annotations, Split

LISTS_1K_A = ("train_list_jsfusion.txt", "val_list_jsfusion.txt")
LISTS_1K_B = ("train_list_miech.txt", "test_list_miech.txt")


@dataclass(frozen=True)
class ReleaseLists:
    """The lists of a release.

    Attributes:
        folder: where they are.
        parts: "full" -> train, validation and test ids; "1k-A" and "1k-B" -> train and test ids. Those there are.
        notes: which splits are not made, and which file each lacks.
    """

    folder: Path
    parts: Mapping[str, tuple[tuple[str, ...], ...]]
    notes: tuple[str, ...]

    @property
    def video_ids(self) -> tuple[str, ...]:
        """Every listed video once, in the order of the lists."""
        return tuple(dict.fromkeys(v for lists in self.parts.values() for ids in lists for v in ids))


def read_lists(folder: Path, full: tuple[str, str, str]) -> ReleaseLists:
    """Read the lists of a release. A list that is absent means that its split is not made.

    Args:
        folder: where the lists are.
        full: names of the lists of the full split: train, validation, test.

    Raises:
        InputError: there is no list at all; one is empty or names a video twice; two lists of a split overlap.
    """
    parts: dict[str, tuple[tuple[str, ...], ...]] = {}
    notes = []
    for name, lists, beside in (("full", full, ()), ("1k-A", LISTS_1K_A, (QUERY_INDEX,)), ("1k-B", LISTS_1K_B, ())):
        if absent := [file for file in (*lists, *beside) if not (folder / file).exists()]:
            notes.append(f"split {name} is not made: {', '.join(absent)} not there")
            continue
        read = {folder / file: _read(folder / file) for file in lists}
        check_disjoint(read)
        parts[name] = tuple(read.values())
    if not parts:
        raise InputError(
            f"{folder} holds the lists of no split, {', '.join(full)} or {', '.join((*LISTS_1K_A, QUERY_INDEX))} were "
            "expected. Fetch the release's lists into it."
        )
    return ReleaseLists(folder, parts, tuple(notes))


def _read(path: Path) -> tuple[str, ...]:
    try:
        named = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError:
        named = []  # read_list says what is wrong
    return read_list(path, [line.strip() for line in named])


def make_splits(lists: ReleaseLists, annotations: Annotations) -> tuple[list[Split], list[str]]:
    """Return the splits, with the names, notes and queries of `vtr prepare msrvtt`; and what a reader should know.

    Args:
        lists: the lists.
        annotations: all listed videos; those without captions have no queries.

    Raises:
        InputError: the 1k-A index is not one, or points behind a video's last caption.
    """
    splits: list[Split] = []
    notes: list[str] = []
    if "full" in lists.parts:
        train, validation, test = lists.parts["full"]
        counts = f"{len(train)}/{len(validation)}/{len(test)}"
        note = f"the official split of 2016: {counts} videos, every caption a query"
        splits.append(Split("full", train, validation, test, note=note))
    if "1k-A" in lists.parts:
        queries, notes = _queries(lists.folder / QUERY_INDEX, lists.parts["1k-A"][1], annotations)
        splits += _first(lists, annotations, queries)
    if "1k-B" in lists.parts:
        train, test = lists.parts["1k-B"]
        note = (
            f"Miech et al.'s 1k-B: {len(train)}/{len(test)} videos, the first caption of each test video is the query"
        )
        second = Split("1k-B", train, (), test, note=note)
        splits.append(replace(second, query_caption_ids=first_caption_a_video(second, annotations)))
    return splits, notes


def _first(lists: ReleaseLists, annotations: Annotations, queries: tuple[str, ...]) -> list[Split]:
    """Return 1k-A and 1k-A-holdout."""
    train, test = lists.parts["1k-A"]
    note = f"JSFusion's 1k-A: {len(train)}/{len(test)} videos, one published query a test video, no validation part"
    first = Split("1k-A", train, (), test, queries, note)
    count = min(HOLDOUT, len(train) // 2)  # half of a cut-down list, so that something is left to train on
    holdout = hold_out(replace(first, query_caption_ids=None), count)
    validation = one_caption_a_video(replace(holdout, test=()), annotations).query_caption_ids or ()
    return [first, replace(holdout, query_caption_ids=validation + queries)]


def _queries(path: Path, test: Sequence[str], annotations: Annotations) -> tuple[tuple[str, ...], list[str]]:
    """Return the query captions of the test videos that have captions, and which of those videos have no query."""
    places = load_pickle(path)
    if not isinstance(places, dict) or not all(isinstance(place, int | np.integer) for place in places.values()):
        raise InputError(f"{path} does not map video ids to caption numbers. Fetch it again.")
    captioned = [video_id for video_id in test if annotations.captions_by_video[video_id]]
    asked = {video_id: int(places[video_id]) for video_id in captioned if video_id in places}
    notes = []
    if mute := [video_id for video_id in captioned if video_id not in asked]:
        notes.append(f"{len(mute)} test videos of 1k-A have no query in {path.name}, they are only found: {some(mute)}")
    try:
        chosen, _ = match_queries({}, asked, annotations)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return tuple(chosen.values()), notes
