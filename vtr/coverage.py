"""How much of a split's part is here. Every result carries it, so a number on a subset is never taken for the whole."""

from __future__ import annotations

from dataclasses import dataclass

from vtr.types import Part


@dataclass(frozen=True, slots=True)
class Coverage:
    """Videos of one part that have features, of all that the split lists."""

    split: str
    part: Part
    available: int
    total: int

    def __str__(self) -> str:
        return f"{self.split} {self.part}: {self.available} of {self.total}"

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return self.available == self.total
