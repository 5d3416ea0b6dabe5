"""How much of a split's part is here. Every result carries it, so a number on a subset is never taken for the whole."""

from __future__ import annotations

from dataclasses import dataclass

from vtr.types import Part


@dataclass(frozen=True, slots=True)
class Coverage:
    """Videos of one part that are used, of all that the split lists: those that have features, and maybe others.

    Attributes:
        split, part: the part.
        available: videos that are used.
        total: videos that the split lists.
        kept: of those that are used, how many have no feature of any expert and are kept as all-missing.
    """

    split: str
    part: Part
    available: int
    total: int
    kept: int = 0

    def __str__(self) -> str:
        kept = f", {self.kept} of them without any features" if self.kept else ""
        return f"{self.split} {self.part}: {self.available} of {self.total}{kept}"

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return self.available == self.total
