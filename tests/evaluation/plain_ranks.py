"""The tie rules, nDCG and average precision from their definitions: every order of the tied items is written out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from math import log2

import numpy as np

Score = float


def orders(scores: Sequence[Score]) -> Iterator[list[int]]:
    """Yield every order of the items in which no score rises."""
    levels = sorted(set(scores), reverse=True)
    groups = [[item for item, score in enumerate(scores) if score == level] for level in levels]
    for chosen in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [item for group in chosen for item in group]


def mean_place_of_best(scores: Sequence[Score], right: Sequence[int]) -> float:
    """Return the published rule: the mean of the places of all items that tie with the best right answer."""
    best = max(scores[item] for item in right)
    ordered = sorted(scores, reverse=True)
    return float(np.mean([place for place, score in enumerate(ordered, 1) if score == best]))


def first_right(order: Sequence[int], right: Sequence[int]) -> int:
    return min(order.index(item) for item in right) + 1


def rank(scores: Sequence[Score], right: Sequence[int], ties: str) -> float:
    if ties == "average":
        return mean_place_of_best(scores, right)
    chosen: Callable[[Iterator[int]], int] = min if ties == "optimistic" else max  # type: ignore[assignment]
    return chosen(first_right(order, right) for order in orders(scores))


def average_precision(order: Sequence[int], right: Sequence[int]) -> float:
    found, total = 0, 0.0
    for place, item in enumerate(order, 1):
        if item in right:
            found += 1
            total += found / place
    return total / len(right)


def ndcg(order: Sequence[int], right: Sequence[int], at: int = 10) -> float:
    gained = sum(1 / log2(1 + place) for place, item in enumerate(order[:at], 1) if item in right)
    return gained / sum(1 / log2(1 + place) for place in range(1, min(at, len(right)) + 1))


def over_orders(
    measure: Callable[[Sequence[int], Sequence[int]], float], scores: Sequence[Score], right: Sequence[int], ties: str
) -> float:
    """Return a measure's mean over all orders of tied items, or with the right ones first or last among them."""
    values = [measure(order, right) for order in orders(scores)]
    return float(np.mean(values)) if ties == "average" else max(values) if ties == "optimistic" else min(values)
