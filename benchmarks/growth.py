"""How cost grows: time and memory of a piece of work at 1, 4 and 16 times its amount, against what is expected.

Each amount has a process of its own, `run_worker.py`. `growth_cases.py` lists what is measured.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from page import MIB, Target, failed

STEPS = (1, 4, 16)

ENOUGH_SECONDS, MOST_RUNS = 1.0, 20
"""What is quick is run again until it has taken so long in all; the median counts."""

FLOOR = 8 * MIB
"""Memory below this counts as this: allocators take that much in one piece."""


@dataclass(frozen=True)
class Order:
    """How a cost may grow.

    Attributes:
        words: its name.
        most: how many times as much 16 times the work may cost: an eighth more than the order says, for caches that
            grow too small and what the machine does beside; twice where it says that there is a bound.
    """

    words: str
    most: float


CONSTANT, BOUNDED = Order("constant", 1.125), Order("bounded", 2.0)
LINEAR, SQUARE = Order("linear", 16 * 1.125), Order("quadratic", 256 * 1.125)


@dataclass(frozen=True)
class Cost:
    """What an amount of work took.

    Attributes:
        seconds: of one run.
        memory: bytes at the peak beyond those before, or, where the case says so, of a whole process.
    """

    seconds: float
    memory: int


@dataclass(frozen=True)
class Case:
    """A piece of work of any amount.

    Attributes:
        group: the benchmark, or the stage, that it belongs to.
        what: the work.
        unit: what there is more of.
        base: how many of these are once the work.
        time, memory: how these may grow.
        run: does an amount of it, in an empty folder, and returns what it took.
    """

    group: str
    what: str
    unit: str
    base: int
    time: Order
    memory: Order
    run: Callable[[int, Path], Cost]

    @property
    def name(self) -> str:
        """Names it among all."""
        return f"{self.group}: {self.what}"


@dataclass(frozen=True)
class Growth:
    """What a case took.

    Attributes:
        costs: at each of `STEPS`; fewer where one failed.
        why: why it failed, or "".
    """

    case: Case
    costs: tuple[Cost, ...]
    why: str = ""

    def ratios(self) -> list[tuple[str, list[float], list[str], Order]]:
        """Return of time and of memory: its name, the factors of both steps, the figures in words, and the order."""
        seconds = [cost.seconds for cost in self.costs]
        memory = [cost.memory for cost in self.costs]
        held = [float(max(one, FLOOR)) for one in memory]
        return [
            ("time", _factors(seconds), [in_seconds(one) for one in seconds], self.case.time),
            ("memory", _factors(held), [f"{max(0, one) / MIB:,.0f} MiB" for one in memory], self.case.memory),
        ]

    def targets(self) -> list[Target]:
        """Return a row of time and one of memory."""
        case = self.case
        if self.why:
            return [failed(case.name, self.why)]
        what = f"{case.name}: {STEPS[-1]} x the {case.unit}, from {case.base:,}"
        found = [(name, factors[0] * factors[1], order) for name, factors, _, order in self.ratios()]
        return [
            Target(what, f"{times:.3g} x the {name}", f"<= {order.most:g}", times <= order.most)
            for name, times, order in found
        ]


def _factors(values: list[float]) -> list[float]:
    return [after / before for before, after in pairwise(values)]


def in_seconds(seconds: float) -> str:
    """Return a time in words."""
    unit, scale = ("ms", 1e3) if seconds < 1 else ("s", 1)
    return f"{seconds * scale:.3g} {unit}"


def cost(run: Callable[[], object], *, repeat: bool = True) -> Cost:
    """Return what a run takes in this process: memory of its first, time of the median one.

    Args:
        run: what it needs should have been loaded and used once before.
        repeat: run it again where it is quick.
    """
    from losses_worker import peak, restart_peak  # here, as it brings torch, which the runner can do without

    gc.collect()
    give_back()
    before = restart_peak("cpu")
    took = [_timed(run)]
    memory = peak("cpu") - before
    while repeat and sum(took) < ENOUGH_SECONDS and len(took) < MOST_RUNS:
        took.append(_timed(run))
    return Cost(statistics.median(took), memory)


def give_back() -> None:
    """Give freed memory back to the system, where the C library can: what is held after is in use."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - started
    del result
    return seconds


def measure(case: Case, do: Callable[[Case, int], Cost | str]) -> Growth:
    """Return what the amounts of a case took.

    Args:
        do: does an amount, mostly in a fresh process, and returns why it failed where it did.
    """
    costs: list[Cost] = []
    for step in STEPS:
        found = do(case, step * case.base)
        if isinstance(found, str):
            return Growth(case, tuple(costs), f"{step * case.base:,} {case.unit}: {found}")
        costs.append(found)
    return Growth(case, tuple(costs))


def table(growths: Iterable[Growth]) -> list[str]:
    """Return the lines of the table of all: time and memory at each step, and the factors between them."""
    first, second, third = STEPS
    lines = [
        f"| what | | {first} x | {second} x | {third} x | {first} to {second} | {second} to {third} | expected | goal "
        f"at {third} x | |",
        "|---|---|" + "---:|" * 5 + "---|---:|---|",
    ]
    for growth in growths:
        case = growth.case
        amounts = ", ".join(f"{step * case.base:,}" for step in STEPS)
        what = f"{case.name}; {amounts} {case.unit}"
        if growth.why:
            lines.append(f"| {what} | | | | | | | | | failed: {growth.why} |")
            continue
        rows = zip(growth.ratios(), growth.targets(), strict=True)
        for (name, factors, figures, order), target in rows:
            cells = [what, name, *figures, *(f"{factor:.2f}" for factor in factors), order.words, target.wanted]
            lines.append(f"| {' | '.join(cells)} | {target.verdict} |")
    return lines
