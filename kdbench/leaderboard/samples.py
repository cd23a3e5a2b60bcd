"""Samples: the values over folds of one measurement of one experiment.

What was measured on the cells of one experiment belongs together if the settings of the metric and the reducer agree
too; see `kdbench.leaderboard.grouping` for what an experiment is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kdbench.api.records import CellRecord
from kdbench.api.settings import Fingerprint, Settings, fingerprint
from kdbench.leaderboard.differences import difference_text
from kdbench.leaderboard.grouping import GroupedCell, Replicate, RowKey, group, nearest, variants

if TYPE_CHECKING:
    from kdbench.plan.settings import SuiteSettings


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

    Attributes
    ----------
    row
        What its row shows of the experiment.
    measured
        What its row shows of the measurement.
    settings
        Settings of the experiment, those of one of its cells.
    variant
        What it differs in from the main experiment of its name; "" for the main one.
    training
        Everything that the trained networks depend on.
    shared
        Equal for two samples whose students were trained and measured alike but for the scheme.
    measuring
        Settings of the metric and the reducer.
    primary
        Whether the metric ranks by this value.
    values
        The numbers.
    cells
        The cells that the numbers are of.
    failed
        Number of replicates without a value because their cell failed.
    """

    row: RowKey
    measured: Measured
    settings: Settings
    variant: str
    training: Fingerprint
    shared: Fingerprint
    measuring: Fingerprint
    primary: bool = False
    values: dict[Replicate, float] = field(default_factory=dict)
    cells: dict[Replicate, CellRecord] = field(default_factory=dict)
    failed: int = 0

    @property
    def cost(self) -> tuple[int | None, int | None]:
        """Optimiser steps and images seen of each training, None if no record has them. They are the same for all
        cells: what differs in them is another experiment."""
        cell = next(iter(self.cells.values()))
        return cell.steps, cell.images_seen

    @property
    def newest(self) -> float:
        """When the last of the cells was created."""
        return max(c.created for c in self.cells.values())


def base_name(label: str) -> str:
    """A component's name out of its default label: "kl" of "kl[temperature=2]"."""
    return label.split("[", 1)[0]


def samples(cells: Iterable[CellRecord], reference: SuiteSettings | None = None) -> list[Sample]:
    """Samples of all cells, in an order that depends on the cells alone.

    Parameters
    ----------
    cells
        Of two values of the same thing in the same replicate, that of the cell created last counts; of cells of one
        age, that of the one given last.
    reference
        Decides which of several experiments of one name is the main one.

    Returns
    -------
    list of Sample
        One a row.
    """
    grouped = group(cells)
    labels = variants(grouped, reference)
    samples_by_key: dict[tuple, Sample] = {}
    networks: dict[tuple, set[str]] = {
        g.position: {g.cell.network} - {""} for g in grouped if g.cell.status == "finished"
    }

    def fills_gaps(g: GroupedCell) -> bool:
        """Whether a cell failed where another one finished: it adds what that one lacks, of the same network."""
        return g.cell.status != "finished" and g.position in networks

    for g in sorted(grouped, key=lambda g: (g.row, g.replicate, fills_gaps(g))):  # stable: older cells first
        cell, filling = g.cell, fills_gaps(g)
        if filling and cell.network not in networks[g.position]:
            continue
        measuring: dict[tuple, Fingerprint] = {}
        for result in cell.results:
            components = (result.metric, result.reducer)
            if components not in measuring:
                measuring[components] = fingerprint(cell.settings.measuring(*components))
            measured = Measured(result.metric, result.value_name, result.tap, result.reducer, result.setting)
            key = (g.row, measured, g.training, measuring[components])
            sample = samples_by_key.get(key)
            if sample is None:
                sample = samples_by_key[key] = Sample(
                    g.row,
                    measured,
                    cell.settings,
                    labels[g.experiment, cell.budget],
                    g.training,
                    g.shared | measuring[components],
                    measuring[components],
                )
            if filling and g.replicate in sample.values:
                continue
            sample.primary = sample.primary or result.primary
            sample.values[g.replicate] = float(result.value)
            sample.cells[g.replicate] = cell
    found = list(samples_by_key.values())
    _count_failures(grouped, found)
    _label_components(found, reference)
    return found


def failures(cells: Iterable[CellRecord]) -> list[CellRecord]:
    """The failed cells that no finished one has replaced; see `_failures`."""
    cells = list(cells)
    if all(c.status == "finished" for c in cells):
        return []
    failed = sorted(_failures(group(cells)), key=lambda g: (g.row, g.replicate, g.cell.key))
    return [g.cell for g in failed]


def _failures(grouped: Iterable[GroupedCell]) -> list[GroupedCell]:
    """Of each position the last failed cell, unless one finished there later, or finished with everything that it
    wanted: an additional measurement may fail where earlier ones succeeded."""
    last: dict[tuple, GroupedCell] = {}
    finished: dict[tuple, set[str]] = defaultdict(set)
    for g in grouped:  # oldest first
        if g.cell.status == "finished":
            finished[g.position] |= set(g.cell.stages.values())
            last.pop(g.position, None)
        else:
            last[g.position] = g
    return [
        g
        for position, g in last.items()
        if position not in finished or not set(g.cell.stages.values()) <= finished[position]
    ]


def _count_failures(grouped: Iterable[GroupedCell], found: Iterable[Sample]) -> None:
    failed: dict[tuple, set[Replicate]] = defaultdict(set)
    for g in _failures(grouped):
        failed[g.row, g.training].add(g.replicate)
    for sample in found:
        sample.failed = len(failed[sample.row, sample.training] - sample.values.keys())


def _label_components(found: Iterable[Sample], reference: SuiteSettings | None) -> None:
    """Tell samples apart that differ in the settings of metric or reducer alone."""
    alike: dict[tuple, dict[Fingerprint, Sample]] = defaultdict(dict)
    for sample in found:
        alike[sample.row, sample.measured, sample.training][sample.measuring] = sample
    for (row, measured, _), candidates in alike.items():
        weights = {m: (len(s.values), s.newest, sorted(m)) for m, s in candidates.items()}
        expected: Mapping = {}
        if reference is not None:
            expected = reference.of(row.scheme).measuring(measured.metric, measured.reducer)
        main = nearest(weights, expected)
        others = {m: sample for m, sample in candidates.items() if m != main}
        texts = {m: difference_text(m, main) for m in others}
        for m, sample in others.items():
            unique = list(texts.values()).count(texts[m]) == 1
            text = texts[m] if unique else difference_text(m, main, complete=True)
            sample.variant = ", ".join(filter(None, [sample.variant, text]))
