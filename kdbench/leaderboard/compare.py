"""Two schemes, students or runs side by side: the same measurement of both, paired by fold."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdbench.errors import UsageError, WorkspaceError, did_you_mean

if TYPE_CHECKING:
    from kdbench.api.records import CellRecord
    from kdbench.leaderboard.differences import Fingerprint
    from kdbench.leaderboard.samples import Sample
    from kdbench.registry import Registry
    from kdbench.suite.schema import Suite

#: (suite, scale) to the suite at that scale, every default written out.
Suites = Mapping[tuple[str, str], "Suite"]
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
class Comparison:
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

    Args:
        name: label or component name of a scheme, label of a student, id of a run, or a workspace's folder;
            "scheme:NAME", "student:NAME" or "run:ID" where the name alone could be several.
        cells: that schemes and students are looked for in.
        fetch_run: the cells of a run by its id.

    Raises:
        UsageError: it is none of these. WorkspaceError: there is no such run.
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
) -> dict[tuple[str, str], Suite]:
    """The suites that cells are of, as a leaderboard reads them; without those that are not to be had: files that
    were not named, scales that a suite no longer has.

    Args:
        sources: name of a suite to its file, of those that are not registered.
    """
    from kdbench.errors import KdbenchError
    from kdbench.leaderboard import completed
    from kdbench.suite import load_suite

    found: dict[tuple[str, str], Suite] = {}
    for name, scale in sorted({(c.suite, c.scale) for c in cells}):
        try:
            loaded = load_suite((sources or {}).get(name, name), scale=scale, registry=registry).suite
            if loaded.name == name:
                found[name, scale] = completed(loaded, registry)
        except KdbenchError:
            continue
    return found


def compare(
    a: Side,
    b: Side,
    *,
    suites: Suites | None = None,
    metrics: Collection[str] = (),
    directions: dict[str, bool | None] | None = None,
    every: bool = False,
) -> Comparison:
    """Pair what was measured of both by fold.

    Schemes pair where data, student and its training agree; students where data and scheme do; runs where
    suite, scale, data, scheme and networks have the same names (their settings may differ: `notes`). What was
    measured must agree in metric, value, tap, reducer and all their parameters.

    Args:
        suites: decide which of several experiments with one name is the main one, as on a leaderboard; of a
            suite that is not among them it is the newest.
        metrics: of these alone ("accuracy", "accuracy.top5").
        directions: metric to whether higher is better.
        every: all values, not only those that metrics are ranked by (a value named in `metrics` always is).

    Raises:
        UsageError: A and B are of different kinds, or the same; or a metric that neither has.
        WorkspaceError: nothing pairs.
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
    place = _places(a.kind, teacher)
    partners: dict[tuple, list[Sample]] = {}
    for sample in right:
        partners.setdefault(place(sample), []).append(sample)
    rows, met = [], set()
    for sample in _mains(left, place):
        fitting = partners.get(place(sample), [])
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
    return Comparison(a.kind, a.name, b.name, rows, *alone)


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


def _places(kind: Kind, teacher: bool) -> Callable[[Sample], tuple]:
    """What two samples that pair have in common."""

    def data_of(sample: Sample) -> frozenset:
        """The data and what measured it, without the student's own parameters."""
        return frozenset(item for item in sample.shared if not item[0].startswith("student."))

    def place(sample: Sample) -> tuple:
        setup, measured = sample.setup, sample.measured
        if kind == "run":
            return (measured, setup)
        if kind == "student":
            return (measured, setup[:5], data_of(sample))
        if teacher:  # a teacher has another network
            return (measured, setup[:4], data_of(sample))
        return (measured, setup[:4], setup.student, sample.shared)

    return place


def _mains(samples: Iterable[Sample], place: Callable[[Sample], tuple]) -> list[Sample]:
    """One sample a place and variant."""
    found: dict[tuple, Sample] = {}
    for sample in samples:
        found.setdefault((place(sample), sample.variant), sample)
    return list(found.values())


def _difference(a: Sample, b: Sample, kind: Kind, directions: dict[str, bool | None]) -> Difference | None:
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
    setup = a.setup
    return Difference(
        suite=setup.suite,
        scale=setup.scale,
        dataset=setup.dataset,
        budget=setup.budget,
        scheme=_both(setup.scheme, b.setup.scheme),
        student=_both(setup.student, b.setup.student),
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
        notes=_notes(_settings(a, kind), _settings(b, kind)),
    )


def _settings(sample: Sample, kind: Kind) -> Fingerprint:
    """What a sample was set to, of all that two sides of this kind should have in common.

    Runs and students are of one scheme, whose own parameters and teacher belong to it, named as `--set` names
    them ("schemes.distilled.temperature"). Two schemes differ in theirs; their teachers are told.
    """
    from kdbench.leaderboard.grouping import placed

    training = placed([next(iter(sample.cells.values()))])[0].training
    if kind == "scheme":
        return sample.shared | {item for item in training if sample.setup.student and _of_teacher(item)}
    scheme = f"schemes.{sample.setup.scheme}."
    named = ((n.replace("scheme.", scheme, 1) if n.startswith("scheme.") else n, v) for n, v in training)
    return sample.shared | frozenset(named)


def _of_teacher(item: tuple[str, str]) -> bool:
    return item[0].startswith("teacher.")


def _notes(a: Fingerprint, b: Fingerprint) -> str:
    """ "A: student.epochs=20; B: student.epochs=5"."""
    from kdbench.leaderboard.differences import difference
    from kdbench.leaderboard.grouping import OUTCOME

    ours, theirs = a - b, b - a
    if not (any(map(_of_teacher, a)) and any(map(_of_teacher, b))):  # one of two schemes has none
        ours, theirs = (frozenset(i for i in side_ if not _of_teacher(i)) for side_ in (ours, theirs))
    if {name for name, _ in ours | theirs} - OUTCOME:  # told only where nothing that was set tells why
        ours, theirs = (frozenset(i for i in side_ if i[0] not in OUTCOME) for side_ in (ours, theirs))
    if not ours | theirs:
        return ""
    return "; ".join(
        f"{name}: {difference(one, other)}" for name, one, other in (("A", ours, theirs), ("B", theirs, ours))
    )


def _both(left: str, right: str) -> str:
    return left if left == right else f"{left or '-'} | {right or '-'}"
