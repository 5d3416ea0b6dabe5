"""Splits of one's own: lists of ids become a split of a workspace that is there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from vtr.annotations.ids import read_ids
from vtr.annotations.prepare import PartCounts, count_parts, counts_in_lines
from vtr.annotations.splits import VALIDATION_NAMES
from vtr.annotations.tables import is_own, load_annotations, load_split, save_own_split, split_names
from vtr.errors import InputError, some
from vtr.files import lock
from vtr.types import PARTS, Part, Split
from vtr.workspace import Workspace


@dataclass(frozen=True, slots=True)
class OwnSplit:
    """A split that was added to a workspace, and where it was written."""

    path: Path
    parts: tuple[PartCounts, ...]

    def __str__(self) -> str:
        return "\n".join([*counts_in_lines(self.parts), f"written to {self.path}; use it as --split {self.path.stem}"])


def prepare_split(workspace: Workspace, name: str, lists: Mapping[Part, Path], queries: str | None) -> OwnSplit:
    """Add a split of one's own to a workspace, or replace it. Its videos and captions are the workspace's.

    Args:
        workspace: made by `vtr prepare`.
        name: the new split's name.
        lists: part -> file of video ids, see `vtr.annotations.ids.read_ids`; at least the test or the validation part.
        queries: which captions of these two are the queries: a file of caption ids, or another split whose queries they
            are; None for every caption.

    Raises:
        InputError: the name is taken or cannot be a file's, a list names unknown or repeated ids, two parts overlap, or
            a query is of no video of the parts.
        WorkspaceError: the workspace cannot be written or is in use.
    """
    check_name(workspace, name)
    if not lists.keys() & {"validation", "test"}:
        raise InputError(
            f"split {name} would have nothing to evaluate. Give the ids of its --test or --validation part."
        )
    annotations = load_annotations(workspace)
    parts = {part: read_ids(path) for part, path in lists.items()}
    for part, ids in parts.items():
        if unknown := [video_id for video_id in ids if video_id not in annotations.video_by_id]:
            raise InputError(f"{lists[part]} names videos that {workspace.root} does not hold: {some(unknown)}.")
    train, validation, test = (parts.get(part, ()) for part in PARTS)
    described = {c.id for v in (*validation, *test) for c in annotations.captions_by_video[v]}
    asked = None if queries is None else _queries(workspace, queries, described)
    sources = [str(path) for path in lists.values()] + ([] if queries is None else [f"queries of {queries}"])
    split = Split(name, train, validation, test, asked, f"own split, from {', '.join(sources)}")
    with lock(workspace.prepare_lock, f"prepare {workspace.root}"):
        return OwnSplit(save_own_split(workspace, split), tuple(count_parts(annotations, split)))


def check_name(workspace: Workspace, name: str) -> None:
    """Check that a split of the user's own may have a name.

    Raises:
        InputError: it cannot be a file's, or a split that was made with the annotations has it.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in VALIDATION_NAMES:
        raise InputError(f"'{name}' cannot be a split's name. Use letters, digits, '.', '_' and '-', as in 1k-A-7k.")
    if name in split_names(workspace) and not is_own(workspace, name):
        raise InputError(
            f"{workspace.root} has a split '{name}' already, made with the annotations. Choose another name."
        )


def _queries(workspace: Workspace, queries: str, described: Collection[str]) -> tuple[str, ...] | None:
    """Return the ids of the captions that are queries, None for all.

    Args:
        workspace: where another split may be.
        queries: a file, or that split.
        described: the captions of the parts that are evaluated.

    Raises:
        InputError: `queries` is neither a file nor a split, or names captions that are not of the parts.
    """
    if not Path(queries).is_file():
        if queries not in (names := split_names(workspace)):
            raise InputError(f"{queries} is neither a file nor one of {workspace.root}'s splits: {', '.join(names)}.")
        theirs = load_split(workspace, queries).query_caption_ids
        if theirs is None:
            return None
        if not (shared := tuple(caption_id for caption_id in theirs if caption_id in described)):
            raise InputError(
                f"none of split {queries}'s queries is of a video in the parts. Give a list of caption ids."
            )
        return shared
    asked = read_ids(Path(queries))
    if odd := [caption_id for caption_id in asked if caption_id not in described]:
        raise InputError(
            f"{queries} names {len(odd)} captions of no video in the parts: {some(odd)}. Caption ids are like "
            "video7010#3: the fourth caption of the video, in published order."
        )
    return asked
