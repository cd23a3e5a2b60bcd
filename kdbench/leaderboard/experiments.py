"""Which cells are one experiment, and which of several experiments of one name is the main one.

Cells belong together when they differ in nothing but fold and seed: not in network, data, budget, scale,
precision or any parameter that shapes training. Where several such experiments would print the same name, one
is the main one (nearest to the suite, then the one with most cells, then the newest) and the others say what
they differ in.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from kdbench.api.records import CellRecord
from kdbench.leaderboard.own import ABSENT, RECIPE_ROLES, own_params, own_student
from kdbench.plan.model import LATER_RECIPE_FIELDS

if TYPE_CHECKING:
    from kdbench.suite.schema import Suite

#: Parameters of a run that say which fold it was or how it was executed, not what was done.
_INCIDENTAL = frozenset(
    {"seed", "fold", "folds", "budget", "budgets", "n_jobs", "device", "label", "workers"}
)
#: The same of a component, whose "seed" or "label" is its own affair.
_INCIDENTAL_TO_COMPONENTS = frozenset({"n_jobs", "device", "workers"})
_COMPONENTS = frozenset({"scheme", "metric", "metrics", "reducer", "reducers"})
#: Parameters of what is measured afterwards.
_MEASURING = frozenset({"metric", "metrics", "teacher_metrics", "reducer", "reducers", "taps"})
#: Parameters that a student shares with those of other schemes.
_SHARED = frozenset({"data", "student"})
#: What a training came to; nothing is known of it where the network failed.
_OUTCOME = frozenset({"steps", "images_seen"})
#: What follows from the budget: told apart within one budget, never across budgets.
_BUDGET_BOUND = frozenset({"data.unlabelled"}) | _OUTCOME

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


@dataclass(frozen=True)
class Placed:
    """A cell and the experiment that it belongs to.

    `shared` is the part of `training` that students of other schemes have too.
    """

    cell: CellRecord
    setup: Setup
    training: Fingerprint
    shared: Fingerprint

    @property
    def experiment(self) -> tuple[Setup, Fingerprint]:
        """Everything but budget, fold and seed."""
        return (self.setup._replace(budget=0), self.training)

    @property
    def replicate(self) -> Replicate:
        return (self.cell.seed, self.cell.fold)

    @property
    def place(self) -> tuple:
        """Of cells with one place at most one counts."""
        return (self.experiment, self.setup.budget, self.replicate)


def setup_of(cell: CellRecord) -> Setup:
    return Setup(
        cell.suite, cell.scale, cell.dataset, cell.budget, cell.scheme, cell.student, cell.teacher
    )  # in a row's order


def placed(cells: Iterable[CellRecord]) -> list[Placed]:
    """The cells with their experiments, oldest first; cells of one age in the order given.

    A cell whose network failed has taken no steps: it belongs where its siblings of the same setup and
    parameters do (of several experiments to the one with most cells, then to the newest).
    """
    ordered = sorted(cells, key=lambda c: c.created)
    setups, trainings = [setup_of(c) for c in ordered], [_training(c) for c in ordered]
    siblings: dict[tuple, dict[Fingerprint, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, (setup, training) in enumerate(zip(setups, trainings, strict=True)):
        planned = _planned(training)
        if planned != training:
            siblings[setup, planned][training].append(i)
    for i, (setup, training) in enumerate(zip(setups, trainings, strict=True)):
        if several := siblings.get((setup, training)):
            trainings[i] = max(several, key=lambda t: (len(several[t]), several[t][-1]))
    return [
        Placed(cell, setup, training, _shared(cell))
        for cell, setup, training in zip(ordered, setups, trainings, strict=True)
    ]


# -- fingerprints


def fingerprint(params: Mapping[str, Any]) -> Fingerprint:
    """Flat parameters to something that is equal for equal ones, without what is incidental."""
    return frozenset((name, _text(value)) for name, value in params.items() if not _incidental(name))


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, _PLAIN) else json.dumps(value, sort_keys=True, default=str)


@lru_cache(maxsize=10_000)  # asked of the same few names in every cell
def _incidental(name: str) -> bool:
    first, last = name.split(".", 1)[0], name.rsplit(".", 1)[-1]
    return last in (_INCIDENTAL_TO_COMPONENTS if first in _COMPONENTS else _INCIDENTAL)


def _training(cell: CellRecord) -> Fingerprint:
    kept = {k: v for k, v in cell.params.items() if k.split(".")[0] not in _MEASURING}
    return fingerprint(kept) | _circumstances(cell)


def _shared(cell: CellRecord) -> Fingerprint:
    kept = {k: v for k, v in cell.params.items() if k.split(".")[0] in _SHARED and k not in _BUDGET_BOUND}
    return fingerprint(kept) | _circumstances(cell)


def _planned(training: Fingerprint) -> Fingerprint:
    return frozenset(item for item in training if item[0] not in _OUTCOME)


def _circumstances(cell: CellRecord) -> Fingerprint:
    precision = cell.hardware.get("precision")
    return fingerprint(
        {"data.digest": cell.dataset_digest, **({"precision": precision} if precision else {})}
    )


# -- telling experiments of one name apart


def variants(cells: Sequence[Placed], suite: Suite | None) -> dict[tuple, str]:
    """The label of each (experiment, budget), "" for a main one.

    What all students share is settled first, then what a scheme and its teacher add, then what the budget
    brings: a scheme that ran with other settings at one budget alone is not taken for the main one there.
    """
    levels: list[dict[tuple, dict[Fingerprint, list[int]]]] = [
        defaultdict(lambda: defaultdict(list)) for _ in range(3)
    ]
    trained = (
        {scheme: own_student(suite, scheme) for scheme in {p.cell.scheme for p in cells}} if suite else {}
    )
    for i, p in enumerate(cells):
        cell, shared = p.cell, p.shared
        # a suite may train the students of some schemes otherwise than those of others
        family = (
            cell.suite, cell.scale, cell.dataset, cell.student, "" if cell.student else cell.teacher,
            trained.get(cell.scheme),
        )  # fmt: skip
        bound = frozenset(item for item in p.training if item[0] in _BUDGET_BOUND)
        own = p.training - shared - bound
        levels[0][family][shared].append(i)
        levels[1][family, shared, cell.scheme, cell.teacher][own].append(i)
        levels[2][family, shared, cell.scheme, cell.teacher, own, cell.budget][bound].append(i)
    labels: dict[tuple, list[str]] = {(p.experiment, p.setup.budget): [] for p in cells}
    for level in levels:
        for several in level.values():
            weights = {found: (len(members), max(members)) for found, members in several.items()}
            main = nearest(weights, suite, cells[next(iter(weights.values()))[1]].cell.scheme)
            for found, members in several.items():
                if found != main:
                    for place in {(cells[i].experiment, cells[i].setup.budget) for i in members}:
                        labels[place].append(difference(found, main))
    return {place: ", ".join(parts) for place, parts in labels.items()}


def nearest(several: Mapping[Fingerprint, tuple], suite: Suite | None, scheme: str = "") -> Fingerprint:
    """Of several fingerprints the one nearest to the suite's own setting, then the one of the highest weight.

    Args:
        several: fingerprint to weight, of the same parts of experiments.
        scheme: the scheme that they are of.
    """
    if len(several) == 1:
        return next(iter(several))
    names = {name for found in several for name, _ in found}
    wanted = {k: v for k, v in own_params(suite, scheme).items() if k in names} if suite else {}
    if wanted.get("data.unlabelled") == "rest":  # the most that there can be
        sizes = [value for found in several for name, value in found if name == "data.unlabelled"]
        wanted["data.unlabelled"] = max((int(v) for v in sizes if v.isdigit()), default="rest")

    def rank(found: Fingerprint) -> tuple:
        values = dict(found)
        strange = sum(not _alike(values.get(name), value) for name, value in wanted.items())
        return (-strange, *several[found])

    return max(several, key=rank)


def _alike(found: str | None, wanted: Any) -> bool:
    """Whether a fingerprint's value is the one wanted; 4 and 4.0 are one number."""
    found = _text(ABSENT) if found is None else found
    text = _text(wanted)
    try:
        return found == text or float(found) == float(text)
    except ValueError:
        return False


def departures(cells: Iterable[CellRecord], suite: Suite) -> list[str]:
    """What the trainings of `cells` had otherwise than the suite says: "student.epochs=1, not 3"; of a scheme's own
    parameters "kl: temperature=2, not 4"."""
    found = set()
    wanted: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if cell.scheme not in wanted:
            wanted[cell.scheme] = own_params(suite, cell.scheme)
        had = {k: v for k, v in cell.params.items() if k.split(".")[0] not in _MEASURING}
        for name, (ours, theirs) in _compared(had, wanted[cell.scheme], cell.budget).items():
            if _alike(_text(ours), theirs) or str(ours).startswith("sha256:"):  # a file, by its content
                continue
            role, _, rest = name.partition(".")
            title = f"{cell.scheme}: {rest}" if role == "scheme" else name
            found.add(f"{title}={_short(_text(ours))}, not {_short(_text(theirs))}")
    return sorted(found)


def _compared(had: Mapping[str, Any], wanted: Mapping[str, Any], budget: int) -> dict[str, tuple[Any, Any]]:
    """Name to what a cell had and what the suite wants, of all that the two can be compared by."""
    pairs: dict[str, tuple[Any, Any]] = {}
    roles = {name.rpartition(".")[0] for name in had}
    for name, theirs in wanted.items():
        role, _, last = name.rpartition(".")
        before = LATER_RECIPE_FIELDS.get(last, ABSENT) if role in RECIPE_ROLES else ABSENT
        if name == "data.unlabelled":
            if name in had and theirs == "rest" and isinstance(had.get("data.train"), int):
                theirs = had["data.train"] - had.get("data.validation", 0) - budget
            elif theirs == "rest":
                continue
        if name in had or (role in RECIPE_ROLES and last in LATER_RECIPE_FIELDS and role in roles):
            pairs[name] = (had.get(name, before), before if theirs is ABSENT else theirs)
    return pairs


def difference(found: Fingerprint, main: Fingerprint) -> str:
    """What an experiment differs in from the main one: "student.epochs=40"."""
    ours, theirs = dict(found), dict(main)
    names = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
    return ", ".join(f"{n}={_short(ours[n]) if n in ours else 'none'}" for n in names)


def _short(value: str) -> str:
    value = value.strip("\"'")
    return value if len(value) <= 24 else f"{value[:10]}..."
