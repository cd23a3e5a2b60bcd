"""Means and differences over folds, with 95 % intervals.

The replicate is a fold, and the interval is Student's t for any number of them: of simulated normal samples it
covers 95 % from two folds on. Below `DESCRIPTIVE_BELOW` folds a number is marked descriptive; with one fold there
is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

LEVEL = 0.95
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
    """Mean, interval and standard deviation of one value a fold.

    NaN among the values makes all of it NaN. Infinite ones have no spread and no interval (NaN), and a mean where
    they are of one sign; likewise values too large to be squared.

    Raises ValueError if no value, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: must lie between 0 and 1")
    if not len(values):
        raise ValueError("values is empty: an estimate needs at least one fold")
    # Plain floats: for five folds NumPy is all overhead. Sorted: the same bytes in whatever order folds arrive.
    x = sorted(map(float, values))
    n = len(x)
    try:
        mean = math.fsum(x) / n
    except (ValueError, OverflowError):  # infinities of both signs; a sum beyond the largest float
        mean = math.fsum(v / n for v in x) if all(map(math.isfinite, x)) else math.nan
    if n == 1:
        return Estimate(1, mean, None, None, None)
    try:
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in x) / (n - 1)) if math.isfinite(mean) else math.nan
    except OverflowError:
        sd = math.nan
    half = _student_quantile(0.5 + level / 2, n - 1) * sd / math.sqrt(n)
    return Estimate(n, mean, mean - half, mean + half, sd)


def paired(left: dict, right: dict, level: float = LEVEL) -> Estimate | None:
    """Mean of left minus right over the replicates that both have; None when they share none."""
    common = sorted(left.keys() & right.keys())
    return estimate([left[k] - right[k] for k in common], level) if common else None


@lru_cache(maxsize=256)
def _student_quantile(p: float, degrees: int) -> float:
    """`scipy.stats.t.ppf`, without the second that importing scipy.stats takes."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, p))
