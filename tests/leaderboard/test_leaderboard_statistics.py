import math

import numpy as np
import pytest
from scipy import stats

from kdbench.leaderboard.statistics import estimate, paired


@pytest.mark.parametrize("n", [2, 3, 5, 9, 10, 25])
def test_the_interval_is_students(n):
    x = np.random.default_rng(n).normal(3, 2, n)
    e = estimate(list(x))
    low, high = stats.t.interval(0.95, n - 1, loc=x.mean(), scale=stats.sem(x))
    assert (e.n, e.mean, e.low, e.high, e.sd) == pytest.approx((n, x.mean(), low, high, x.std(ddof=1)))


@pytest.mark.parametrize("n", [2, 5, 10, 20])
def test_of_a_hundred_intervals_95_hold_the_mean_for_any_number_of_folds(n):
    drawn = np.random.default_rng(n).normal(3, 2, size=(4000, n))
    held = [e.low <= 3 <= e.high for e in map(estimate, drawn.tolist())]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors of a share of 4,000


@pytest.mark.parametrize("n", [4, 12])
def test_the_order_of_folds_does_not_matter_to_the_last_bit(n):
    x = list(np.random.default_rng(2).normal(size=n))
    assert estimate(x) == estimate(x[::-1])


def test_paired_is_the_paired_t_test_over_common_folds():
    rng = np.random.default_rng(3)
    left = {(0, f): rng.normal(1, 1) for f in range(7)}
    right = {(0, f): left[0, f] - rng.normal(0.2, 0.1) for f in range(6)} | {(1, 0): 99.0}
    e = paired(left, right)
    a, b = [left[0, f] for f in range(6)], [right[0, f] for f in range(6)]
    oracle = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (e.n, e.low, e.high) == pytest.approx((6, oracle.low, oracle.high))


def test_pairing_is_narrower_than_not_pairing_when_folds_vary_together():
    rng = np.random.default_rng(4)
    fold = rng.normal(0, 5, 5)
    left, right = ({(0, i): float(v) for i, v in enumerate(fold + c + rng.normal(0, 0.1, 5))} for c in (1, 0))
    e = paired(left, right)
    assert e.low > 0
    assert estimate(list(left.values())).low < estimate(list(right.values())).high


def test_nothing_in_common_is_no_difference():
    assert paired({(0, 0): 1.0}, {(0, 1): 1.0}) is None


def test_one_fold_has_no_interval():
    e = estimate([0.5])
    assert (e.n, e.mean, e.low, e.high, e.sd) == (1, 0.5, None, None, None)


def test_nan_is_not_averaged_away():
    assert math.isnan(estimate([0.5, math.nan, 0.5]).mean)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([math.inf, -math.inf], math.nan),
        ([math.inf, 1.0], math.inf),
        ([-math.inf, -math.inf, 2.0], -math.inf),
        ([math.nan, math.inf], math.nan),
        ([1e308, 1.5e308], 1.25e308),
        ([1e200, -1e200], 0.0),
    ],
)
def test_what_has_no_finite_spread_has_no_interval(values, mean):
    e = estimate(values)
    assert e.mean == pytest.approx(mean, nan_ok=True)
    assert all(map(math.isnan, (e.low, e.high, e.sd)))


def test_infinite_on_both_sides_is_no_difference_that_is_known():
    both = {(0, 0): math.inf, (0, 1): 1.0}
    assert math.isnan(paired(both, both).mean)


@pytest.mark.parametrize(("values", "level", "named"), [([], 0.95, "values"), ([1.0], 1.0, "level=1.0")])
def test_bad_input(values, level, named):
    with pytest.raises(ValueError, match=named):
        estimate(values, level)


def test_a_stricter_level_is_a_wider_interval():
    for n in (4, 20):
        x = list(np.random.default_rng(5).normal(size=n))
        assert estimate(x, 0.99).low < estimate(x, 0.95).low
