"""What the seeds of training add to how sure a metric is: means over seeds, and paired differences of two variants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from vtr.evaluation.confidence import COLUMNS
from vtr.evaluation.metrics import DIRECTIONS, RSUM_AT

Floats = NDArray[np.float64]

REPORTED = (*((direction, f"R@{at}") for direction in DIRECTIONS for at in RSUM_AT), ("both_ways", "RSUM"))
"""The columns of `vtr.evaluation.confidence.COLUMNS` that are reported over seeds."""

_PLACES = [COLUMNS.index(column) for column in REPORTED]


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """A figure over the seeds.

    Attributes:
        mean: over the seeds.
        deviation: the standard deviation over the seeds, S - 1 in its denominator; None of one seed.
    """

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: list[float]) -> OverSeeds:
        """Return the mean and the deviation of one value a seed."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


@dataclass(frozen=True, slots=True)
class SeededDifference:
    """How one metric of two variants differs, seed by seed.

    Attributes:
        difference: the mean over seeds of the second's less the first's.
        low, high: the bounds of its interval.
    """

    difference: float
    low: float
    high: float


def reported(values: Floats) -> Floats:
    """Return [..., 7], the values of `REPORTED` among those of `COLUMNS` [..., 17]."""
    return values[..., _PLACES]


def paired_differences(observed: Floats, drawn: Floats, *, level: float = 0.95) -> list[SeededDifference]:
    """Return the mean differences of two variants with intervals for other seeds and other queries at once.

    Two variances are added. That of the mean over seeds is s^2 / S, with s the deviation of the seeds' differences.
    That of the queries is the variance of the mean difference over bootstrap draws of the videos, the seeds as they
    are. What seeds and queries do together is in both, so the sum rather errs upward. The interval is Student's with
    Welch and Satterthwaite's degrees of freedom, S - 1 for the seeds and no end of them for the queries: with three
    seeds, percentiles of seeds drawn anew would be far too narrow. With one seed it covers the queries alone.

    Args:
        observed: [S, M], the second variant's metrics less the first's with the same seed.
        drawn: [S, N, M], the same in each draw of the videos.
        level: the intended coverage, 0 to 1.

    Returns:
        M differences.
    """
    num_seeds = len(observed)
    mean = observed.mean(0)
    of_seeds = observed.var(0, ddof=1) / num_seeds if num_seeds > 1 else np.zeros_like(mean)
    both = of_seeds + drawn.mean(0).var(0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.nan_to_num((num_seeds - 1) * (both / of_seeds) ** 2, nan=np.inf, posinf=np.inf)
    half = stdtrit(np.minimum(freedom, 1e9), (1 + level) / 2) * np.sqrt(both)
    return [SeededDifference(*row) for row in np.stack([mean, mean - half, mean + half], axis=1).tolist()]
