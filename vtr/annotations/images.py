"""Folders of frames: which images are the numbered frames of one video."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from vtr.annotations.locators import IMAGE_SUFFIXES

_NUMBERED = re.compile(r"(.*?)([0-9]+)", re.DOTALL)


def are_frames(names: Sequence[str]) -> bool:
    """Return whether file names are those of a video's frames: images, two or more, numbered.

    All have the same words before the number and the same suffix, and no number occurs twice: 0001.jpg, 0002.jpg;
    frame-9.png, frame-10.png.
    """
    if len(names) < 2:
        return False
    numbers: set[int] = set()
    kinds: set[tuple[str, str]] = set()
    for name in map(PurePosixPath, names):
        matched = _NUMBERED.fullmatch(name.stem)
        if matched is None or name.suffix.lower() not in IMAGE_SUFFIXES:
            return False
        kinds.add((matched[1], name.suffix))
        numbers.add(int(matched[2]))
    return len(kinds) == 1 and len(numbers) == len(names)
