"""Which cells are one experiment, and which of several experiments of one name is the main one.

Cells belong together when they differ in nothing but fold and seed: not in network, data, budget, scale,
precision or any parameter that shapes training. Where several such experiments would print the same name, one
is the main one (nearest to the suite, then the one with most cells, then the newest) and the others say what
they differ in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from kdbench.api.records import CellRecord
from kdbench.leaderboard.differences import (
    MEASURING,
    Differences,
    Fingerprint,
    alike,
    differing,
    labels,
    text_of,
)
from kdbench.leaderboard.own import own_params, own_student

if TYPE_CHECKING:
    from kdbench.suite.schema import Suite

#: Parameters of a run that say which fold it was or how it was executed, not what was done.
_INCIDENTAL = frozenset(
    {"seed", "fold", "folds", "budget", "budgets", "n_jobs", "device", "label", "workers"}
)
#: The same of a component, whose "seed" or "label" is its own affair.
_INCIDENTAL_TO_COMPONENTS = frozenset({"n_jobs", "device", "workers"})
_COMPONENTS = frozenset({"scheme", "metric", "metrics", "reducer", "reducers"})
#: Parameters that a student shares with those of other schemes.
_SHARED = frozenset({"data", "student"})
#: What a training came to; nothing is known of it where the network failed.
OUTCOME = frozenset({"steps", "images_seen"})
#: What follows from the budget: told apart within one budget, never across budgets.
_BUDGET_BOUND = frozenset({"data.unlabelled"}) | OUTCOME

Replicate = tuple[int, int]  # seed, fold


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
    ordered = _with_code(sorted(cells, key=lambda c: c.created))
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


def network_of(cell: CellRecord) -> str:
    """Key of the stage that trained a cell's network; "" where the record names none."""
    measuring = ("score ", "embedding ")
    return next((key for title, key in cell.stages.items() if not title.startswith(measuring)), "")


def _with_code(cells: Sequence[CellRecord]) -> list[CellRecord]:
    """The cells; to those that were recorded before cells told versions comes what others tell of the same stages.

    Stages of one key are of one code: a network's parameters are those of any cell that it is in, a metric's or
    reducer's those of any cell with the same result.
    """
    telling: dict[str, list[CellRecord]] = defaultdict(list)
    for cell in cells:
        if cell.tells_code:
            telling[network_of(cell)].append(cell)
    telling.pop("", None)
    if not telling or len(telling) == len(cells):
        return list(cells)
    return [cell if cell.tells_code else _told_by(cell, telling.get(network_of(cell), ())) for cell in cells]


def _told_by(cell: CellRecord, others: Sequence[CellRecord]) -> CellRecord:
    if not others:
        return cell
    params = {k: v for k, v in cell.params.items() if k.split(".")[0] in MEASURING}
    params |= {k: v for k, v in others[-1].params.items() if k.split(".")[0] not in MEASURING}
    for other in others:
        same = set(cell.stages.values()) & set(other.stages.values())
        for title, key in cell.stages.items():
            what, _, rest = title.partition(" ")
            kind = {"score": "metrics", "embedding": "reducers"}.get(what)
            if kind and key in same:
                own = f"{kind}.{rest.partition(' · ')[0]}."
                params |= {k: v for k, v in other.params.items() if k.startswith(own)}
    return replace(cell, params=params)


# -- fingerprints


def fingerprint(params: Mapping[str, Any]) -> Fingerprint:
    """Flat parameters to something that is equal for equal ones, without what is incidental."""
    return frozenset((name, text_of(value)) for name, value in params.items() if not _incidental(name))


@lru_cache(maxsize=10_000)  # asked of the same few names in every cell
def _incidental(name: str) -> bool:
    if ".dataset." in name:  # images of another seed are other images
        return False
    first, last = name.split(".", 1)[0], name.rsplit(".", 1)[-1]
    return last in (_INCIDENTAL_TO_COMPONENTS if first in _COMPONENTS else _INCIDENTAL)


def _training(cell: CellRecord) -> Fingerprint:
    kept = {k: v for k, v in cell.params.items() if k.split(".")[0] not in MEASURING}
    return fingerprint(kept) | _circumstances(cell)


def _shared(cell: CellRecord) -> Fingerprint:
    kept = {k: v for k, v in cell.params.items() if k.split(".")[0] in _SHARED and k not in _BUDGET_BOUND}
    return fingerprint(kept) | _circumstances(cell)


def _planned(training: Fingerprint) -> Fingerprint:
    return frozenset(item for item in training if item[0] not in OUTCOME)


def _circumstances(cell: CellRecord) -> Fingerprint:
    precision = cell.hardware.get("precision")
    return fingerprint(
        {"data.digest": cell.dataset_digest, **({"precision": precision} if precision else {})}
    )


# -- telling experiments of one name apart


def variants(cells: Sequence[Placed], suite: Suite | None) -> dict[tuple, str]:
    """The label of each (experiment, budget), "" for a main one: all that it differs in from the main one.

    What all students share is settled first, then what a scheme and its teacher add, then what the budget
    brings: a scheme that ran with other settings at one budget alone is not taken for the main one there.
    """
    shared_parts: dict[tuple, dict[Fingerprint, list[int]]] = defaultdict(lambda: defaultdict(list))
    own_parts: dict[tuple, dict[tuple[Fingerprint, Fingerprint], list[int]]] = defaultdict(
        lambda: defaultdict(list)
    )
    bound_parts: dict[tuple, dict[Fingerprint, list[int]]] = defaultdict(lambda: defaultdict(list))
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
        shared_parts[family][shared].append(i)
        own_parts[family, cell.scheme, cell.teacher][shared, own].append(i)
        bound_parts[family, shared, cell.scheme, cell.teacher, own, cell.budget][bound].append(i)

    def main_of(several: Mapping[Fingerprint, Sequence[int]]) -> Fingerprint:
        weights = {found: (len(members), max(members)) for found, members in several.items()}
        scheme = cells[next(iter(weights.values()))[1]].cell.scheme
        return nearest(weights, suite, scheme)

    main_shared = {family: main_of(several) for family, several in shared_parts.items()}
    apart: list[Differences] = [{} for _ in cells]
    for family, several in shared_parts.items():
        for shared, members in several.items():
            for i in members:
                apart[i]["shared"] = differing(shared, main_shared[family])
    for (family, *_), several_own in own_parts.items():
        # the main one of those whose students share what the main one's do, where there are such
        among = {own: m for (shared, own), m in several_own.items() if shared == main_shared[family]}
        main = main_of(among or {own: m for (_, own), m in several_own.items()})
        for (_, own), members in several_own.items():
            for i in members:
                apart[i]["own"] = differing(own, main)
    for several in bound_parts.values():
        main = main_of(several)
        for bound, members in several.items():
            for i in members:
                apart[i]["bound"] = differing(bound, main)

    # told apart are the rows that would stand under one name
    rows: dict[tuple, dict[tuple, Differences]] = defaultdict(dict)
    for p, found in zip(cells, apart, strict=True):
        rows[p.setup._replace(budget=0)][p.experiment, p.setup.budget] = found
    return {place: label for named in rows.values() for place, label in labels(named).items()}


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
        strange = sum(not alike(values.get(name), value) for name, value in wanted.items())
        return (-strange, *several[found])

    return max(several, key=rank)
