"""Compare two schemes, students or runs: the same measurement of both, paired by fold."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdbench.api.settings import Fingerprint, difference, fingerprint
from kdbench.errors import UsageError, WorkspaceError, did_you_mean
from kdbench.leaderboard.differences import shortened
from kdbench.leaderboard.grouping import outcome

if TYPE_CHECKING:
    from kdbench.api.records import CellRecord
    from kdbench.api.settings import Flat
    from kdbench.leaderboard.board import Directions
    from kdbench.leaderboard.samples import Sample
    from kdbench.plan.settings import SuiteSettings
    from kdbench.registry import Registry

#: (suite, scale) to what the suite says at that scale.
Suites = Mapping[tuple[str, str], "SuiteSettings"]
Kind = Literal["scheme", "student", "run"]
#: kdbench's own id of a run, and MLflow's.
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}|[0-9a-f]{32}")


@dataclass(frozen=True)
class Difference:
    """One measurement of A and of B.

    `left` and `right` are means over the `n` folds that both have, `difference` is that of A minus B with its
    95 % interval (None with one fold). `verdict`: "A" or "B" where the interval leaves zero out, on at least
    five folds and for a metric that has a better end; "differs" where it has none; else "undecided".
    `variant`: what the pair was set to, of several experiments of one name; "" for the main one. `notes`: what
    else the two differ in.
    """

    suite: str
    scale: str
    dataset: str
    budget: int
    scheme: str
    student: str
    tap: str | None
    reducer: str | None
    metric: str
    setting: str
    n: int
    left: float
    right: float
    difference: float
    low: float | None
    high: float | None
    verdict: str
    primary: bool = False
    variant: str = ""
    notes: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SideBySide:
    """A and B by `kind`, the rows that pair, and how many measurements of each found no partner."""

    kind: Kind
    left: str
    right: str
    rows: list[Difference]
    left_alone: int
    right_alone: int


@dataclass(frozen=True)
class Side:
    """What one of the two names stands for."""

    kind: Kind
    name: str
    cells: Sequence[CellRecord]


def side(
    name: str, cells: Sequence[CellRecord], fetch_run: Callable[[str], Sequence[CellRecord]] | None = None
) -> Side:
    """The cells that a name stands for.

    Parameters
    ----------
    name
        Label or component name of a scheme, label of a student, id of a run, or a workspace's folder; "scheme:NAME",
        "student:NAME" or "run:ID" where the name alone could be several.
    cells
        That schemes and students are looked for in.
    fetch_run
        The cells of a run by its id.

    Returns
    -------
    Side
        The cells and what kind of name it is.

    Raises
    ------
    UsageError
        It is none of these.
    WorkspaceError
        There is no such run.
    """
    from kdbench.leaderboard.samples import base_name

    kind, colon, rest = name.partition(":")
    wanted, given = (rest, kind) if colon and kind in ("scheme", "student", "run") else (name, "")
    for field in ("scheme", "student"):
        if given not in ("", field):
            continue
        found = [c for c in cells if getattr(c, field) == wanted]
        found = found or [c for c in cells if base_name(getattr(c, field)) == wanted]
        labels = sorted({getattr(c, field) for c in found})
        if len(labels) > 1:
            raise UsageError(
                f"{wanted!r} is the name of several {field}s", hint="one of " + ", ".join(labels)
            )
        if found:
            return Side(field, labels[0], found)  # type: ignore[arg-type]
    if given != "scheme" and given != "student":
        if (Path(wanted) / "cells").is_dir():
            from kdbench.store import Store

            return Side("run", wanted, Store(Path(wanted)).cells())
        if fetch_run is not None and (given == "run" or _RUN_ID.fullmatch(wanted)):
            return Side("run", wanted, fetch_run(wanted))
    known = {c.scheme for c in cells} | {c.student for c in cells if c.student}
    raise UsageError(
        f"there is no {given or 'scheme, student, run or workspace'} {wanted!r}",
        hint=did_you_mean(wanted, known),
    )


def suites_of(
    cells: Iterable[CellRecord], registry: Registry, sources: Mapping[str, str | Path] | None = None
) -> dict[tuple[str, str], SuiteSettings]:
    """The suites of cells, without those that can't be loaded: files that were not named, scales that a suite no
    longer has.

    Parameters
    ----------
    cells
        Cells of any suites.
    registry
        Gives the suites and their components.
    sources
        Name of a suite to its file, for suites that are not registered.

    Returns
    -------
    dict
        Suite and scale to what the suite says.
    """
    from kdbench.errors import KdbenchError
    from kdbench.plan.settings import SuiteSettings
    from kdbench.suite import load_suite

    found: dict[tuple[str, str], SuiteSettings] = {}
    for name, scale in sorted({(c.suite, c.scale) for c in cells}):
        try:
            loaded = load_suite((sources or {}).get(name, name), scale=scale, registry=registry).suite
            if loaded.name == name:
                found[name, scale] = SuiteSettings(loaded, registry)
        except KdbenchError:
            continue
    return found


def compare(
    a: Side,
    b: Side,
    *,
    suites: Suites | None = None,
    metrics: Collection[str] = (),
    directions: Directions | None = None,
    every: bool = False,
) -> SideBySide:
    """Pair what was measured of both by fold.

    Schemes pair where data, student and its training agree; students where data and scheme do; runs where
    suite, scale, data, scheme and networks have the same names (their settings may differ: `notes`). What was
    measured must agree in metric, value, tap, reducer and all their parameters.

    Parameters
    ----------
    a
        One side.
    b
        The other side.
    suites
        Decide which of several experiments with one name is the main one, as on a leaderboard; of a suite that is not
        among them it is the newest.
    metrics
        Of these alone ("accuracy", "accuracy.top5").
    directions
        Metric to whether higher is better.
    every
        All values, not only those that metrics are ranked by (a value named in `metrics` always is).

    Returns
    -------
    SideBySide
        The rows that pair.

    Raises
    ------
    UsageError
        A and B are of different kinds, or the same; or a metric that neither has.
    WorkspaceError
        Nothing pairs.
    """
    if a.kind != b.kind:
        raise UsageError(
            f"{a.name!r} is a {a.kind} and {b.name!r} a {b.kind}",
            hint="two of a kind can be compared; scheme:NAME, student:NAME and run:ID say which is meant",
        )
    if a.name == b.name:
        raise UsageError(f"{a.name!r} is compared with itself")
    left, right = (_samples(side_.cells, suites or {}) for side_ in (a, b))
    known = {s.measured.metric for s in (*left, *right)}
    values = {_value_name(s) for s in (*left, *right)}
    for metric in metrics:
        if metric not in known | values:
            of_that_name = sorted(v for v in values if v.endswith(f".{metric}"))
            hint = f"did you mean {' or '.join(map(repr, of_that_name))}?" if of_that_name else ""
            raise UsageError(
                f"neither has a metric {metric!r}", hint=hint or did_you_mean(metric, known | values)
            )
    left, right = ([s for s in side_ if _wanted(s, metrics, every)] for side_ in (left, right))
    teacher = a.kind == "scheme" and "teacher" in (a.name, b.name)
    partner_key = _partner_keys(a.kind, teacher)
    partners: dict[tuple, list[Sample]] = {}
    for sample in right:
        partners.setdefault(partner_key(sample), []).append(sample)
    rows, met = [], set()
    for sample in _mains(left, partner_key):
        fitting = partners.get(partner_key(sample), [])
        same = [s for s in fitting if s.variant == sample.variant] or [s for s in fitting if not s.variant]
        for partner in (same or fitting)[:1]:
            if row := _difference(sample, partner, a.kind, directions or {}):
                rows.append(row)
                met |= {id(sample), id(partner)}
    if not rows:
        raise WorkspaceError(
            f"nothing pairs: no fold of {a.name!r} was measured as one of {b.name!r} was",
            where=f"{len(a.cells)} cells of {a.name!r}, {len(b.cells)} of {b.name!r}",
            hint="two students need a metric of whole networks or taps of one name; two runs the same suite, "
            "scale, data and names",
        )
    rows.sort(
        key=lambda r: (r.suite, r.scale, r.dataset, r.metric, r.reducer or "", r.budget, r.scheme, r.variant)
    )
    alone = [sum(id(s) not in met for s in side_) for side_ in (left, right)]
    return SideBySide(a.kind, a.name, b.name, rows, *alone)


def _samples(cells: Sequence[CellRecord], suites: Suites) -> list[Sample]:
    """Samples of all suites and scales, each with its own suite's main experiments."""
    from kdbench.leaderboard.samples import samples

    of_suite: dict[tuple[str, str], list[CellRecord]] = {}
    for cell in cells:
        of_suite.setdefault((cell.suite, cell.scale), []).append(cell)
    return [s for place, some in sorted(of_suite.items()) for s in samples(some, suites.get(place))]


def _value_name(sample: Sample) -> str:
    return f"{sample.measured.metric}.{sample.measured.value_name}"


def _wanted(sample: Sample, metrics: Collection[str], every: bool) -> bool:
    if _value_name(sample) in metrics:
        return True
    return (not metrics or sample.measured.metric in metrics) and (every or sample.primary)


def _partner_keys(kind: Kind, teacher: bool) -> Callable[[Sample], tuple]:
    """What two samples that pair have in common."""

    def without_student(sample: Sample) -> Fingerprint:
        return fingerprint(sample.settings.data_part) | sample.measuring

    def partner_key(sample: Sample) -> tuple:
        row, measured = sample.row, sample.measured
        if kind == "run":
            return (measured, row)
        if kind == "student":
            return (measured, row[:5], without_student(sample))
        if teacher:  # a teacher has another network
            return (measured, row[:4], without_student(sample))
        return (measured, row[:4], row.student, sample.shared)

    return partner_key


def _mains(samples: Iterable[Sample], partner_key: Callable[[Sample], tuple]) -> list[Sample]:
    """One sample a key and variant."""
    found: dict[tuple, Sample] = {}
    for sample in samples:
        found.setdefault((partner_key(sample), sample.variant), sample)
    return list(found.values())


def _difference(a: Sample, b: Sample, kind: Kind, directions: Directions) -> Difference | None:
    from kdbench.leaderboard.samples import base_name
    from kdbench.leaderboard.statistics import DESCRIPTIVE_BELOW, paired

    estimate = paired(a.values, b.values)
    if estimate is None:
        return None
    folds = sorted(a.values.keys() & b.values.keys())
    means = [sum(s.values[f] for f in folds) / len(folds) for s in (a, b)]
    low, high = estimate.low, estimate.high
    verdict = "undecided"
    if low is not None and high is not None and estimate.n >= DESCRIPTIVE_BELOW and (low > 0 or high < 0):
        higher = directions.get(base_name(a.measured.metric))
        verdict = "differs" if higher is None else "A" if (low > 0) == higher else "B"
    row = a.row
    return Difference(
        suite=row.suite,
        scale=row.scale,
        dataset=row.dataset,
        budget=row.budget,
        scheme=_both(row.scheme, b.row.scheme),
        student=_both(row.student, b.row.student),
        tap=a.measured.tap,
        reducer=a.measured.reducer,
        metric=_value_name(a),
        setting=a.measured.setting,
        n=estimate.n,
        left=means[0],
        right=means[1],
        difference=estimate.mean,
        low=low,
        high=high,
        verdict=verdict,
        primary=a.primary,
        variant=a.variant,
        notes=_notes(a, b, kind),
    )


def _notes(a: Sample, b: Sample, kind: Kind) -> str:
    """What two sides differ in of what they should have in common: "A: student.epochs=20; B: student.epochs=5".

    Runs and students are of one scheme: its parameters and its teacher count, named as `--set` names them. Two
    schemes differ in their parameters; their teachers count if both have the suite's. Steps and images seen are
    named only if no setting explains them.
    """
    sides = [(_settings(s, kind), outcome(next(iter(s.cells.values())))) for s in (a, b)]
    (ours, our_outcome), (theirs, their_outcome) = sides
    comparable = kind != "scheme" or not any(s.settings.own_teacher or not s.row.student for s in (a, b))
    if comparable and a.settings.teacher and b.settings.teacher:
        ours, theirs = ours | a.settings.teacher_part, theirs | b.settings.teacher_part
    differing = difference(ours, theirs)
    if not differing and kind != "scheme":
        differing = difference(our_outcome, their_outcome)
    texts = [
        ", ".join(f"{name}={shortened(values[side])}" for name, values in sorted(differing.items()))
        for side in (0, 1)
    ]
    return f"A: {texts[0]}; B: {texts[1]}" if differing else ""


def _settings(sample: Sample, kind: Kind) -> Flat:
    settings, measured = sample.settings, sample.measured
    flat = settings.shared | settings.measuring(measured.metric, measured.reducer)
    if kind == "scheme":
        return flat
    scheme = settings.scheme.flat(f"schemes.{sample.row.scheme}") if settings.scheme is not None else {}
    return flat | scheme | settings.budget_bound


def _both(left: str, right: str) -> str:
    return left if left == right else f"{left or '-'} | {right or '-'}"
