"""Figures that metrics stored with their values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdbench.errors import DataError
from kdbench.report.figures import slug
from kdbench.report.selection import Missing, Selection

if TYPE_CHECKING:
    from kdbench.api import CellRecord


@dataclass(frozen=True)
class Stored:
    """A drawing of a metric: SVG and PNG as the store has them."""

    name: str
    caption: str
    svg: str
    png: bytes


@dataclass(frozen=True)
class Gallery:
    """All drawings of one metric."""

    title: str
    drawings: tuple[Stored, ...]


@dataclass(frozen=True)
class _Named:
    """The parts of a key "<tap>/<reducer>/<metric>.<name>"; labels may hold slashes and dots too."""

    metric: str
    tap: str
    reducer: str
    name: str


def galleries(data: Selection) -> list[Gallery | Missing]:
    """A gallery a metric, in the suite's order: of each drawing the first fold that has it.

    A drawing whose file is gone or damaged leaves its gallery out, with that reason.
    """
    found: dict[_Named, dict[tuple[int, str], list[CellRecord]]] = {}
    for record in data.records:  # by budget, then fold
        for key in record.figures:
            named = _parts(key, _metrics(data, record))
            found.setdefault(named, {}).setdefault((record.budget, record.scheme), []).append(record)
    made: list[Gallery | Missing] = []
    for metric in _ordered(data, {n.metric for n in found}):
        drawings = []
        try:
            for named in sorted((n for n in found if n.metric == metric), key=lambda n: _place(data, n)):
                cells = found[named]
                for budget, scheme in sorted(cells, key=lambda c: (c[0], data.schemes.index(c[1]))):
                    drawings.append(_stored(data, named, cells[budget, scheme]))
        except DataError as error:
            made.append(Missing(metric, f"{error.where}: {error.what}"))
            continue
        made.append(Gallery(metric, tuple(drawings)))
    return made


def _parts(key: str, metrics: Iterable[str]) -> _Named:
    head, _, name = key.rpartition(".")
    fitting = [m for m in metrics if head == m or head.endswith("/" + m)]
    metric = max(fitting, key=len, default=head.rpartition("/")[2])
    tap, _, reducer = head[: -len(metric)].rstrip("/").partition("/")
    return _Named(metric, tap, reducer, name)


def _metrics(data: Selection, record: CellRecord) -> set[str]:
    return {m.title for m in data.suite.metrics} | {r.metric for r in record.results}


def _ordered(data: Selection, metrics: set[str]) -> list[str]:
    named = [m.title for m in data.suite.metrics]
    return sorted(metrics, key=lambda m: (named.index(m) if m in named else len(named), m))


def _place(data: Selection, named: _Named) -> tuple[int, str, str, str]:
    taps = list(data.suite.taps)
    at = taps.index(named.tap) if named.tap in taps else -1
    return at, named.tap, named.reducer, named.name


def _stored(data: Selection, named: _Named, records: Sequence[CellRecord]) -> Stored:
    first = min(records, key=lambda r: r.fold)
    key = "/".join(p for p in (named.tap, named.reducer, named.metric) if p) + f".{named.name}"
    path = first.figures[key]
    try:
        svg = (data.store_root / path).read_text(encoding="utf-8")
        png = (data.store_root / path).with_suffix(".png").read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"a figure can't be read: {error}", where=path) from error
    if "<svg" not in svg:
        raise DataError("a figure is damaged: it is no SVG", where=path)
    folds = len({r.fold for r in data.records})
    parts = [named.name, f"{first.scheme}, {first.budget:,} labels"]
    parts += [f"layer {named.tap}"] if named.tap else []
    parts += [named.reducer] if named.reducer else []
    if folds > 1:
        parts.append(f"fold {first.fold + 1} of {folds}")
    name = slug(f"{named.metric} {named.name} {named.tap} {named.reducer} {first.scheme} {first.budget}")
    return Stored(f"metric-{name}", " · ".join(parts) + ".", svg, png)
