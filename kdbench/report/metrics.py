"""The primary value of every metric of a suite that has no figure or table of its own."""

from __future__ import annotations

from collections.abc import Collection

from kdbench.report import figures, tables
from kdbench.report.selection import Missing, Selection, parted
from kdbench.report.style import Drawing

#: Components that have figures or tables of their own.
OWN = ("accuracy", "superclass-correlation", "ivis-loss", "class-area")


def shown_elsewhere(data: Selection) -> set[str]:
    """Labels of the metrics that are drawn by figures of their own: of each component in `OWN` the first."""
    return {data.label(component) for component in OWN}


def primary_values(data: Selection, without: Collection[str]) -> list[Drawing | tables.ReportTable | Missing]:
    """Of each metric, in the suite's order: a table of whole networks; over several layers a figure, which holds
    few schemes; else a table too. Values of different settings stand apart."""
    made: list[Drawing | tables.ReportTable | Missing] = []
    for metric in (m.title for m in data.suite.metrics if m.title not in without):
        name = data.primary(metric)
        if name is None:
            made.append(Missing(metric, "no record has a value of it"))
            continue
        title = metric if name in metric or name == "value" else f"{metric}: {name}"
        found = data.values(metric, name)
        for setting, whole in parted({p: v for p, v in found.items() if p.tap is None}):
            if whole:
                made.append(tables.by_budget(data, title, metric, name, whole, setting))
        for setting, layered in parted({p: v for p, v in found.items() if p.tap is not None}):
            few = len({p.scheme for p in layered}) <= figures.MANY
            if few and len({p.tap for p in layered}) > 1:
                made.append(figures.by_layer(data, title, metric, name, layered, setting))
            elif layered:
                made.append(tables.by_layer(data, title, metric, name, layered, setting))
    return made
