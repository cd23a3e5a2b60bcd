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
    import numpy as np

    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: must lie between 0 and 1")
    if not len(values):
        raise ValueError("values is empty: an estimate needs at least one fold")
    x = np.sort(np.asarray(values, dtype=np.float64))  # sorted: the same bytes in whatever order folds arrive
    n, mean = len(x), math.fsum(x) / len(x)
    if n == 1:
        return Estimate(1, mean, None, None, None)
    if not np.isfinite(x).all():
        return Estimate(n, mean, math.nan, math.nan, math.nan)
    sd = float(x.std(ddof=1))
    low, high = _student(mean, sd, n, level) if n < BOOTSTRAP_FROM else _bootstrap(x, level)
    return Estimate(n, mean, low, high, sd)


def paired(left: dict, right: dict, level: float = LEVEL) -> Estimate | None:
    """Mean of left minus right over the replicates that both have; None when they share none."""
    common = sorted(left.keys() & right.keys())
    return estimate([left[k] - right[k] for k in common], level) if common else None


def _student(mean: float, sd: float, n: int, level: float) -> tuple[float, float]:
    from scipy.stats import t

    half = float(t.ppf(0.5 + level / 2, n - 1)) * sd / math.sqrt(n)
    return mean - half, mean + half


def _bootstrap(x, level: float) -> tuple[float, float]:
    import numpy as np

    means = x[_resamples(len(x))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@lru_cache(maxsize=4)
def _resamples(n: int):
    """Indices of the resamples of n folds, the same for every row: (RESAMPLES, n)."""
    import numpy as np

    return np.random.default_rng(SEED).integers(0, n, size=(RESAMPLES, n))
