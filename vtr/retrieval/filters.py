"""Which of a gallery's videos a search may answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions that all hold for a result; None is no condition.

    Attributes:
        category: the video's category.
        min_seconds, max_seconds: bounds of its duration; a video of unknown duration is within none.
        has_speech: whether words are spoken in it.
    """

    category: str | None = None
    min_seconds: float | None = None
    max_seconds: float | None = None
    has_speech: bool | None = None


ANY = Filters()
