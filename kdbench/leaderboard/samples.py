"""Cells to samples: one value a fold for all that was measured, and never two experiments in one sample.

Cells belong together when they differ in nothing but fold and seed: not in network, data, budget, scale,
precision or any parameter that shapes training. What was measured on them belongs together when the metric's
and the reducer's parameters agree too. Where several such experiments would print the same name, one is the
main one (nearest to the suite, then the one with most cells, then the newest) and the others say in `variant`
what they differ in.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kdbench.api.records import CellRecord, Result

if TYPE_CHECKING:
    from kdbench.suite.schema import Suite

#: Parameters that say which fold it was or how it was executed, not what was done.
_INCIDENTAL = frozenset(
    {"seed", "fold", "folds", "budget", "budgets", "n_jobs", "device", "eval_every", "label", "workers"}
)
#: Parameters of what is measured afterwards.
_MEASURING = frozenset({"metric", "metrics", "teacher_metrics", "reducer", "reducers", "taps"})
#: Parameters that a student shares with those of other schemes.
_SHARED = frozenset({"data", "student"})
#: Parameters that follow from the budget, and that schemes without unlabelled images do not have.
_BUDGET_BOUND = frozenset({"data.unlabelled"})

_PLAIN = (str, int, float, type(None))

Replicate = tuple[int, int]  # seed, fold
Fingerprint = frozenset[tuple[str, str]]


class Setup(NamedTuple):
    """What a row shows of an experiment."""

    suite: str
    scale: str
    dataset: str
    budget: int
    scheme: str
    student: str
    teacher: str


class Measured(NamedTuple):
    """What a row shows of a measurement."""

    metric: str
    value_name: str
    tap: str | None
    reducer: str | None
    setting: str


@dataclass
class Sample:
    """The values of one measurement of one experiment, by replicate.

    `shared` is equal for two samples whose students were trained and measured alike but for the scheme.
    `failed`: replicates whose cell failed.
    """

    setup: Setup
    measured: Measured
    variant: str
    shared: Fingerprint
    primary: bool = False
    values: dict[Replicate, float] = field(default_factory=dict)
    failed: int = 0
    hardware: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)


def base_name(label: str) -> str:
    """A component's name out of its label: "kl" of "kl[temperature=2]"."""
    return label.split("[", 1)[0]


def samples(cells: Iterable[CellRecord], suite: Suite | None = None) -> list[Sample]:
    """Samples of all cells, in an order that depends on the cells alone.

    Args:
        cells: oldest first: of two values of the same thing in the same replicate the newer one counts.
        suite: decides which of several experiments with one name is the main one.
    """
    cells = list(cells)
    labels = _variants(cells, suite)
    made: dict[tuple, Sample] = {}
    for cell in _oldest_first_by_setup(cells):
        if cell.status != "finished":
            continue
        setup, training, shared = setup_of(cell), _training(cell), _shared(cell)
        variant = labels[_experiment(cell), cell.budget]
        components: dict[tuple, Fingerprint] = {}
        for result in cell.results:
            if (result.metric, result.reducer) not in components:
                components[result.metric, result.reducer] = _component_params(cell, result)
            extra = components[result.metric, result.reducer]
            measured = Measured(result.metric, result.value_name, result.tap, result.reducer, result.setting)
            key = (setup, measured, training, extra)
            if key not in made:
                made[key] = Sample(setup, measured, variant, shared | extra)
            sample = made[key]
            sample.primary = sample.primary or result.primary
            sample.values[cell.seed, cell.fold] = float(result.value)
            sample.hardware.add(str(cell.hardware.get("label") or cell.hardware.get("device") or ""))
            sample.versions.add(cell.versions.get("kdbench", ""))
    _count_failures(cells, made)
    _tell_components_apart(made)
    return list(made.values())


def failures(cells: Iterable[CellRecord]) -> list[CellRecord]:
    """The failed cells that no finished one has made good."""
    cells = list(cells)
    good = {(_experiment(c), c.budget, c.seed, c.fold) for c in cells if c.status == "finished"}
    last = {
        (_experiment(c), c.budget, c.seed, c.fold): c
        for c in cells
        if c.status != "finished" and (_experiment(c), c.budget, c.seed, c.fold) not in good
    }
    return sorted(last.values(), key=lambda c: (setup_of(c), c.seed, c.fold, c.key))


def setup_of(cell: CellRecord) -> Setup:
    return Setup(
        cell.suite, cell.scale, cell.dataset, cell.budget, cell.scheme, cell.student, cell.teacher
    )  # in a row's order


def _oldest_first_by_setup(cells: list[CellRecord]) -> list[CellRecord]:
    return sorted(cells, key=lambda c: (setup_of(c), c.seed, c.fold))  # stable: the given order breaks ties


# -- which cells belong together


def _training(cell: CellRecord) -> Fingerprint:
    kept = {k: v for k, v in cell.params.items() if k.split(".")[0] not in _MEASURING}
    return _fingerprint(kept) | _circumstances(cell)


def _shared(cell: CellRecord) -> Fingerprint:
    kept = {k: v for k, v in cell.params.items() if k.split(".")[0] in _SHARED and k not in _BUDGET_BOUND}
    return _fingerprint(kept) | _circumstances(cell)


def _component_params(cell: CellRecord, result: Result) -> Fingerprint:
    """The parameters of the metric and of the reducer of a result."""
    names = [("metric", result.metric)]
    if result.reducer:
        names += [("reducer", result.reducer), ("reducer", base_name(result.reducer))]
    prefixes = tuple(f"{kind}{plural}.{name}." for kind, name in names for plural in ("", "s"))
    return _fingerprint({k: v for k, v in cell.params.items() if k.startswith(prefixes)})


def _fingerprint(params: Mapping[str, Any]) -> Fingerprint:
    return frozenset(
        (name, repr(value) if isinstance(value, _PLAIN) else json.dumps(value, sort_keys=True, default=str))
        for name, value in params.items()
        if name.rsplit(".", 1)[-1] not in _INCIDENTAL
    )


def _circumstances(cell: CellRecord) -> Fingerprint:
    precision = cell.hardware.get("precision")
    return _fingerprint(
        {"data.digest": cell.dataset_digest, **({"precision": precision} if precision else {})}
    )


def _experiment(cell: CellRecord) -> tuple:
    """Everything but budget, fold and seed."""
    setup = setup_of(cell)
    return (setup._replace(budget=0), _training(cell))


# -- telling experiments of one name apart


def _variants(cells: list[CellRecord], suite: Suite | None) -> dict[tuple, str]:
    """The label of each experiment at each budget, "" for a main one.

    What all students share is settled first, then what a scheme and its teacher add, then what the budget
    brings: a scheme that ran with other settings at one budget alone is not taken for the main one there.
    """
    levels: list[dict[tuple, dict[Fingerprint, list[int]]]] = [
        defaultdict(lambda: defaultdict(list)) for _ in range(3)
    ]
    for i, cell in enumerate(cells):
        family = (cell.suite, cell.scale, cell.dataset, cell.student, "" if cell.student else cell.teacher)
        shared, training = _shared(cell), _training(cell)
        bound = frozenset(item for item in training if item[0] in _BUDGET_BOUND)
        own = training - shared - bound
        levels[0][family][shared].append(i)
        levels[1][family, shared, cell.scheme, cell.teacher][own].append(i)
        levels[2][family, shared, cell.scheme, cell.teacher, own, cell.budget][bound].append(i)
    labels: dict[tuple, list[str]] = {(_experiment(c), c.budget): [] for c in cells}
    for level in levels:
        for several in level.values():
            main = _main(several, suite)
            for fingerprint, members in several.items():
                if fingerprint != main:
                    for place in {(_experiment(cells[i]), cells[i].budget) for i in members}:
                        labels[place].append(_difference(fingerprint, main))
    return {place: ", ".join(parts) for place, parts in labels.items()}


def _main(several: Mapping[Fingerprint, list[int]], suite: Suite | None) -> Fingerprint:
    wanted = dict(_fingerprint(_flat(suite.model_dump(mode="json")))) if suite else {}

    def rank(fingerprint: Fingerprint) -> tuple[int, int, int]:
        strange = sum(name in wanted and wanted[name] != value for name, value in fingerprint)
        return (-strange, len(several[fingerprint]), max(several[fingerprint]))

    return max(several, key=rank)


def _difference(fingerprint: Fingerprint, main: Fingerprint) -> str:
    ours, theirs = dict(fingerprint), dict(main)
    names = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
    return ", ".join(f"{n}={_short(ours[n]) if n in ours else 'none'}" for n in names)


def _short(value: str) -> str:
    value = value.strip("\"'")
    return value if len(value) <= 24 else f"{value[:10]}..."


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _tell_components_apart(made: Mapping[tuple, Sample]) -> None:
    """Samples that differ in the parameters of metric or reducer alone."""
    alike: dict[tuple, list[tuple]] = defaultdict(list)
    for key in made:
        setup, measured, training, _ = key
        alike[setup, measured, training].append(key)
    for keys in alike.values():
        if len(keys) < 2:
            continue
        main = max(keys, key=lambda k: (len(made[k].values), sorted(k[3])))
        for key in keys:
            if key != main:
                sample = made[key]
                sample.variant = ", ".join(filter(None, [sample.variant, _difference(key[3], main[3])]))


def _count_failures(cells: list[CellRecord], made: Mapping[tuple, Sample]) -> None:
    failed: dict[tuple, int] = defaultdict(int)
    for cell in failures(cells):
        failed[setup_of(cell), _training(cell)] += 1
    for (setup, _, training, _), sample in made.items():
        sample.failed = failed[setup, training]
