"""Group cells into experiments, and select the main one of those with the same name.

Cells belong together if they differ in nothing but fold and seed. If several experiments would be shown under the
same name, one is the main one (nearest to the suite, then the one with most cells, then the newest). The others are
labelled with what they differ in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from kdbench.api.records import CellRecord
from kdbench.api.settings import Fingerprint, Flat, difference, fingerprint
from kdbench.leaderboard.differences import Differences, labels

if TYPE_CHECKING:
    from kdbench.plan.settings import SuiteSettings

#: Seed and fold.
Replicate: TypeAlias = tuple[int, int]


class RowKey(NamedTuple):
    """What a row shows of an experiment, in a row's order."""

    suite: str
    scale: str
    dataset: str
    budget: int
    scheme: str
    student: str
    teacher: str


@dataclass(frozen=True)
class GroupedCell:
    """A cell and the experiment that it belongs to.

    Attributes
    ----------
    cell
        The cell.
    row
        What its row shows.
    shared
        Settings that the students of all schemes have in common.
    specific
        Settings that the scheme adds.
    bound
        What follows from the budget, and what the training came to: told apart within a budget only.
    """

    cell: CellRecord
    row: RowKey
    shared: Fingerprint
    specific: Fingerprint
    bound: Fingerprint

    @property
    def training(self) -> Fingerprint:
        """Everything that the trained network depends on."""
        return self.shared | self.specific | self.bound

    @property
    def experiment(self) -> tuple[RowKey, Fingerprint]:
        """Everything but budget, fold and seed."""
        return (self.row._replace(budget=0), self.training)

    @property
    def replicate(self) -> Replicate:
        """Seed and fold."""
        return (self.cell.seed, self.cell.fold)

    @property
    def position(self) -> tuple:
        """At most one cell of a position counts."""
        return (self.experiment, self.row.budget, self.replicate)


def row_key(cell: CellRecord) -> RowKey:
    """What the row of a cell shows."""
    return RowKey(cell.suite, cell.scale, cell.dataset, cell.budget, cell.scheme, cell.student, cell.teacher)


def outcome(cell: CellRecord) -> Flat:
    """What the training came to; nothing if the network failed."""
    counts = {"steps": cell.steps, "images_seen": cell.images_seen}
    return {name: value for name, value in counts.items() if value is not None}


def group(cells: Iterable[CellRecord]) -> list[GroupedCell]:
    """The cells with their experiments, oldest first; cells of one age in the order given.

    A cell whose network failed has taken no steps. It belongs to the experiment with the same settings; of several
    to the one with most cells, then to the newest.
    """
    ordered = sorted(cells, key=lambda c: c.created)
    parts: dict[int, tuple[Fingerprint, Fingerprint, Fingerprint]] = {}  # of equal settings computed once
    grouped = []
    siblings: dict[tuple, dict[Fingerprint, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, cell in enumerate(ordered):
        s = cell.settings
        if id(s) not in parts:
            parts[id(s)] = (fingerprint(s.shared), fingerprint(s.specific), fingerprint(s.budget_bound))
        shared, specific, planned = parts[id(s)]
        bound = planned | fingerprint(outcome(cell))
        grouped.append(GroupedCell(cell, row_key(cell), shared, specific, bound))
        if bound != planned:
            siblings[row_key(cell), shared, specific, planned][bound].append(i)
    for i, g in enumerate(grouped):
        if several := siblings.get((g.row, g.shared, g.specific, g.bound)):
            bound = max(several, key=lambda b: (len(several[b]), several[b][-1]))
            grouped[i] = GroupedCell(g.cell, g.row, g.shared, g.specific, bound)
    return grouped


# -- telling experiments of one name apart


def variants(cells: Sequence[GroupedCell], reference: SuiteSettings | None) -> dict[tuple, str]:
    """The label of each (experiment, budget): what it differs in from the main one, "" for a main one.

    What all students share is settled first, then what a scheme adds, then what the budget brings. So a scheme that
    ran with other settings at one budget only is not taken for the main one there.
    """
    shared_parts: dict[tuple, dict[Fingerprint, list[int]]] = defaultdict(lambda: defaultdict(list))
    specific_parts: dict[tuple, dict[tuple[Fingerprint, Fingerprint], list[int]]] = defaultdict(
        lambda: defaultdict(list)
    )
    bound_parts: dict[tuple, dict[Fingerprint, list[int]]] = defaultdict(lambda: defaultdict(list))
    students = {g.cell.scheme: _student(reference, g.cell.scheme) for g in cells}
    for i, g in enumerate(cells):
        cell = g.cell
        # a suite may train the students of some schemes in another way
        family = (
            cell.suite, cell.scale, cell.dataset, cell.student, "" if cell.student else cell.teacher,
            students[cell.scheme],
        )  # fmt: skip
        shared_parts[family][g.shared].append(i)
        specific_parts[family, cell.scheme, cell.teacher][g.shared, g.specific].append(i)
        bound_parts[family, g.shared, cell.scheme, cell.teacher, g.specific, cell.budget][g.bound].append(i)

    def main_of(candidates: Mapping[Fingerprint, Sequence[int]], part: str) -> Fingerprint:
        newest = cells[max(i for members in candidates.values() for i in members)].cell
        expected: Flat = {}
        if reference is not None:
            expected = getattr(reference.of(newest.scheme, newest.budget), part)
        # of numbers of unlabelled images that a suite leaves open, the largest
        weights = {
            c: (max((_number(v) for n, v in c if n == "data.unlabelled"), default=0), len(m), max(m))
            for c, m in candidates.items()
        }
        return nearest(weights, expected)

    main_shared = {family: main_of(c, "shared") for family, c in shared_parts.items()}
    differences: list[Differences] = [{} for _ in cells]

    def note(part: str, members: Iterable[int], found: Fingerprint, main: Fingerprint) -> None:
        for i in members:
            differences[i][part] = {
                name: value for name, (value, _) in difference(dict(found), dict(main)).items()
            }

    for family, candidates in shared_parts.items():
        for found, members in candidates.items():
            note("shared", members, found, main_shared[family])
    for (family, *_), pairs in specific_parts.items():
        # the main one of those whose students share what the main one's do, if there are any
        among = {specific: m for (shared, specific), m in pairs.items() if shared == main_shared[family]}
        main = main_of(among or {specific: m for (_, specific), m in pairs.items()}, "specific")
        for (_, found), members in pairs.items():
            note("specific", members, found, main)
    for candidates in bound_parts.values():
        main = main_of(candidates, "budget_bound")
        for found, members in candidates.items():
            note("bound", members, found, main)

    rows: dict[tuple, dict[tuple, Differences]] = defaultdict(dict)
    for g, found_differences in zip(cells, differences, strict=True):
        rows[g.row._replace(budget=0)][g.experiment, g.row.budget] = found_differences
    return {key: label for named in rows.values() for key, label in labels(named).items()}


def _student(reference: SuiteSettings | None, scheme: str) -> str:
    """What the suite trains for a scheme: equal texts for students that are trained alike."""
    return reference.student(scheme).model_dump_json() if reference is not None else ""


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def nearest(candidates: Mapping[Fingerprint, tuple], expected: Mapping[str, object]) -> Fingerprint:
    """The candidate with the fewest differences to the suite; of several the one with the highest weight.

    Parameters
    ----------
    candidates
        Settings to weight.
    expected
        What the suite says, as dotted names; empty if it is not known.

    Returns
    -------
    frozenset
        One of the candidates.
    """

    def rank(candidate: Fingerprint) -> tuple:
        differing = difference(dict(candidate), expected) if expected else {}
        return (-sum(name in expected for name in differing), *candidates[candidate])

    return max(candidates, key=rank)
