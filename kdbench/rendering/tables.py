"""Arrange rows of a leaderboard as tables, and mark the best numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from kdbench.leaderboard.board import Directions
from kdbench.leaderboard.rows import Row
from kdbench.leaderboard.samples import base_name
from kdbench.rendering.numbers import number

#: What is known without any plugin.
DEFAULT_DIRECTIONS: Directions = {"accuracy": True}


@dataclass(frozen=True)
class NumberCell:
    """One number of a table. `published` and `spread` are quoted; `best`: best of its column or row."""

    row: Row
    best: bool = False

    @property
    def percent(self) -> bool:
        return in_percent(self.row.metric)

    def text(self, plus_minus: str = "±") -> str:
        return number(self.row.mean, self.row.sd, percent=self.percent, plus_minus=plus_minus)

    @property
    def failed(self) -> str:
        """ "(1 failed)": folds that the number is without; "" where there is none."""
        return f"({self.row.failed} failed)" if self.row.failed else ""

    def quoted(self, plus_minus: str = "±") -> str:
        """With its spread where that is what ± says of our own numbers: a standard deviation."""
        row = self.row
        if row.published is None:
            return ""
        sd = row.published_spread if is_deviation(row.published_spread_kind) else None
        return number(row.published, sd, percent=self.percent, plus_minus=plus_minus)

    @property
    def source(self) -> str:
        """Where the quoted number stands; see `source_text`."""
        row = self.row
        return source_text(
            row.published_source or "", row.published_spread, row.published_spread_kind, percent=self.percent
        )


@dataclass
class LeaderboardTable:
    """Title, names of columns, and lines of (labels, entries); None where nothing was measured."""

    title: str
    metric: str
    labels: tuple[str, ...]
    columns: list[str]
    lines: list[tuple[tuple[str, ...], list[NumberCell | None]]] = field(default_factory=list)

    @property
    def percent(self) -> bool:
        return in_percent(self.metric)

    @property
    def quotes(self) -> bool:
        return any(
            e is not None and e.row.published is not None for _, entries in self.lines for e in entries
        )

    def spreads(self, where: str) -> str:
        """A sentence for the quoted numbers whose spread is no standard deviation; "" where there is none.

        Parameters
        ----------
        where
            a reader finds it.

        Returns
        -------
        str
            The sentence, "" if no such number is quoted.
        """
        rows = [e.row for _, entries in self.lines for e in entries if e is not None]
        return about_spreads(((r.published_spread, r.published_spread_kind) for r in rows), where)


def is_deviation(kind: str | None) -> bool:
    """Whether a quoted spread may stand behind ±, as ours do."""
    return (kind or "").lower().startswith("standard deviation")


def source_text(source: str, spread: float | None, kind: str | None, *, percent: bool) -> str:
    """Where a quoted number stands, and a spread that may not stand behind ± by its name: "Table 2; 0.121 (largest
    max - min over 5 folds)"."""
    if spread is None or is_deviation(kind):
        return source
    return f"{source}; {number(spread, percent=percent)} ({kind or 'a spread of an unknown kind'})"


def about_spreads(quoted: Iterable[tuple[float | None, str | None]], where: str) -> str:
    """Says which other spreads quoted numbers have, by (spread, kind), and where they are to be seen."""
    kinds = {
        kind or "of an unknown kind"
        for spread, kind in quoted
        if spread is not None and not is_deviation(kind)
    }
    if not kinds:
        return ""
    return (
        f"The paper gives no standard deviation of these quoted numbers; its spread, in {where}, is another: "
        f"{'; '.join(sorted(kinds))}."
    )


def in_percent(metric: str) -> bool:
    """Whether a metric's values are written in percent: those of accuracy, whatever its parameters."""
    return base_name(metric).partition(".")[0] == "accuracy"


def without_primary(rows: Iterable[Row], directions: Directions | None) -> str:
    """A sentence on the metrics whose primary value is defined nowhere, so that no table shows them; "" if none."""
    rows = [r for r in rows if base_name(r.metric).partition(".")[0] in (directions or {})]
    absent = {_metric(r) for r in rows} - {_metric(r) for r in rows if r.primary}
    return (
        f"No table, because their primary value is not defined here: {', '.join(sorted(absent))}."
        if absent
        else ""
    )


def _metric(row: Row) -> str:
    return row.metric.rpartition(".")[0]


def short(metric: str) -> str:
    """ "accuracy" of "accuracy.accuracy", and every other name as it is."""
    name, _, value = metric.rpartition(".")
    return name if base_name(name) == value else metric


def scheme_labels(rows: Iterable[Row]) -> Callable[[Row], str]:
    """Names a row among `rows`: the scheme, with the networks where they are needed to tell rows apart, and the
    variant."""
    students, teachers = set(), set()
    for row in rows:
        students.add(row.student)
        teachers.add(row.teacher)
    several_students, several_teachers = len(students - {""}) > 1, len(teachers - {""}) > 1

    def label(row: Row) -> str:
        inside = []
        if row.student and several_students:
            inside.append(row.student)
        if row.teacher and (not row.student or several_teachers):
            inside.append(row.teacher)
        if row.variant:
            inside.append(row.variant)
        return f"{row.scheme} ({'; '.join(inside)})" if inside else str(row.scheme)

    return label


def whole_network_tables(rows: Sequence[Row], directions: Directions | None = None) -> list[LeaderboardTable]:
    """Primary results of whole networks: schemes in lines, budgets in columns."""
    return [
        _pivot(
            f"{short(metric)}{_of(dataset, rows)}{_with(setting)}",
            metric,
            group,
            rows,
            directions,
            by_tap=False,
        )
        for (dataset, metric, setting), group in _groups(
            [r for r in rows if r.primary and r.tap is None and r.reducer is None],
            ("dataset", "metric", "setting"),
        )
    ]


def tap_tables(rows: Sequence[Row], directions: Directions | None = None) -> list[LeaderboardTable]:
    """Primary results of layers and embeddings: budgets and schemes in lines, taps in columns."""
    return [
        _pivot(
            f"{short(metric)}{f' of {reducer}' if reducer else ''}{_of(dataset, rows)}{_with(setting)}",
            metric,
            group,
            rows,
            directions,
            by_tap=True,
        )
        for (dataset, metric, reducer, setting), group in _groups(
            [r for r in rows if r.primary and r.tap is not None],
            ("dataset", "metric", "reducer", "setting"),
        )
    ]


def _of(dataset: str, rows: Sequence[Row]) -> str:
    return f" on {dataset}" if len({r.dataset for r in rows}) > 1 else ""


def _with(setting: str) -> str:
    return f" ({setting})" if setting else ""


def _groups(rows: Sequence[Row], columns: tuple[str, ...]) -> list[tuple[tuple, list[Row]]]:
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, c) for c in columns), []).append(row)
    return list(groups.items())


def _pivot(
    title: str,
    metric: str,
    group: list[Row],
    rows: Sequence[Row],
    directions: Directions | None,
    *,
    by_tap: bool,
) -> LeaderboardTable:
    column = "tap" if by_tap else "budget"
    present = dict.fromkeys(getattr(r, column) for r in group)
    values = list(present) if by_tap else sorted(present)
    lines: dict[tuple[str, ...], dict] = {}
    label_of = scheme_labels(rows)
    for row in group:
        label = label_of(row)
        labels: tuple[str, ...] = (str(row.budget), label) if by_tap else (label,)
        lines.setdefault(labels, {})[getattr(row, column)] = row
    # An order of its own: budgets within variants within networks would tear a scheme's line apart.
    if by_tap:
        lines = dict(sorted(lines.items(), key=lambda item: int(item[0][0])))
    known = {**DEFAULT_DIRECTIONS, **(directions or {})}
    label = metric.rpartition(".")[0]
    higher = known.get(label, known.get(base_name(label)))
    best = _best(group, higher, ("budget", "tap"))
    names = [str(v) if by_tap else f"{v} labels" for v in values]
    heads: tuple[str, ...] = ("labels", "scheme") if by_tap else ("scheme",)
    table = LeaderboardTable(title, metric, heads, names)
    for line, found in lines.items():
        entries: list[NumberCell | None] = [
            NumberCell(found[v], id(found[v]) in best) if v in found else None for v in values
        ]
        table.lines.append((line, entries))
    return table


def _best(group: list[Row], higher: bool | None, within: tuple[str, ...]) -> set[int]:
    """The best students' rows, by identity; none where no direction is better or nothing stands beside."""
    best: set[int] = set()
    if higher is None:
        return best
    students = [r for r in group if r.student and not math.isnan(r.mean)]
    for _, rivals in _groups(students, within):
        if len(rivals) > 1:
            top = (max if higher else min)(r.mean for r in rivals)
            best |= {id(r) for r in rivals if r.mean == top}
    return best
