"""Which of a gallery's videos a search may answer."""

from __future__ import annotations

from dataclasses import dataclass

from vtr.errors import InputError


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions that all hold for a result; None is no condition.

    Attributes:
        category: the video's category.
        min_seconds, max_seconds: bounds of its duration; a video of unknown duration is within none.
        has_speech: whether words are spoken in it.

    Raises:
        InputError: the bounds exclude each other, or are no durations.
    """

    category: str | None = None
    min_seconds: float | None = None
    max_seconds: float | None = None
    has_speech: bool | None = None

    def __post_init__(self) -> None:
        for name in ("min_seconds", "max_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds >= 0:
                raise InputError(f"{name} is {seconds:g}, 0 or more seconds were expected.")
        if None not in (self.min_seconds, self.max_seconds) and self.min_seconds > self.max_seconds:  # type: ignore[operator]
            raise InputError(
                f"no video is at least {self.min_seconds:g} and at most {self.max_seconds:g} seconds long. "
                "Give a greater upper bound."
            )


ANY = Filters()
