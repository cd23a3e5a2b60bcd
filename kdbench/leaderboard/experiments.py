"""Which cells are one experiment, and which of several experiments of one name is the main one.

Cells belong together when they differ in nothing but fold and seed: not in network, data, budget, scale,
precision or any parameter that shapes training. Where several such experiments would print the same name, one
is the main one (nearest to the suite, then the one with most cells, then the newest) and the others say what
they differ in.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
Differences = dict[int, dict[str, str]]
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
        if _tells_code(cell):
            telling[network_of(cell)].append(cell)
    telling.pop("", None)
    if not telling or len(telling) == len(cells):
        return list(cells)
    return [
        cell if _tells_code(cell) else _told_by(cell, telling.get(network_of(cell), ())) for cell in cells
    ]


def _tells_code(cell: CellRecord) -> bool:
    return any("@" in name for name in cell.params)


def _told_by(cell: CellRecord, others: Sequence[CellRecord]) -> CellRecord:
    if not others:
        return cell
    params = {k: v for k, v in cell.params.items() if k.split(".")[0] in _MEASURING}
    params |= {k: v for k, v in others[-1].params.items() if k.split(".")[0] not in _MEASURING}
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
    return frozenset((name, _text(value)) for name, value in params.items() if not _incidental(name))


def _text(value: Any) -> str:
    if isinstance(value, _Told):
        return str(value)
    return repr(value) if isinstance(value, _PLAIN) else json.dumps(value, sort_keys=True, default=str)


@lru_cache(maxsize=10_000)  # asked of the same few names in every cell
def _incidental(name: str) -> bool:
    if ".dataset." in name:  # images of another seed are other images
        return False
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
    parts: list[Differences] = [{i: {} for i in range(len(cells))} for _ in range(3)]
    for family, several in shared_parts.items():
        for shared, members in several.items():
            for i in members:
                parts[0][i] = differing(shared, main_shared[family])
    for (family, *_), several_own in own_parts.items():
        # the main one of those whose students share what the main one's do, where there are such
        among = {own: m for (shared, own), m in several_own.items() if shared == main_shared[family]}
        main = main_of(among or {own: m for (_, own), m in several_own.items()})
        for (_, own), members in several_own.items():
            for i in members:
                parts[1][i] = differing(own, main)
    for several in bound_parts.values():
        main = main_of(several)
        for bound, members in several.items():
            for i in members:
                parts[2][i] = differing(bound, main)

    # told apart are the rows that would stand under one name
    rows: dict[tuple, dict[tuple, Differences]] = defaultdict(dict)
    for i, p in enumerate(cells):
        apart = {n: part[i] for n, part in enumerate(parts)}
        rows[p.setup._replace(budget=0)][p.experiment, p.setup.budget] = apart
    labels: dict[tuple, str] = {}
    for named in rows.values():
        labels |= _labels(named)
    return labels


def _labels(named: Mapping[tuple, Differences]) -> dict[tuple, str]:
    """Differences as text, values shortened unless two rows would read alike then."""

    def text(differences: Differences, shown: Callable[[str], str], unsaid: Container[str] = ()) -> str:
        told = (
            f"{name}={shown(value)}"
            for part in differences.values()
            for name, value in sorted(part.items())
            if name not in unsaid
        )
        return ", ".join(dict.fromkeys(told))

    short = {place: text(found, _short, _explained(found)) for place, found in named.items()}
    whole = {place: text(found, _whole) for place, found in named.items()}
    meant: dict[str, set[str]] = defaultdict(set)
    for place, label in short.items():
        meant[label].add(whole[place])
    return {place: label if len(meant[label]) == 1 else whole[place] for place, label in short.items()}


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


def departures(cells: Iterable[CellRecord], suite: Suite, measuring: Iterable[Fingerprint] = ()) -> list[str]:
    """What was done otherwise than the suite says: "student.epochs=1, not 3"; of a scheme's own parameters
    "kl: temperature=2, not 4".

    Args:
        cells: those whose trainings are compared.
        measuring: the parameters of metrics and reducers that values shown were measured with. A cell's own may be of
            values that are not shown.
    """
    found: dict[str, set[str]] = defaultdict(set)
    wanted: dict[str, dict[str, Any]] = {}

    def compare(had: Mapping[str, Any], scheme: str, budget: int) -> None:
        if scheme not in wanted:
            wanted[scheme] = own_params(suite, scheme)
        for name, (ours, theirs) in _compared(had, wanted[scheme], budget).items():
            if _alike(_text(ours), theirs) or "sha256:" in str(ours):
                continue  # a file is known by its content
            role, _, rest = name.partition(".")
            title = f"{scheme}: {rest}" if role == "scheme" else name
            texts = [_short(_text(v)) for v in (ours, theirs)]
            if texts[0] == texts[1]:
                texts = [_whole(_text(v)) for v in (ours, theirs)]
            found[title].add(f"{_plain(title)}={texts[0]}, not {texts[1]}")

    for cell in cells:
        compare(
            {k: v for k, v in cell.params.items() if k.split(".")[0] not in _MEASURING},
            cell.scheme,
            cell.budget,
        )
    for params in set(measuring):
        compare({name: _Told(value) for name, value in params}, "", 0)
    said = _said_by_parameters(found)
    return sorted(text for title, texts in found.items() if title not in said for text in texts)


class _Told(str):
    """A value as the text that a fingerprint has of it."""


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


def _explained(differences: Differences) -> set[str]:
    """What a dataset's parameters that differ as well say better: its digest, and its name where that has them."""
    names = {name for part in differences.values() for name in part}
    return _said_by_parameters(names)


def _said_by_parameters(names: Collection[str]) -> set[str]:
    """ "data.digest" and "data.dataset" where there is a "data.dataset.n_train" among the names."""
    roles = {name.partition(".dataset.")[0] for name in names if ".dataset." in name}
    return {f"{role}.{last}" for role in roles for last in ("digest", "dataset")} & set(names)


def differing(found: Fingerprint, main: Fingerprint) -> dict[str, str]:
    """Name to value of what an experiment has otherwise than the main one; "none" for what it has not.

    Of records from before they told code and images, "versions" is "unknown" in place of all that they don't tell.
    """
    ours, theirs = dict(found), dict(main)
    names = {n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)}
    untold = {n for n in names - ours.keys() if _of_code(n)}
    if untold and not any(map(_of_code, ours)):
        names -= untold
        return {**{_plain(n): ours.get(n, "none") for n in names}, "versions": "unknown"}
    return {_plain(n): ours.get(n, "none") for n in names}


def _of_code(name: str) -> bool:
    """Whether a parameter says which code or images something is of, which cells have not always told."""
    return "@" in name or ".dataset." in name or name.startswith("stages.") or name.endswith("source.digest")


def difference(found: Fingerprint, main: Fingerprint, *, whole: bool = False) -> str:
    """What an experiment differs in from the main one: "student.epochs=40".

    Args:
        whole: long values are not shortened.
    """
    shown = _whole if whole else _short
    return ", ".join(f"{name}={shown(value)}" for name, value in sorted(differing(found, main).items()))


def _plain(name: str) -> str:
    """A parameter's name for people: "@version", which no component takes, is "version"."""
    return name.replace("@", "")


def _whole(value: str) -> str:
    return value.strip("\"'")


def _short(value: str) -> str:
    value = _whole(value)
    return value if len(value) <= 24 else f"{value[:16]}..."
