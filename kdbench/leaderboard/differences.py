"""Differences of an experiment from another one or from its suite, as text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from kdbench.api.records import CellRecord
from kdbench.api.settings import Fingerprint, Flat, difference, unexplained

if TYPE_CHECKING:
    from kdbench.plan.settings import SuiteSettings

#: Part of an experiment to what differs in it: name to value.
Differences: TypeAlias = dict[str, dict[str, str]]


def difference_text(found: Fingerprint, main: Fingerprint, *, complete: bool = False) -> str:
    """What an experiment differs in from the main one: "student.epochs=40". Long values are shortened unless
    `complete`."""
    shown = str if complete else shortened
    differing = difference(dict(found), dict(main))
    return ", ".join(f"{name}={shown(value)}" for name, (value, _) in sorted(differing.items()))


def shortened(value: str) -> str:
    """A long value cut to its beginning."""
    return value if len(value) <= 24 else f"{value[:16]}..."


def labels(named: Mapping[tuple, Differences]) -> dict[tuple, str]:
    """Differences as text; values are shortened unless two rows would read alike."""

    def text(differences: Differences, shown: Callable[[str], str], names: Iterable[str]) -> str:
        parts = (
            f"{name}={shown(value)}"
            for part in differences.values()
            for name, value in sorted(part.items())
            if name in names
        )
        return ", ".join(dict.fromkeys(parts))

    def names(differences: Differences) -> list[str]:
        return [name for part in differences.values() for name in part]

    short = {key: text(found, shortened, unexplained(names(found))) for key, found in named.items()}
    complete = {key: text(found, str, names(found)) for key, found in named.items()}
    meanings: dict[str, set[str]] = defaultdict(set)
    for key, label in short.items():
        meanings[label].add(complete[key])
    return {key: label if len(meanings[label]) == 1 else complete[key] for key, label in short.items()}


def departures(
    cells: Iterable[CellRecord], reference: SuiteSettings, measuring: Iterable[Fingerprint] = ()
) -> list[str]:
    """What was done in another way than the suite says: "student.epochs=1, not 3"; of a scheme's own parameters
    "kl: temperature=2, not 4".

    Parameters
    ----------
    cells
        Cells whose trainings are compared.
    reference
        What the suite says.
    measuring
        Settings of the metrics and reducers of the values that are shown.

    Returns
    -------
    list of str
        One sentence a setting, sorted.
    """
    texts: dict[str, set[str]] = defaultdict(set)

    def compare(found: Flat, expected: Flat, scheme: str = "") -> None:
        for name, (ours, theirs) in difference(found, expected).items():
            if name not in found or name not in expected:
                continue
            title = f"{scheme}: {name.removeprefix('scheme.')}" if scheme else name
            short = [shortened(ours), shortened(theirs)]
            ours, theirs = short if short[0] != short[1] else (ours, theirs)
            texts[title].add(f"{title}={ours}, not {theirs}")

    for cell in cells:
        settings, expected = cell.settings, reference.of(cell.scheme, cell.budget)
        compare(settings.shared, expected.shared)
        compare(settings.teacher_part, expected.teacher_part)
        compare(settings.budget_bound, {"data.unlabelled": reference.unlabelled(cell.budget, settings.data)})
        compare(settings.scheme_part, expected.scheme_part, cell.scheme)
    expected = reference.of("")
    components = [m.flat(f"metrics.{label}") for label, m in expected.metrics.items()]
    components += [r.flat(f"reducers.{label}") for label, r in expected.reducers.items()]
    for found in set(measuring):
        for component in components:
            compare(dict(found), component)
    return sorted(text for title in unexplained(texts) for text in texts[title])
