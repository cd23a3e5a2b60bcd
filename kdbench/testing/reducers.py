"""Conformance checks of reducers."""

from __future__ import annotations

import numpy as np

from kdbench.api.neighbours import exact_neighbours
from kdbench.testing.check import Check, check
from kdbench.testing.fixtures.reducers import NEAR, ReducerFixture, hit
from kdbench.testing.import_guard import brief, global_seeds, left_alone, refusal, threads
from kdbench.testing.outcome import NotApplicable, Violation


@check(
    "reducers",
    "return one point a row: an array (n, d), with n_components columns where there is such a parameter",
)
def shape(fixture: ReducerFixture) -> None:
    """Rows (n, n_features) become real numbers (n, d); d is what `n_components` says, where that is a parameter."""
    found = np.asarray(fixture.make().fit_transform(fixture.rows.copy()))
    if found.ndim != 2 or len(found) != len(fixture.rows) or not found.shape[1]:
        raise Violation(f"it returned shape {found.shape} for {fixture.rows.shape}")
    if found.dtype.kind not in "fiu":
        raise Violation(f"it returned {found.dtype}; real numbers are expected")
    if "n_components" in fixture.component.parameters:
        wanted = fixture.component.values(fixture.params)["n_components"]
        if isinstance(wanted, int) and found.shape[1] != wanted:
            raise Violation(f"n_components={wanted}, and it returned {found.shape[1]} columns")


@check("reducers", "raise an error where no embedding is found, instead of returning NaN or infinity")
def finite(fixture: ReducerFixture) -> None:
    """Every coordinate is finite."""
    found = np.asarray(fixture.make().fit_transform(fixture.rows.copy()), np.float64)
    if not np.isfinite(found).all():
        raise Violation(f"{int((~np.isfinite(found)).sum())} of {found.size} coordinates are not finite")


@check("reducers", "copy X before centring or scaling it")
def input_unchanged(fixture: ReducerFixture) -> None:
    """The rows are what they were, bit by bit: other stages read the same array."""
    X = fixture.rows.copy()
    fixture.make().fit_transform(X)
    changed = int((fixture.rows != X).any(axis=1).sum())
    if changed:
        raise Violation(f"fitting changed {changed} of {len(X)} rows of its input")


@check("reducers", "take `random_state` and draw from a generator that is made from it, in fit_transform")
def same_seed_same_result(fixture: ReducerFixture) -> None:
    """Two new instances with one seed give the same points, bit by bit; without `random_state`, always."""
    again = fixture.fit()
    if not np.array_equal(fixture.reference, again):
        seed = "the same random_state" if "random_state" in fixture.component.engine else "no random_state"
        raise Violation(f"two fits with {seed} differ by up to {np.abs(fixture.reference - again).max():.3g}")


@check("reducers", "reset in fit_transform what an earlier fit has left, and make the generator there")
def second_fit_forgets_the_first(fixture: ReducerFixture) -> None:
    """An instance that was fitted to other rows before gives the same points as a new one."""
    reducer = fixture.make()
    reducer.fit_transform(fixture.rows[::-1] * 3 + 1)
    if not np.array_equal(
        np.asarray(reducer.fit_transform(fixture.rows.copy()), np.float32), fixture.reference
    ):
        raise Violation("a second fit of one instance differs from the first fit of a new one")


@check(
    "reducers",
    "draw from numpy.random.default_rng(random_state), never from numpy.random, random or torch's own",
)
def no_global_random_state(fixture: ReducerFixture) -> None:
    """Whatever the global generators of Python, NumPy and PyTorch are set to, the points are the same."""
    found = []
    for seed in (1, 2):
        with global_seeds(seed):
            found.append(fixture.fit())
    if not np.array_equal(found[0], found[1]):
        raise Violation("other global seeds of Python, NumPy and PyTorch give other points")


@check(
    "reducers", "neither seed nor draw from a global generator, and log with `logging` instead of printing"
)
def leaves_global_state_alone(fixture: ReducerFixture) -> None:
    """Fitting moves no global random state (Python, NumPy, PyTorch) and prints nothing."""
    with left_alone("while it was fitted"):
        fixture.fit()


@check("reducers", "convert X to the type you compute in: numpy.asarray(X, dtype=...)")
def float32(fixture: ReducerFixture) -> None:
    """float32 rows, which is what layers are kept as, serve as well as the same rows in float64."""
    fixture.same_quality(fixture.fit(fixture.rows.astype(np.float64)), "in float64")


@check("reducers", "take X through numpy.ascontiguousarray before its memory is handed to compiled code")
def non_contiguous_slice(fixture: ReducerFixture) -> None:
    """Rows that are a slice of a larger array, or in Fortran's order, are read as the rows that they are."""
    wide = np.full((2 * len(fixture.rows), 2 * fixture.rows.shape[1]), np.float32(1e6))
    part = wide[::2, ::2]
    part[:] = fixture.rows
    for name, X in (
        ("for a slice of a larger array", part),
        ("in Fortran's order", np.asfortranarray(fixture.rows)),
    ):
        fixture.same_quality(fixture.fit(X), name)


@check(
    "reducers", "let no result depend on who finishes first; say in expected_failed_checks if the method does"
)
def one_thread_and_two_agree(fixture: ReducerFixture) -> None:
    """With two threads most neighbours of a point, and how well clusters are apart, are what they are with one.

    Sums are rounded in another order, so the last digits may differ, and an optimisation may carry them further.
    """
    with threads(1):
        one = fixture.fit(n_jobs=1)
    with threads(2):
        two = fixture.fit(n_jobs=2)
    if np.array_equal(one, two):
        return
    near, there = (exact_neighbours(p, NEAR).indices for p in (one, two))
    kept = np.mean([len(np.intersect1d(a, b)) / NEAR for a, b in zip(near, there, strict=True)])
    if kept < 0.5:
        raise Violation(f"with two threads {kept:.0%} of the nearest points are those with one thread")
    if abs(hit(one, fixture.labels) - hit(two, fixture.labels)) > 0.1:
        raise Violation("with two threads clusters are less apart, or more, than with one")


@check(
    "reducers", "look at the data, and check the optimisation; a negative control says so: control='negative'"
)
def beats_random_projection(fixture: ReducerFixture) -> None:
    """Of five clusters, more of a point's neighbours are of its own than in two random directions."""
    if fixture.spec.control == "negative":
        raise NotApplicable("it is a negative control")
    rng = np.random.default_rng(0)
    d = fixture.reference.shape[1]
    maps = rng.standard_normal((8, fixture.rows.shape[1], d))
    chance = float(np.mean([fixture.hit(fixture.rows @ some) for some in maps]))
    ours = fixture.hit(fixture.reference)
    if ours < min(chance + 0.1, 0.97):
        raise Violation(
            f"{ours:.0%} of the nearest points are of the same cluster; with random projections {chance:.0%}"
        )


@check("reducers", "raise ValueError where not numpy.isfinite(X).all()")
def refuses_nan(fixture: ReducerFixture) -> None:
    """A row that is not finite is refused with a ValueError, rather than embedded somewhere."""
    for name, value in (("NaN", np.nan), ("infinity", np.inf)):
        X = fixture.rows.copy()
        X[3, 1] = value
        try:
            fixture.make().fit_transform(X)
        except (Exception, SystemExit) as error:
            if not refusal(error):
                raise Violation(f"{name} in its input ends in {brief(error)}") from error
        else:
            raise Violation(f"it takes {name} in its input and says nothing")


@check(
    "reducers",
    "raise ValueError that says how many rows are needed; kdbench asks for neither padding nor NaN",
)
def few_rows(fixture: ReducerFixture) -> None:
    """One, two, three and eight rows are embedded, finite, or refused with a ValueError."""
    for n in (1, 2, 3, 8):
        _embedded_or_refused(fixture, fixture.rows[:n].copy(), f"{n} rows")


@check("reducers", "raise ValueError where X.ndim != 2 or there is no row")
def no_rows(fixture: ReducerFixture) -> None:
    """No row at all, and an array that is not two-dimensional, are refused with a ValueError."""
    for name, X in (
        ("no row", fixture.rows[:0]),
        ("one dimension", fixture.rows[0]),
        ("three dimensions", fixture.rows[None]),
    ):
        try:
            fixture.make().fit_transform(X.copy())
        except (Exception, SystemExit) as error:
            if not refusal(error):
                raise Violation(f"{name}: it ends in {brief(error)}") from error
        else:
            raise Violation(f"{name}: it is taken, and nothing is said")


@check("reducers", "return one (finite) point for rows that are all alike, or raise ValueError")
def constant_rows(fixture: ReducerFixture) -> None:
    """Rows that are all alike, as of a network that has collapsed, are embedded, finite, or refused."""
    _embedded_or_refused(fixture, np.ones_like(fixture.rows), "rows that are all alike")


@check("reducers", "use the argument `neighbours` of fit_transform in the place of neighbours of your own")
def given_neighbours_are_used(fixture: ReducerFixture) -> None:
    """A reducer with `neighbours_wanted` asks for what can be had, and what it is given decides its result: exact
    neighbours change little, and those of other rows lead elsewhere."""
    ask = getattr(fixture.make(), "neighbours_wanted", None)
    wanted = ask(len(fixture.rows)) if ask else None
    if wanted is None:
        raise NotApplicable("it has no neighbours_wanted")
    k, metric = wanted
    if not 1 <= k < len(fixture.rows) or metric not in ("euclidean", "angular"):
        raise Violation(
            f"neighbours_wanted({len(fixture.rows)}) is {wanted!r}: (k, 'euclidean' or 'angular'), 1 <= k < n"
        )
    own = fixture.fit(neighbours=exact_neighbours(fixture.rows, k, metric))
    fixture.same_quality(own, "with exact neighbours")
    others = np.random.default_rng(0).permutation(len(fixture.rows))
    misled = fixture.fit(neighbours=exact_neighbours(fixture.rows[others], k, metric))
    if np.array_equal(own, misled):
        raise Violation("neighbours of other rows give the same points: it does not use those it is given")


@check(
    "reducers", "set loss_history_ in fit_transform, a float an epoch; or take loss_history out of the spec"
)
def loss_history(fixture: ReducerFixture) -> None:
    """One whose spec says `loss_history` has finite losses in `loss_history_` after fitting."""
    if not fixture.spec.loss_history:
        raise NotApplicable("its spec declares no loss history")
    reducer = fixture.make()
    reducer.fit_transform(fixture.rows.copy())
    losses = getattr(reducer, "loss_history_", None)
    if losses is None or not len(losses):
        raise Violation("loss_history_ is not there, or empty, after fitting")
    if not np.isfinite(np.asarray(losses, np.float64)).all():
        raise Violation(f"loss_history_ has losses that are not finite: {list(losses)[:3]}...")


@check("reducers", "give transform the map that fitting found; or take parametric out of the spec")
def transform(fixture: ReducerFixture) -> None:
    """One whose spec says `parametric` maps the rows that it was fitted to to the points that it gave them."""
    if not fixture.spec.parametric:
        raise NotApplicable("its spec does not declare it parametric")
    reducer = fixture.make()
    points = np.asarray(reducer.fit_transform(fixture.rows.copy()), np.float64)
    if not hasattr(reducer, "transform"):
        raise Violation("its spec says parametric, and it has no transform")
    again = np.asarray(reducer.transform(fixture.rows[:50].copy()), np.float64)
    if again.shape != (50, points.shape[1]):
        raise Violation(f"transform returned shape {again.shape} for 50 rows")
    away = np.abs(again - points[:50]).max() / max(float(points.std()), 1e-12)
    if not away < 1e-2:
        raise Violation(
            f"transform puts rows {away:.2g} standard deviations from where fit_transform put them"
        )


def _embedded_or_refused(fixture: ReducerFixture, X: np.ndarray, what: str) -> None:
    try:
        fixture.fit(X)
    except Violation as wrong:
        raise Violation(f"{what}: {wrong}") from wrong
    except (Exception, SystemExit) as error:
        if not refusal(error):
            raise Violation(f"{what}: it ends in {brief(error)}") from error


CHECKS: tuple[Check, ...] = (
    shape,
    finite,
    input_unchanged,
    same_seed_same_result,
    second_fit_forgets_the_first,
    no_global_random_state,
    leaves_global_state_alone,
    float32,
    non_contiguous_slice,
    one_thread_and_two_agree,
    beats_random_projection,
    refuses_nan,
    few_rows,
    no_rows,
    constant_rows,
    given_neighbours_are_used,
    loss_history,
    transform,
)
