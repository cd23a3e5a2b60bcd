"""Means and differences over folds, with 95 % intervals that say what they rest on.

The replicate is a fold. Below `BOOTSTRAP_FROM` folds the interval is Student's t; from there on the
percentile bootstrap with 10,000 resamples of a fixed generator. With five folds the percentile bootstrap of a
mean covers about 84 % where it says 95 % (it resamples a spread that is already too small by sqrt((n-1)/n)),
Student's t 95 %. Below `DESCRIPTIVE_BELOW` folds a number is marked descriptive; with one fold there is no
interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 20_211_104
BOOTSTRAP_FROM = 10
DESCRIPTIVE_BELOW = 5


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` folds; `low` and `high` are None with fewer than two, `sd` (ddof=1) too."""

    n: int
    mean: float
    low: float | None
    high: float | None
    sd: float | None


def estimate(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Mean, interval and standard deviation of one value a fold. NaN among the values makes all of it NaN.

    Raises:
        ValueError: no value, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: must lie between 0 and 1")
    if not len(values):
        raise ValueError("values is empty: an estimate needs at least one fold")
    # Plain floats: for five folds NumPy is all overhead. Sorted: the same bytes in whatever order folds arrive.
    x = sorted(map(float, values))
    n, mean = len(x), math.fsum(x) / len(x)
    if n == 1:
        return Estimate(1, mean, None, None, None)
    if not all(map(math.isfinite, x)):
        return Estimate(n, mean, math.nan, math.nan, math.nan)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in x) / (n - 1))
    low, high = _student(mean, sd, n, level) if n < BOOTSTRAP_FROM else _bootstrap(x, level)
    return Estimate(n, mean, low, high, sd)


def paired(left: dict, right: dict, level: float = LEVEL) -> Estimate | None:
    """Mean of left minus right over the replicates that both have; None when they share none."""
    common = sorted(left.keys() & right.keys())
    return estimate([left[k] - right[k] for k in common], level) if common else None


def _student(mean: float, sd: float, n: int, level: float) -> tuple[float, float]:
    half = _student_quantile(0.5 + level / 2, n - 1) * sd / math.sqrt(n)
    return mean - half, mean + half


@lru_cache(maxsize=256)
def _student_quantile(p: float, degrees: int) -> float:
    """`scipy.stats.t.ppf`, without the second that importing scipy.stats takes."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, p))


def _bootstrap(x: Sequence[float], level: float) -> tuple[float, float]:
    import numpy as np

    means = _weights(len(x)) @ np.asarray(x)
    places = [p * (RESAMPLES - 1) for p in ((1 - level) / 2, (1 + level) / 2)]
    around = [math.floor(place) + step for place in places for step in (0, 1)]
    # Linear between the two nearest, as numpy.quantile does, which takes five times as long.
    found = np.partition(means, around)[around].tolist()
    low, high = (
        below + (above - below) * (place - math.floor(place))
        for place, below, above in zip(places, found[::2], found[1::2], strict=True)
    )
    return low, high


@lru_cache(maxsize=4)
def _weights(n: int) -> np.ndarray:
    """How much each of n folds counts in each resample, the same for every row: float64 (RESAMPLES, n)."""
    import numpy as np

    drawn = np.random.default_rng(SEED).integers(0, n, size=(RESAMPLES, n))
    counts = np.zeros((RESAMPLES, n))
    np.add.at(counts, (np.arange(RESAMPLES)[:, None], drawn), 1.0)
    return counts / n
