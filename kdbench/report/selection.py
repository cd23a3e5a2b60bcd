"""Select numbers and arrays from records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdbench.errors import DataError
from kdbench.leaderboard.collate import of_paper, quoted

if TYPE_CHECKING:
    from kdbench.api import CellRecord
    from kdbench.suite.schema import Published, Suite

#: Lee & Wallraven 2021, LW: suites whose `reference` names it have its figures and tables under its titles.
LW = "2110.04483"
TEACHER = "teacher"
UNDISTILLED = "undistilled"


@dataclass(frozen=True)
class Place:
    """What a number belongs to; numbers of one place differ by fold alone."""

    budget: int
    scheme: str
    tap: str | None = None
    reducer: str | None = None
    setting: str = ""


@dataclass(frozen=True)
class Missing:
    """A figure or table that could not be made, and why."""

    title: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """The records of a report that hold results, and the suite's order of things. A cell that failed holds what was
    measured before, and beside, what failed."""

    records: tuple[CellRecord, ...]
    suite: Suite
    store_root: Path

    @classmethod
    def of(cls, records: Iterable[CellRecord], suite: Suite, store_root: Path) -> Selection:
        done = [r for r in records if r.status == "finished" or r.results]
        return cls(tuple(sorted(done, key=lambda r: (r.budget, r.fold, r.scheme))), suite, store_root)

    @property
    def budgets(self) -> list[int]:
        return sorted({r.budget for r in self.records})

    @property
    def schemes(self) -> list[str]:
        """In the suite's order; others after them; teachers last."""
        return self.order({r.scheme for r in self.records})

    def order(self, schemes: Iterable[str]) -> list[str]:
        named = [c.title for c in self.suite.schemes]

        def place(scheme: str) -> tuple[int, int, str]:
            return scheme == TEACHER, named.index(scheme) if scheme in named else len(named), scheme

        return sorted(set(schemes), key=place)

    def taps(self, found: Iterable[str | None]) -> list[str]:
        """In the suite's order, then by name."""
        known = list(self.suite.taps)
        names = {t for t in found if t is not None}
        return sorted(names, key=lambda t: (known.index(t) if t in known else len(known), t))

    def values(self, metric: str, value_name: str) -> dict[Place, list[float]]:
        """Every fold's value by place, folds in order."""
        found: dict[Place, list[float]] = defaultdict(list)
        for record in self.records:
            for r in record.results:
                if (r.metric, r.value_name) == (metric, value_name):
                    found[Place(record.budget, record.scheme, r.tap, r.reducer, r.setting)].append(r.value)
        return dict(found)

    def titled(self, title: str, where: str) -> str:
        """`title`, with the place in LW that it repeats where the suite is of that paper."""
        return f"{title} ({where})" if LW in self.suite.reference else title

    def absent(self, title: str, component: str, reason: str) -> list[Missing]:
        """What a report says of a figure of the metric `component` that there is nothing for: the reason where the
        suite has that metric, and nothing where nobody asked for it."""
        return [Missing(title, reason)] if any(m.name == component for m in self.suite.metrics) else []

    def label(self, component: str) -> str:
        """What a metric is called here: its name, or its first label in the suite."""
        return next((m.title for m in self.suite.metrics if m.name == component), component)

    def primary(self, metric: str) -> str | None:
        """Name of the value that `metric` ranks by, where any record has one."""
        names = (r.value_name for c in self.records for r in c.results if r.metric == metric and r.primary)
        return next(names, None)

    def arrays(self, name: str) -> dict[Place, list[np.ndarray]]:
        """Arrays whose key ends in `name` ("class-area.ratio"), every fold's by place.

        Raises DataError if a file is missing or damaged.
        """
        found: dict[Place, list[np.ndarray]] = defaultdict(list)
        for record in self.records:
            for key in sorted(record.arrays):
                place = _place(record, key, name)
                if place is not None:
                    found[place].append(self.load(record.arrays[key]))
        return dict(found)

    def load(self, path: str) -> np.ndarray:
        """An array of the store. Raises DataError if the file is missing or damaged."""
        try:
            return np.load(self.store_root / path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"an array can't be read: {error}", where=path) from error

    @property
    def quotable(self) -> Sequence[Published]:
        """The paper's numbers, where these records are of the paper's dataset."""
        return self.suite.published if all(of_paper(r.dataset, self.suite) for r in self.records) else ()

    def published(
        self,
        metric: str,
        value_name: str,
        budget: int,
        scheme: str,
        tap: str | None = None,
        reducer: str | None = None,
    ) -> Published | None:
        """The quoted number of that place, if the suite has one that a leaderboard quotes there: of this budget,
        this network and this layer. A scheme or reducer of a label of its own is its component, too."""
        of_scheme = {r.student for r in self.records if (r.budget, r.scheme) == (budget, scheme)}
        ours = of_scheme or {
            r.student for r in self.records if r.student
        }  # a scheme that the paper alone has
        student = ours.pop() if len(ours) == 1 else ""  # of several networks there is no one number
        for named in dict.fromkeys((scheme, self._component(scheme))):
            for kind in dict.fromkeys((reducer, self._reducer(reducer))):
                place = (f"{metric}.{value_name}", budget, named, tap, kind)
                if found := quoted(self.quotable, *place, student=student):
                    return found
        return None

    def published_time(self, tap: str, reducer: str) -> Published | None:
        """The quoted seconds of an embedding by `reducer`, a label or a component's name, where they are those of
        every network that ours are of."""
        found = {
            id(p): p
            for r in self.records
            for own in r.results
            if (own.metric, own.value_name, own.tap, own.reducer)
            == ("embedding-time", "seconds", tap, reducer)
            for p in [self.published("embedding-time", "seconds", r.budget, r.scheme, tap, reducer)]
        }
        return next(iter(found.values())) if len(found) == 1 else None

    def quoted_only(self, metric: str, value_name: str, schemes: Iterable[str]) -> list[str]:
        """Schemes of the paper that were not run, in the suite's order."""
        ours = {name for s in schemes for name in (s, self._component(s))}
        named = (p.scheme for p in self.quotable if (p.metric, p.value_name) == (metric, value_name))
        return [s for s in dict.fromkeys(named) if s is not None and s not in ours]

    def _reducer(self, label: str | None) -> str | None:
        """Name of the component behind a reducer's label."""
        return next((c.name for c in self.suite.reducers if c.title == label), label)

    def _component(self, scheme: str) -> str:
        """Name of the component behind a scheme's label."""
        return next((c.name for c in self.suite.schemes if c.title == scheme), scheme.split("[")[0])


def _place(record: CellRecord, key: str, name: str) -> Place | None:
    """A key is "<name>" of a network, "<tap>/<name>" of a tap, "<tap>/<reducer>/<name>" of an embedding."""
    if key == name:
        return Place(record.budget, record.scheme)
    if not key.endswith("/" + name):
        return None
    head = key[: -len(name) - 1]
    # A reducer's label may hold slashes, a tap's name does not. "-" stands for none.
    tap, _, reducer = head.partition("/")
    return Place(record.budget, record.scheme, _named(tap), _named(reducer))


def _named(text: str) -> str | None:
    return None if text in ("", "-") else text


def parted(found: Mapping[Place, list[float]]) -> list[tuple[str, dict[Place, list[float]]]]:
    """Values by place without its setting, and the settings that they are of: all in one, or one part a setting
    where a place has values of several, which are never merged."""
    bare = {p: replace(p, setting="") for p in found}
    settings = sorted({p.setting for p in found})
    if len(set(bare.values())) == len(bare):
        return [("; ".join(s for s in settings if s), {bare[p]: values for p, values in found.items()})]
    return [(s, {bare[p]: values for p, values in found.items() if p.setting == s}) for s in settings]


def same_length(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of several folds as one (folds, n).

    Raises DataError if of different lengths, that is, of different data.
    """
    lengths = {a.shape for a in arrays}
    if len(lengths) != 1:
        raise DataError(f"folds have arrays of different shapes: {sorted(lengths)}")
    return np.stack([np.asarray(a, dtype=np.float64) for a in arrays])
