"""A hold-out of a workspace's split, by source: see `vtr.annotations.holdout`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vtr.annotations.holdout import hold_out_sources
from vtr.annotations.own_split import check_name
from vtr.annotations.prepare import PartCounts, count_parts, counts_in_lines
from vtr.annotations.tables import load_annotations, load_split, save_own_split
from vtr.errors import InputError, WorkspaceError
from vtr.evaluation.leaks import Leaks, leaks
from vtr.files import lock, read_json
from vtr.store.reader import FeatureStore
from vtr.types import Part, Split
from vtr.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Holdout:
    """A hold-out that is in the workspace.

    Attributes:
        path: where it is written.
        asked, held: how many videos were to be held out, and how many were.
        parts: the counts of its parts.
        shared: what the held-out videos share with the training videos.
        available: how many videos of the parts it is made of have features, of how many; None where all count.
        changed: False when the workspace had this very split before.
    """

    path: Path
    asked: int
    held: int
    parts: tuple[PartCounts, ...]
    shared: Leaks
    available: tuple[int, int] | None
    changed: bool

    def __str__(self) -> str:
        lines = counts_in_lines(self.parts)
        if self.available is not None:
            lines.append(f"{self.available[0]} of {self.available[1]} videos have features; the others are left out")
        if self.held < self.asked:
            lines.append(f"{self.held} videos are held out, not {self.asked}: no further source fits as a whole")
        written = f"written to {self.path}" if self.changed else f"{self.path} holds it already; nothing has changed"
        return "\n".join([*lines, str(self.shared), f"{written}; use it as --split {self.path.stem}"])


def prepare_holdout(
    workspace: Workspace,
    name: str,
    of: str,
    count: int,
    *,
    part: Part = "test",
    available_only: bool = False,
    seed: int = 0,
) -> Holdout:
    """Add a split to a workspace: some training videos of another one, in whole sources, become a part of it.

    Args:
        workspace: made by `vtr prepare`.
        name: the new split's name.
        of: the split it is made of.
        count: how many videos to hold out.
        part: what they become, "test" or "validation".
        available_only: choose and keep only videos that have a feature of some expert.
        seed: another one takes other sources.

    Raises:
        InputError: the name is taken or cannot be a file's, or see `hold_out_sources`.
        WorkspaceError: there is no such split, there are no features to go by, or the workspace cannot be written or is
            in use.
    """
    annotations, base = load_annotations(workspace), load_split(workspace, of)
    check_name(workspace, name)
    available = _with_features(workspace) if available_only else None
    split = hold_out_sources(name, base, annotations, count, part=part, seed=seed, available=available)
    with lock(workspace.prepare_lock, f"prepare {workspace.root}"):
        changed = not _is_there(workspace, split)
        path = save_own_split(workspace, split) if changed else workspace.own_splits / f"{name}.json"
    held, train = ([annotations.video_by_id[i] for i in ids] for ids in (split.part(part), split.train))
    sources = (*base.train, *(base.validation if part == "test" else base.test))
    found = None if available is None else (sum(video_id in available for video_id in sources), len(sources))
    counts = tuple(count_parts(annotations, split))
    return Holdout(path, count, len(held), counts, leaks(held, train), found, changed)


def _with_features(workspace: Workspace) -> frozenset[str]:
    store = FeatureStore(workspace.store)
    if not store.experts:
        raise WorkspaceError(
            f"{workspace.root} has no features yet. Run `{workspace.features_command}` first, or leave out "
            "--available-only."
        )
    return store.with_features()


def _is_there(workspace: Workspace, split: Split) -> bool:
    """Return whether the workspace has this very split.

    Raises:
        InputError: it has another one of that name.
    """
    path = workspace.own_splits / f"{split.name}.json"
    if not path.exists():
        return False
    try:
        same = read_json(path) == json.loads(json.dumps(asdict(split)))
    except InputError:  # damaged
        same = False
    if not same:
        raise InputError(
            f"{path} is another split '{split.name}'. Choose another name; or delete the file, and what was made with "
            "that split goes stale."
        )
    return True
