"""Tables of a report as data: accuracy (LW Table 1), ivis loss (LW Table 2), embedding times, other metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdbench.rendering.numbers import fixed, number, significant
from kdbench.rendering.tables import about_spreads, is_deviation, source_text
from kdbench.report.selection import TEACHER, Missing, Place, Selection

if TYPE_CHECKING:
    from kdbench.suite.schema import Published

Values = Sequence[float]


@dataclass(frozen=True)
class Cell:
    """A cell: our number, its range if that is shown, and the number quoted from the paper with its source."""

    text: str = ""
    best: bool = False
    range: str = ""
    quoted: str = ""
    source: str = ""


@dataclass(frozen=True)
class Head:
    """A heading of a row, over several rows with `span`; `quoted`: a scheme of the paper that was not run."""

    text: str
    span: int = 1
    quoted: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the report."""

    name: str
    title: str
    caption: str
    head: Sequence[str]
    body: Sequence[Sequence[Cell | Head]]


class _Quotes:
    """Makes cells, and keeps the published numbers that were quoted in them, for the caption."""

    def __init__(self, *, percent: bool = False, digits: int | None = None) -> None:
        self.percent, self.digits = percent, digits
        self.papers: list[Published] = []

    def cell(self, text: str, paper: Published | None, *, best: bool = False, spread: str = "") -> Cell:
        if paper is None:
            return Cell(text, best, spread)
        self.papers.append(paper)
        source = source_text(paper.source, paper.spread, paper.spread_kind, percent=self.percent)
        deviates = paper.spread is not None and is_deviation(paper.spread_kind)  # as ours are
        quoted = number(paper.value, paper.spread if deviates else None, percent=self.percent)
        if self.digits is not None:
            quoted = fixed(paper.value, self.digits)
        return Cell(text, best, spread, quoted, f"{source}; ± {paper.spread_kind}" if deviates else source)

    @property
    def caption(self) -> str:
        """What a caption says of the quoted numbers; "" without any."""
        if not self.papers:
            return ""
        about = about_spreads(((p.spread, p.spread_kind) for p in self.papers), "their tooltips")
        return " ".join(
            part
            for part in ("Numbers in italics are quoted from the paper, on its data and training.", about)
            if part
        )


def accuracy(data: Selection) -> Sequence[Table | Missing]:
    """LW Table 1: mean ± standard deviation over folds, and the published number below it."""
    title = data.titled("Test accuracy", "LW Table 1")
    found = data.values(data.label("accuracy"), "accuracy")
    if not found:
        return data.absent(title, "accuracy", "no record has a value accuracy.accuracy")
    budgets = sorted({p.budget for p in found})
    students = [p for p in found if p.scheme != TEACHER]
    best = {b: max((np.mean(found[p]) for p in students if p.budget == b), default=None) for b in budgets}
    quotes = _Quotes(percent=True)
    body: list[list[Cell | Head]] = []
    for scheme in data.order(p.scheme for p in found):
        cells: list[Cell | Head] = [Head(scheme)]
        for budget in budgets:
            values = [v for p, vs in found.items() if (p.budget, p.scheme) == (budget, scheme) for v in vs]
            is_best = bool(values) and scheme != TEACHER and np.mean(values) == best.get(budget)
            paper = data.published("accuracy", "accuracy", budget, scheme)
            cells.append(quotes.cell(_deviating(values, percent=True), paper, best=is_best))
        body.append(cells)
    for scheme in data.quoted_only("accuracy", "accuracy", data.schemes):
        theirs = [data.published("accuracy", "accuracy", budget, scheme) for budget in budgets]
        theirs = [
            p if p and p.scheme else None for p in theirs
        ]  # a number of no scheme is not of this one either
        if any(theirs):
            body.append([Head(scheme, quoted=True), *(quotes.cell("" if p else "–", p) for p in theirs)])
    rules = " and ".join(sorted({p.setting for p in found if p.setting}))
    caption = "Percent, mean ± standard deviation over folds; best student in bold. "
    caption += (f"Selection: {rules}. " if rules else "") + quotes.caption
    return [Table("accuracy-table", title, caption, ["scheme", *_labels(budgets)], body)]


def ivis_loss(data: Selection) -> Sequence[Table | Missing]:
    """LW Table 2: converged ivis loss by tap and budget, a table a reducer and setting."""
    title = data.titled("Converged ivis loss", "LW Table 2")
    metric = data.label("ivis-loss")
    found = {p: v for p, v in data.values(metric, "last").items() if p.scheme != TEACHER}
    if not found:
        return data.absent(title, "ivis-loss", f"no record has a value {metric}.last")
    tables: list[Table | Missing] = []
    for reducer, setting in sorted({(p.reducer or "", p.setting) for p in found}):
        here = {p: v for p, v in found.items() if (p.reducer or "", p.setting) == (reducer, setting)}
        quotes, taps = _Quotes(), data.taps(p.tap for p in here)
        body: list[list[Cell | Head]] = []
        for budget in sorted({p.budget for p in here}):

            def cell(
                scheme: str, tap: str, budget: int = budget, reducer: str = reducer, setting: str = setting
            ):
                values = found.get(Place(budget, scheme, tap, reducer or None, setting), [])
                paper = data.published("ivis-loss", "last", budget, scheme, tap, reducer or None)
                return quotes.cell(_mean(values), paper, spread=_range(values))  # noqa: B023 used at once

            schemes = data.order(p.scheme for p in here)
            body += _block([f"{budget:,}"], schemes, taps, cell)
        caption = (
            f"{reducer}, {setting}: loss of the last epoch, mean over folds and their range; lower embeds better. It "
            f"depends on n and k first of all: compare only tables of one setting. {quotes.caption}"
        )
        tables.append(Table("ivis-loss", title, caption, ["labels", "scheme", *taps], body))
    return tables


def embedding_time(data: Selection) -> list[Table]:
    """LW section 3.2: seconds that each reducer takes by tap, over all networks; no table without any."""
    found = data.values("embedding-time", "seconds")
    if not found:
        return []
    quotes, taps = _Quotes(digits=0), data.taps(p.tap for p in found)
    body: list[list[Cell | Head]] = []
    for reducer, setting in _by_reducer(data, {(p.reducer or "", p.setting) for p in found}):
        cells: list[Cell | Head] = [Head(f"{reducer}, {setting}")]
        for tap in taps:
            values = [
                seconds
                for p, some in found.items()
                if (p.tap, p.reducer or "", p.setting) == (tap, reducer, setting)
                for seconds in some
            ]
            text = significant(float(np.mean(values)), 3) if values else "–"
            paper = data.published_time(tap, reducer)
            cells.append(quotes.cell(text, paper, spread=_range(values, lambda v: significant(v, 3))))
        body.append(cells)
    machines = {
        r.origin(own.metric, own.tap, own.reducer)["hardware"]
        for r in data.records
        for own in r.results
        if (own.metric, own.value_name) == ("embedding-time", "seconds")
    } - {""}
    on = f", on {' and '.join(sorted(machines))}" if machines else ""
    caption = (
        f"Seconds in the reducer, mean and range over all networks{on}; finding exact neighbours comes before and is "
        f"not counted. {quotes.caption}"
    )
    title = data.titled("Time of an embedding", "LW section 3.2")
    return [Table("embedding-time", title, caption, ["", *taps], body)]


def by_budget(
    data: Selection, title: str, metric: str, name: str, found: Mapping[Place, list[float]], setting: str
) -> Table:
    """A metric of whole networks: its primary value by scheme and budget."""
    budgets, quotes = sorted({p.budget for p in found}), _Quotes()

    def cell(scheme: str, budget: int) -> Cell:
        paper = data.published(metric, name, budget, scheme)
        return quotes.cell(_deviating(found.get(Place(budget, scheme), [])), paper)

    body = _block([], data.order(p.scheme for p in found), budgets, cell)
    return Table(f"{metric}-table", title, _about(setting, quotes), ["scheme", *_labels(budgets)], body)


def by_layer(
    data: Selection, title: str, metric: str, name: str, found: Mapping[Place, list[float]], setting: str
) -> Table:
    """A metric of layers or embeddings: its primary value by reducer, budget, scheme and tap."""
    taps, quotes = data.taps(p.tap for p in found), _Quotes()
    reduced = any(p.reducer for p in found)
    body: list[list[Cell | Head]] = []
    for reducer, budget in _by_reducer(data, {(p.reducer or "", p.budget) for p in found}):

        def cell(scheme: str, tap: str, budget: int = budget, reducer: str = reducer) -> Cell:
            paper = data.published(metric, name, budget, scheme, tap, reducer or None)
            values = found.get(Place(budget, scheme, tap, reducer or None), [])
            return quotes.cell(_deviating(values), paper)

        here = {p for p in found if (p.reducer or "", p.budget) == (reducer, budget)}
        body += _block([reducer] * reduced + [f"{budget:,}"], data.order(p.scheme for p in here), taps, cell)
    head = [*["reducer"] * reduced, "labels", "scheme", *taps]
    return Table(f"{metric}-layers", title, _about(setting, quotes), head, body)


def _block(
    groups: Sequence[str], schemes: Sequence[str], columns: Sequence, cell: Callable[..., Cell]
) -> list[list[Cell | Head]]:
    """Rows of some schemes below headings that span them all."""
    rows: list[list[Cell | Head]] = []
    for i, scheme in enumerate(schemes):
        heads = [Head(group, len(schemes)) for group in groups] if i == 0 else []
        rows.append([*heads, Head(scheme), *(cell(scheme, column) for column in columns)])
    return rows


def _by_reducer(data: Selection, pairs: Iterable[tuple]) -> list[tuple]:
    """(reducer, ...) in the suite's order of reducers."""
    named = [c.title for c in data.suite.reducers]
    return sorted(pairs, key=lambda p: (named.index(p[0]) if p[0] in named else len(named), p))


def _labels(budgets: Iterable[int]) -> list[str]:
    return [f"{budget:,} labels" for budget in budgets]


def _about(setting: str, quotes: _Quotes) -> str:
    parts = ["Mean ± standard deviation over folds.", f"{setting}." if setting else "", quotes.caption]
    return " ".join(part for part in parts if part)


def _deviating(values: Values, *, percent: bool = False) -> str:
    if not values:
        return "–"
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return number(float(np.mean(values)), sd, percent=percent)


def _mean(values: Values) -> str:
    return number(float(np.mean(values))) if values else "–"


def _range(values: Values, text: Callable[[float], str] = number) -> str:
    return f"{text(min(values))}–{text(max(values))}" if len(values) > 1 else ""
