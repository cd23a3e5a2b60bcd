"""Cells to samples: one value a fold for all that was measured, and never two experiments in one sample.

What was measured on the cells of one experiment belongs together when the metric's and the reducer's
parameters agree too; see `kdbench.leaderboard.grouping` for what an experiment is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kdbench.api.records import CellRecord, Result
from kdbench.leaderboard.differences import Fingerprint, difference
from kdbench.leaderboard.grouping import (
    Placed,
    Replicate,
    Setup,
    fingerprint,
    nearest,
    network_of,
    placed,
    variants,
)

if TYPE_CHECKING:
    from kdbench.suite.schema import Suite


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
    `measuring` are the parameters of the metric and the reducer. `cells` are those that the values are of.
    `failed`: replicates that have no value because their cell failed.
    """

    setup: Setup
    measured: Measured
    variant: str
    shared: Fingerprint
    measuring: Fingerprint = frozenset()
    primary: bool = False
    values: dict[Replicate, float] = field(default_factory=dict)
    cells: dict[Replicate, CellRecord] = field(default_factory=dict)
    failed: int = 0

    @property
    def hardware(self) -> set[str]:
        labels = (c.hardware.get("label") or c.hardware.get("device") or "" for c in self.cells.values())
        return {str(label) for label in labels}

    @property
    def versions(self) -> set[str]:
        return {c.versions.get("kdbench", "") for c in self.cells.values()}

    @property
    def cost(self) -> dict[str, int | None]:
        """What each training came to: `steps` and `images_seen`, None where no record says it. The same for all
        cells of a sample, for what differs in it is another experiment."""
        cell = next(iter(self.cells.values()))
        return {name: cell.params.get(name) for name in ("steps", "images_seen")}

    @property
    def newest(self) -> float:
        """When the last of the cells was created."""
        return max(c.created for c in self.cells.values())


def base_name(label: str) -> str:
    """A component's name out of its label: "kl" of "kl[temperature=2]"."""
    return label.split("[", 1)[0]


def samples(cells: Iterable[CellRecord], suite: Suite | None = None) -> list[Sample]:
    """Samples of all cells, in an order that depends on the cells alone.

    Args:
        cells: of two values of the same thing in the same replicate that of the cell created last counts; of
            cells of one age, the one given last.
        suite: decides which of several experiments with one name is the main one.
    """
    known = placed(cells)
    labels = variants(known, suite)
    made: dict[tuple, Sample] = {}
    networks: dict[tuple, set[str]] = {
        p.place: {network_of(p.cell)} - {""} for p in known if p.cell.status == "finished"
    }
    # A failed cell, too, has what was measured before and beside what failed. Of a place that has a whole one it
    # tells what that one has not, if they are of one network. Stable: older cells before newer ones.
    whole_first = sorted(known, key=lambda p: (p.setup, p.replicate, _beside_whole(p, networks)))
    for p in whole_first:
        cell, filling = p.cell, _beside_whole(p, networks)
        if filling and network_of(cell) not in networks[p.place]:
            continue
        variant = labels[p.experiment, cell.budget]
        components: dict[tuple, Fingerprint] = {}
        for result in cell.results:
            if (result.metric, result.reducer) not in components:
                components[result.metric, result.reducer] = _component_params(cell, result)
            extra = components[result.metric, result.reducer]
            measured = Measured(result.metric, result.value_name, result.tap, result.reducer, result.setting)
            key = (p.setup, measured, p.training, extra)
            if key not in made:
                made[key] = Sample(p.setup, measured, variant, p.shared | extra, extra)
            sample = made[key]
            if filling and p.replicate in sample.values:
                continue
            sample.primary = sample.primary or result.primary
            sample.values[p.replicate] = float(result.value)
            sample.cells[p.replicate] = cell
    _count_failures(known, made)
    _tell_components_apart(made, suite)
    return list(made.values())


def _beside_whole(p: Placed, networks: Mapping[tuple, set[str]]) -> bool:
    """Whether a cell failed where another one finished."""
    return p.cell.status != "finished" and p.place in networks


def failures(cells: Iterable[CellRecord]) -> list[CellRecord]:
    """The failed cells that no finished one has made good; see `_failures`."""
    cells = list(cells)
    if all(c.status == "finished" for c in cells):
        return []
    failed = sorted(_failures(placed(cells)), key=lambda p: (p.setup, p.replicate, p.cell.key))
    return [p.cell for p in failed]


def _failures(known: Iterable[Placed]) -> list[Placed]:
    """Of each place the last failed cell, unless one finished there later, or finished with all that it wanted: what
    is measured in addition may fail beside what was done before."""
    last: dict[tuple, Placed] = {}
    whole: dict[tuple, set[str]] = defaultdict(set)
    for p in known:  # oldest first
        if p.cell.status == "finished":
            whole[p.place] |= set(p.cell.stages.values())
            last.pop(p.place, None)
        else:
            last[p.place] = p
    return [
        p
        for place, p in last.items()
        if place not in whole or not set(p.cell.stages.values()) <= whole[place]
    ]


def _count_failures(known: Iterable[Placed], made: Mapping[tuple, Sample]) -> None:
    failed: dict[tuple, set[Replicate]] = defaultdict(set)
    for p in _failures(known):
        failed[p.setup, p.training].add(p.replicate)
    for (setup, _, training, _), sample in made.items():
        sample.failed = len(failed[setup, training] - sample.values.keys())


# -- what it was measured with


def _component_params(cell: CellRecord, result: Result) -> Fingerprint:
    """The parameters of the metric and of the reducer of a result, as recorded under their labels."""
    found: dict[str, Any] = {}
    for kind, label in (("metric", result.metric), ("reducer", result.reducer)):
        # What stands under the label itself is exact; under the component's name it may be another label's.
        for name in dict.fromkeys((label, base_name(label))) if label else ():
            prefixes = (f"{kind}s.{name}.", f"{kind}.{name}.")
            own = {k: v for k, v in cell.params.items() if k.startswith(prefixes)}
            if own:
                found |= own
                break
    return fingerprint(found)


def _tell_components_apart(made: Mapping[tuple, Sample], suite: Suite | None) -> None:
    """Samples that differ in the parameters of metric or reducer alone."""
    alike: dict[tuple, dict[Fingerprint, Sample]] = defaultdict(dict)
    for (setup, measured, training, extra), sample in made.items():
        alike[setup, measured, training][extra] = sample
    for several in alike.values():
        weights = {extra: (len(s.values), s.newest, sorted(extra)) for extra, s in several.items()}
        main = nearest(weights, suite)
        others = {extra: sample for extra, sample in several.items() if extra != main}
        told = {extra: difference(extra, main) for extra in others}
        for extra, sample in others.items():
            alone = list(told.values()).count(told[extra]) == 1
            text = told[extra] if alone else difference(extra, main, whole=True)
            sample.variant = ", ".join(filter(None, [sample.variant, text]))
