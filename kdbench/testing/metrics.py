"""Conformance checks of metrics."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kdbench.api.data import MetricResult
from kdbench.testing.check import Check, check
from kdbench.testing.fixtures.metrics import CLASSES, MetricFixture, N, Scene, bad, good
from kdbench.testing.import_guard import brief, global_seeds, left_alone, refusal
from kdbench.testing.outcome import NotApplicable, Violation


@check(
    "metrics", "return float(x) by name; leave out a value that does not exist, and put arrays into `arrays`"
)
def values_are_named_and_finite(fixture: MetricFixture) -> None:
    """Values are finite numbers by name, at least one where the network is an ordinary one."""
    if not fixture.best.values:
        raise Violation("it returned no value for an ordinary network")
    for result in (fixture.best, fixture.worst):
        _named_and_finite(result)


@check(
    "metrics", "return NumPy arrays in `arrays`, matplotlib Figures in `figures` and one line in `setting`"
)
def arrays_figures_setting(fixture: MetricFixture) -> None:
    """Arrays hold numbers, truth values or text; figures are matplotlib's; the setting is a line."""
    for name, array in fixture.best.arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufU":
            raise Violation(
                f"arrays[{name!r}] is {getattr(array, 'dtype', type(array).__name__)}, no plain array"
            )
    for name, figure in fixture.best.figures.items():
        if not re.fullmatch(r"[\w-]+", name):
            raise Violation(f"the figure {name!r}: a name is letters, digits, '-' and '_'")
        if not callable(getattr(figure, "savefig", None)):
            raise Violation(f"figures[{name!r}] is {type(figure).__name__}, no matplotlib.figure.Figure")
    setting = fixture.best.setting
    if not isinstance(setting, str) or "\n" in setting:
        raise Violation(f"setting is {setting!r}: one line is expected")


@check(
    "metrics", "name in the spec's `primary` one of the values that are always there for an ordinary network"
)
def primary_is_there(fixture: MetricFixture) -> None:
    """The value that leaderboards rank by is among those that it returns."""
    for of, result in (("a good network", fixture.best), ("one that knows nothing", fixture.worst)):
        if fixture.spec.primary not in result.values:
            raise Violation(
                f"primary is {fixture.spec.primary!r}; of {of} it returns {', '.join(result.values)}"
            )


@check("metrics", "correct the spec's `bounds`, or what leaves them (rounding too: clip it)")
def primary_is_within_bounds(fixture: MetricFixture) -> None:
    """The primary value lies within the spec's `bounds`, both ends included, whatever is measured."""
    scenes = {"good": good(), "bad": bad(), **dict(degenerate())}
    for name, scene in scenes.items():
        result = _measured_or_refused(fixture, scene, name)
        if result is None or fixture.spec.primary not in result.values:
            continue
        low, high = fixture.spec.bounds
        value = result.values[fixture.spec.primary]
        if (low is not None and value < low) or (high is not None and value > high):
            raise Violation(f"{fixture.spec.primary} is {value!r} ({name}), outside {low} to {high}")


@check(
    "metrics", "correct `higher_is_better` in the spec, or the sign; None where neither direction is better"
)
def direction_on_the_controls(fixture: MetricFixture) -> None:
    """A network that separates classes, groups superclasses, is right and like its teacher is better, in the spec's
    direction, than one whose outputs, features and embedding have nothing to do with the labels."""
    if fixture.spec.higher_is_better is None:
        raise NotApplicable("its spec has no better direction")
    best, worst = (r.values.get(fixture.spec.primary) for r in (fixture.best, fixture.worst))
    if best is None or worst is None:
        raise Violation(f"{fixture.spec.primary!r} is not there for both controls")
    if (best > worst) is not fixture.spec.higher_is_better or best == worst:
        word = "higher" if fixture.spec.higher_is_better else "lower"
        raise Violation(
            f"{word} is better, and a good network has {best:.4g}, one that knows nothing {worst:.4g}"
        )


@check("metrics", "remove what makes the value depend on it, or take its name out of `invariances`")
def declared_invariances(fixture: MetricFixture) -> None:
    """What it names in its attribute `invariances` changes no value, beyond the fifth digit."""
    names = tuple(getattr(fixture.metric(), "invariances", ()))
    if not names:
        raise NotApplicable("it declares no invariances")
    for name in names:
        if name not in INVARIANCES:
            raise Violation(f"invariances has {name!r}; known: {', '.join(INVARIANCES)}")
        for scene, before in ((good(), fixture.best), (bad(), fixture.worst)):
            after = fixture.measure(INVARIANCES[name](scene)).values
            if set(after) != set(before.values):
                raise Violation(f"{name}: {', '.join(sorted(set(after) ^ set(before.values)))} comes or goes")
            for value, was in before.values.items():
                if not np.isclose(after[value], was, rtol=1e-4, atol=1e-5):
                    raise Violation(f"{name} changes {value} from {was:.6g} to {after[value]:.6g}")


@check(
    "metrics", "leave out a value that does not exist (0/0), or raise ValueError that says what is missing"
)
def constant_input(fixture: MetricFixture) -> None:
    """Outputs, features and points that are all alike (a network that has collapsed) give finite values, fewer of
    them, or a ValueError; never NaN, infinity or another error. So do images of one class alone."""
    for name, scene in degenerate():
        result = _measured_or_refused(fixture, scene, name)
        if result is not None:
            _named_and_finite(result, f"{name}: ")


@check("metrics", "raise ValueError where an input is not finite")
def refuses_nan(fixture: MetricFixture) -> None:
    """Non-finite input is refused, or the value is omitted. No value is computed from it."""
    scene = good()
    broken = dataclasses.replace(
        scene,
        logits=_with_nan(scene.logits),
        features=_with_nan(scene.features),
        points=_with_nan(scene.points),
        losses=(float("nan"),) * len(scene.losses),
    )
    if "reducers" in fixture.spec.needs:
        raise NotApplicable("it looks at no network")
    result = _measured_or_refused(fixture, broken, "NaN in what it reads")
    if result is not None and fixture.spec.primary in result.values:
        raise Violation(
            f"with NaN in all that it can read, {fixture.spec.primary} is {result.values[fixture.spec.primary]}"
        )


@check("metrics", "compute on copies: stages share the arrays of a view")
def view_unchanged(fixture: MetricFixture) -> None:
    """The arrays that it looks at are what they were."""
    scene, before = good(), good()
    fixture.measure(scene)
    for name in ("labels", "logits", "features", "points", "weight", "superclass_of"):
        if not np.array_equal(getattr(scene, name), getattr(before, name)):
            raise Violation(f"it changed the view's {name}")


@check("metrics", "draw from numpy.random.default_rng(a fixed seed), never from a global generator")
def same_view_same_result(fixture: MetricFixture) -> None:
    """The same view gives the same values and arrays, bit by bit, whatever the global random states are."""
    with global_seeds(1):
        one = fixture.measure(good())
    with global_seeds(2):
        two = fixture.measure(good())
    if dict(one.values) != dict(two.values):
        names = [k for k in one.values if one.values[k] != two.values.get(k)]
        raise Violation(f"{', '.join(names) or 'the set of values'} differs between two calls")
    for name, array in one.arrays.items():
        equal_nan = array.dtype.kind == "f"
        if name not in two.arrays or not np.array_equal(array, two.arrays[name], equal_nan=equal_nan):
            raise Violation(f"the array {name} differs between two calls")


@check("metrics", "neither seed nor draw from a global generator, and log with `logging` instead of printing")
def leaves_global_state_alone(fixture: MetricFixture) -> None:
    """Measuring moves no global random state (Python, NumPy, PyTorch) and prints nothing."""
    with left_alone("while it measured"):
        fixture.measure(good())


@check("metrics", "add what it reads to `needs` in its spec, which decides what is there to be read")
def reads_only_what_it_needs(fixture: MetricFixture) -> None:
    """It asks a view for nothing but what its spec `needs`; outputs, labels and curves are always there."""
    fixture.measure(dataclasses.replace(good(), needs=frozenset(fixture.spec.needs)))


@check(
    "metrics", "return (k, 'euclidean' or 'angular') or None from neighbours_wanted, and need \"neighbours\""
)
def neighbours_wanted(fixture: MetricFixture) -> None:
    """One with `neighbours_wanted` asks for neighbours that there are, or refuses the number with a ValueError."""
    ask = getattr(fixture.metric(), "neighbours_wanted", None)
    if ask is None:
        raise NotApplicable("it has no neighbours_wanted")
    wanted = ask(N)
    if wanted is None:
        return
    k, metric = wanted
    if not 1 <= k < N or metric not in ("euclidean", "angular"):
        raise Violation(f"neighbours_wanted({N}) is {wanted!r}")
    if "neighbours" not in fixture.spec.needs:
        raise Violation(f'it wants {k} neighbours, and its spec does not need "neighbours"')


def degenerate() -> Iterable[tuple[str, Scene]]:
    """Scenes in which much does not exist, each with what to call it."""
    scene = good()
    flat: dict[str, Any] = {
        name: np.ones_like(getattr(scene, name)) for name in ("logits", "features", "points", "weight")
    }
    yield "constant input", dataclasses.replace(scene, **flat)
    zero: dict[str, Any] = {name: np.zeros_like(array) for name, array in flat.items()}
    yield "all zeros", dataclasses.replace(scene, **zero)
    yield "images of one class", dataclasses.replace(scene, labels=np.full_like(scene.labels, 2))
    lonely = scene.labels % (CLASSES - 1)
    lonely[0] = CLASSES - 1
    yield "a class of one image", dataclasses.replace(scene, labels=lonely)


def _permuted(scene: Scene) -> Scene:
    rows = np.random.default_rng(5).permutation(len(scene.labels))

    def of(s: Scene) -> Scene:
        return dataclasses.replace(
            s,
            labels=s.labels[rows],
            logits=s.logits[rows],
            features=s.features[rows],
            points=s.points[rows],
            masks=s.masks[rows],
            of_teacher=s.of_teacher and of(s.of_teacher),
            independent=s.independent and of(s.independent),
        )

    return of(scene)


def _turned(array: np.ndarray) -> np.ndarray:
    d = array.shape[1]
    turn, _ = np.linalg.qr(np.random.default_rng(6).standard_normal((d, d)))
    return (array @ turn).astype(np.float32)


def _on(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Scene], Scene]:
    def of(scene: Scene) -> Scene:
        changed: dict[str, Any] = {name: change(getattr(scene, name)).astype(np.float32)}
        return dataclasses.replace(scene, **changed)

    return of


#: What a metric may name in `invariances`: a change of the scene under which its values stay as they are.
INVARIANCES: dict[str, Callable[[Scene], Scene]] = {
    "order of images": _permuted,
    "logits plus a constant": _on("logits", lambda x: x + 3),
    "logits times a constant": _on("logits", lambda x: x * 2),
    "features plus a constant": _on("features", lambda x: x + 3),
    "features times a constant": _on("features", lambda x: x * 4),
    "rotation of features": _on("features", _turned),
    "embedding plus a constant": _on("points", lambda x: x + 3),
    "embedding times a constant": _on("points", lambda x: x * 4),
    "rotation of the embedding": _on("points", _turned),
    "stretch of the embedding": _on("points", lambda x: x * np.array([4, 0.5])),
}


def _with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[4] = np.nan
    return array


def _named_and_finite(result: MetricResult, prefix: str = "") -> None:
    for name, value in result.values.items():
        if not isinstance(name, str) or not name:
            raise Violation(f"{prefix}a value's name is {name!r}")
        if isinstance(value, (bool, np.ndarray)) or not isinstance(value, (int, float, np.number)):
            raise Violation(f"{prefix}{name} is {type(value).__name__}, no number")
        if not np.isfinite(value):
            raise Violation(f"{prefix}{name} is {value}")


def _measured_or_refused(fixture: MetricFixture, scene: Scene, what: str) -> MetricResult | None:
    try:
        with np.errstate(all="ignore"):
            return fixture.measure(scene)
    except Violation:
        raise
    except (Exception, SystemExit) as error:
        if not refusal(error):
            raise Violation(f"{what}: it ends in {brief(error)}") from error
        return None


CHECKS: tuple[Check, ...] = (
    values_are_named_and_finite,
    arrays_figures_setting,
    primary_is_there,
    primary_is_within_bounds,
    direction_on_the_controls,
    declared_invariances,
    constant_input,
    refuses_nan,
    view_unchanged,
    same_view_same_result,
    leaves_global_state_alone,
    reads_only_what_it_needs,
    neighbours_wanted,
)
