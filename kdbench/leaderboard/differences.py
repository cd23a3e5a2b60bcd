"""What one experiment differs in from another or from its suite, in the names of parameters, as people read it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kdbench.api.records import CellRecord
from kdbench.leaderboard.own import ABSENT, own_params

if TYPE_CHECKING:
    from kdbench.suite.schema import Suite

#: Name and value, as text, of parameters; equal for equal ones.
Fingerprint = frozenset[tuple[str, str]]
#: Part of a training to what differs in it, name to value.
Differences = dict[str, dict[str, str]]
#: Parameters of what is measured afterwards.
MEASURING = frozenset({"metric", "metrics", "teacher_metrics", "reducer", "reducers", "taps"})

_PLAIN = (str, int, float, type(None))


def text_of(value: Any) -> str:
    """A value as a fingerprint has it."""
    if isinstance(value, _Told):
        return str(value)
    return repr(value) if isinstance(value, _PLAIN) else json.dumps(value, sort_keys=True, default=str)


def alike(found: str | None, wanted: Any) -> bool:
    """Whether a fingerprint's value is the one wanted; 4 and 4.0 are one number."""
    found = text_of(ABSENT) if found is None else found
    text = text_of(wanted)
    try:
        return found == text or float(found) == float(text)
    except ValueError:
        return False


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


# -- rows of one name


def labels(named: Mapping[tuple, Differences]) -> dict[tuple, str]:
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


def _explained(differences: Differences) -> set[str]:
    """What a dataset's parameters that differ as well say better: its digest, and its name where that has them."""
    names = {name for part in differences.values() for name in part}
    return _said_by_parameters(names)


def _said_by_parameters(names: Collection[str]) -> set[str]:
    """ "data.digest" and "data.dataset" where there is a "data.dataset.n_train" among the names."""
    roles = {name.partition(".dataset.")[0] for name in names if ".dataset." in name}
    return {f"{role}.{last}" for role in roles for last in ("digest", "dataset")} & set(names)


# -- beside the suite


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
            if alike(text_of(ours), theirs) or "sha256:" in str(ours):
                continue  # a file is known by its content
            role, _, rest = name.partition(".")
            title = f"{scheme}: {rest}" if role == "scheme" else name
            texts = [_short(text_of(v)) for v in (ours, theirs)]
            if texts[0] == texts[1]:
                texts = [_whole(text_of(v)) for v in (ours, theirs)]
            found[title].add(f"{_plain(title)}={texts[0]}, not {texts[1]}")

    for cell in cells:
        compare(
            {k: v for k, v in cell.params.items() if k.split(".")[0] not in MEASURING},
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
    for name, theirs in wanted.items():
        if name == "data.unlabelled":
            if name in had and theirs == "rest" and isinstance(had.get("data.train"), int):
                theirs = had["data.train"] - had.get("data.validation", 0) - budget
            elif theirs == "rest":
                continue
        if name in had:
            pairs[name] = (had[name], theirs)
    return pairs
