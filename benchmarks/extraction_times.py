"""Times of several things that are done in turn, for benchmarks/extraction.py."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """Seconds by what was done: one a round."""

    seconds: dict[str, list[float]]

    def ratio(self, over: str, under: str) -> float:
        """Return the median over rounds of one's seconds over the other's in the same round."""
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def median(self, name: str) -> float:
        """Return the median seconds of a round."""
        return statistics.median(self.seconds[name])


def in_turn(rounds: int, todo: dict[str, Callable[[], object]]) -> Times:
    """Return the seconds of each, `rounds` times in turn, after one turn that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    for number in range(rounds + 1):
        for name, run in todo.items():
            started = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return Times(seconds)
