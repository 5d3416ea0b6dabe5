"""Holding out whole sources: some of a split's training videos become a part that shares no source with the rest."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from vtr.annotations.splits import one_caption_a_video, place
from vtr.errors import InputError
from vtr.types import Annotations, Part, Split


def hold_out_sources(
    name: str,
    split: Split,
    annotations: Annotations,
    count: int,
    *,
    part: Part = "test",
    seed: int = 0,
    available: Collection[str] | None = None,
) -> Split:
    """Return a split whose `part` is made of training videos of `split`, so that no source is in it and in training.

    Sources are taken in the order of their hash, each if it still fits: the part has `count` videos or, where no
    further source fits, fewer. A video without a known source is a source of its own. The split's own videos of that
    part are left out; the remaining part stays. Where the split names its queries, each held-out video gets one, chosen
    by the hash of its id.

    Args:
        name: of the new split.
        split: whose training videos are held out.
        annotations: which tell the sources.
        count: how many videos to hold out.
        part: what they become, "test" or "validation".
        seed: another one takes other sources.
        available: the videos that may be chosen or kept; None for all.

    Raises:
        InputError: validation videos are asked for and the split has some, none of the other part's are available,
            `count` would leave nothing to train on, or no source is small enough.
    """
    other: Part = "validation" if part == "test" else "test"
    train, kept = (
        tuple(video_id for video_id in split.part(of) if available is None or video_id in available)
        for of in ("train", other)
    )
    _check_nothing_lost(split, part, other, kept)
    if not 0 < count < len(train):
        raise InputError(
            f"{count} videos cannot be held out of the {len(train)} training videos of split {split.name}"
            f"{'' if available is None else ' that have features'}: a number from 1 to {max(len(train) - 1, 1)} was "
            "expected."
        )
    chosen = _choose(train, annotations, count, f"holdout {seed}")
    if not chosen:
        raise InputError(
            f"every source of the training part of split {split.name} has more than {count} videos, and a source is "
            "held out as a whole. Hold out more videos."
        )
    held = tuple(video_id for video_id in train if video_id in chosen)
    rest = tuple(video_id for video_id in train if video_id not in chosen)
    lost = f"; the {part} part of {split.name} is left out" if split.part(part) else ""
    only = "" if available is None else "; only videos that had features"
    note = f"{split.name} with {len(held)} of its training videos, whole sources by hash (seed {seed}), as {part}"
    if part == "test":
        made = Split(name, rest, kept, held, note=note + lost + only)
    else:
        made = Split(name, rest, held, kept, note=note + lost + only)
    return replace(made, query_caption_ids=_queries(split, annotations, held, kept))


def _check_nothing_lost(split: Split, part: Part, other: Part, kept: Collection[str]) -> None:
    """Raise `InputError` where a part that is to stay would go."""
    if part == "validation" and split.validation:
        raise InputError(
            f"split {split.name} has a validation part of {len(split.validation)} videos, which would be lost. "
            "Hold out a --part test, or choose a split without one, such as 1k-A."
        )
    if split.part(other) and not kept:
        raise InputError(
            f"none of the {len(split.part(other))} {other} videos of split {split.name} has features: the part would "
            "be lost. Extract them first, or leave out --available-only."
        )


def _choose(train: Collection[str], annotations: Annotations, count: int, salt: str) -> frozenset[str]:
    """Return the videos of the sources that come first by hash and fit into `count`."""
    groups: dict[str, list[str]] = {}
    for video_id in train:
        groups.setdefault(annotations.video_by_id[video_id].source_id or video_id, []).append(video_id)
    chosen: list[str] = []
    for source in sorted(groups, key=lambda source: place(source, salt)):
        if len(chosen) + len(groups[source]) <= count:
            chosen += groups[source]
    return frozenset(chosen)


def _queries(
    split: Split, annotations: Annotations, held: tuple[str, ...], kept: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Return the ids of the captions that are queries: the split's of `kept`, and one of each of `held`."""
    if split.query_caption_ids is None:
        return None
    asked, videos = set(split.query_caption_ids), set(kept)
    theirs = [c.id for c in annotations.captions if c.id in asked and c.video_id in videos]
    return (*(one_caption_a_video(Split("held", (), (), held), annotations).query_caption_ids or ()), *theirs)
