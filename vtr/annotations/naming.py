"""What the videos of a folder are called: by their paths without suffix, and by more where that is not enough.

An id is for ever: features and runs refer to it. So a video that the workspace holds keeps its id whatever files come
or go beside it, only new ones give way, and what was the id of a video that has left is no other one's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from vtr.annotations.locators import Locator, parse
from vtr.errors import InputError, some
from vtr.types import Video


@dataclass(frozen=True, slots=True)
class Candidate:
    """A video of a folder that has no id yet.

    Attributes:
        names: the ids it may have, the shortest first; "sub/a", "sub/a.mp4".
        locator: where it lies, local paths absolute.
        captions: those that lie beside it.
    """

    names: tuple[str, ...]
    locator: Locator
    captions: tuple[str, ...] = ()


def choose_ids(found: Sequence[Candidate], known: Sequence[Video] = (), former: Sequence[Video] = ()) -> list[str]:
    """Return an id for each video, in order: the first of its names that no other one has.

    Of videos that would have the same id, none gets it, and all take their next names: a.avi and a.mp4 become "a.avi"
    and "a.mp4". But one that is known by an id keeps it: where "a" was a.avi before a.mp4 came, they are "a" and
    "a.mp4", and stay so when one of them goes.

    Args:
        found: the videos.
        known: those that the workspace holds. A video is known by the id, of its names, whose file is its own; where
            the folder has been moved, whose file is called as its own is.
        former: those that it has held, whose ids only they get again.

    Raises:
        InputError: two videos have the same id whatever is tried; they are named.
    """
    kept = _kept(found, (*known, *former))
    gone = {video.id for video in former} - kept.keys()
    shared = Counter(one.names[0] for one in found)
    chosen = [one.names[min(shared[one.names[0]] > 1, len(one.names) - 1)] for one in found]
    for name, place in kept.items():
        chosen[place] = name
    given_way = True
    while given_way:
        given_way = False
        counts = Counter(chosen)
        for place, one in enumerate(found):
            name = chosen[place]
            taken = counts[name] > 1 or name in gone
            if taken and kept.get(name) != place and name != one.names[-1]:
                chosen[place] = one.names[one.names.index(name) + 1]
                given_way = True
    _check_unique(found, chosen)
    return chosen


def _kept(found: Sequence[Candidate], known: Sequence[Video]) -> dict[str, int]:
    """Return the ids that videos are known by -> their places in `found`."""
    kept: dict[str, int] = {}
    for tell in (_own, _called):
        files = {video.id: tell(parse(video.path)) for video in known if video.path is not None}
        done = set(kept.values())
        for place, one in enumerate(found):
            names = (name for name in one.names if name not in kept and files.get(name) == tell(one.locator))
            if place not in done and (name := next(names, None)) is not None:
                kept[name] = place
    return kept


def _own(locator: Locator) -> tuple[str, str | None]:
    return locator.path, locator.member


def _called(locator: Locator) -> tuple[str, str | None]:
    return PurePosixPath(locator.path).name, locator.member


def _check_unique(found: Sequence[Candidate], chosen: Sequence[str]) -> None:
    counts = Counter(chosen)
    clashes: dict[str, list[str]] = {}
    for one, name in zip(found, chosen, strict=True):
        if counts[name] > 1:
            clashes.setdefault(name, []).append(str(one.locator))
    if clashes:
        told = [f"{' and '.join(files)} would both be the video '{name}'" for name, files in clashes.items()]
        raise InputError(f"{some(told)}. Rename or move one of them.")
