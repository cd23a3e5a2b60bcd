"""The content of pages as plain data: claims, failures, assumptions, differences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kdbench.api.records import CellRecord
from kdbench.leaderboard.claims import ClaimVerdict
from kdbench.leaderboard.rows import Row
from kdbench.leaderboard.statistics import DESCRIPTIVE_BELOW
from kdbench.rendering.numbers import signed
from kdbench.rendering.tables import in_percent, scheme_labels, short

#: Why a number or a verdict is marked as descriptive.
DESCRIPTIVE = f"descriptive only (fewer than {DESCRIPTIVE_BELOW} folds)"
#: So many missing comparisons of a claim are named.
MOST_NAMED = 4


@dataclass(frozen=True)
class ClaimView:
    """A verdict as every claims table shows it.

    Attributes
    ----------
    text
        The sentence and where the paper says it.
    where
        The sentence and where the paper says it.
    verdict
        "supported", "contradicted", "undecided" or "no data".
    descriptive
        Whether it rests on too few folds to conclude from.
    effect
        Effect with interval, in percent where the metric is; "" without data.
    folds
        Number of folds, "" without data.
    held
        "3 of 4": comparisons that support it.
    shown
        The comparison that the effect is of, and what is missing.
    """

    text: str
    where: str
    verdict: str
    descriptive: bool
    effect: str
    folds: str
    held: str
    shown: str

    @property
    def kind(self) -> str:
        """The verdict as a CSS class."""
        return self.verdict.replace(" ", "-")


def claim_view(v: ClaimVerdict) -> ClaimView:
    """A verdict as text."""
    percent = in_percent(v.metric)
    effect = signed(v.effect, v.low, v.high, percent=percent)
    return ClaimView(
        text=v.text,
        where=v.where,
        verdict=v.verdict,
        descriptive=v.descriptive and v.n > 0,
        effect=f"{effect} %" if effect and percent else effect,
        folds=str(v.n) if v.n else "",
        held=f"{sum(c.verdict == 'supported' for c in v.comparisons)} of {len(v.comparisons)}",
        shown="; ".join(part for part in (v.decisive, _missing(v)) if part),
    )


def _missing(v: ClaimVerdict) -> str:
    """ "1 of 4 measured; missing: 2500 labels, 5000 labels, 10000 labels"; "" if nothing is missing."""
    if not v.missing:
        return ""
    named = [name for name in v.missing if name][:MOST_NAMED]
    more = f" and {len(v.missing) - len(named)} more" if named and len(v.missing) > len(named) else ""
    return f"{v.measured}; missing: {', '.join(named)}{more}" if named else v.measured


@dataclass(frozen=True)
class FailureView:
    """A failed cell: what it is, the stage that failed, and the last line of the error."""

    budget: int
    scheme: str
    fold: int
    network: str
    stage: str
    error: str
    traceback: str

    @property
    def title(self) -> str:
        """ "400 labels · fold 1 · distilled"."""
        return f"{self.budget} labels · fold {self.fold} · {self.scheme}"


def failure_view(cell: CellRecord) -> FailureView:
    """A failed cell as text; folds count from 1."""
    first, _, rest = cell.error.strip().partition("\n")
    lines = [line for line in cell.error.strip().splitlines() if line.strip()]
    return FailureView(
        budget=cell.budget,
        scheme=cell.scheme,
        fold=cell.fold + 1,
        network=cell.student or cell.teacher,
        stage=first if rest and not first.startswith("Traceback") else "",
        error=lines[-1].strip() if lines else "no message",
        traceback=cell.error.strip(),
    )


def assumptions(named: Mapping[str, str]) -> list[tuple[str, str]]:
    """Assumptions by name; A2 comes before A10."""
    return sorted(
        named.items(),
        key=lambda item: [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", item[0])],
    )


def differences(rows: Sequence[Row]) -> list[list[str]]:
    """Metric, labels, scheme, difference to undistilled and folds, of whole networks' primary metrics."""
    label_of = scheme_labels(rows)
    lines = []
    for row in rows:
        if row.primary and row.tap is None and row.difference is not None:
            percent = in_percent(row.metric)
            name = short(row.metric) + (" [%]" if percent else "")
            size = signed(row.difference, row.difference_low, row.difference_high, percent=percent)
            lines.append([name, str(row.budget), label_of(row), size, str(row.difference_n)])
    return lines


def costs(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines: optimiser steps and images seen of every network."""
    label_of = scheme_labels(rows)
    several = len({r.dataset for r in rows}) > 1
    lines: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row.primary and row.tap is None and row.steps is not None and row.images_seen is not None:
            head = ([row.dataset] if several else []) + [str(row.budget), label_of(row)]
            lines.setdefault(tuple(head), [*head, f"{row.steps:,}", f"{row.images_seen:,}"])
    header = [*(["dataset"] if several else []), "labels", "scheme", "optimiser steps", "images seen"]
    return header, list(lines.values())


def distinct(rows: Iterable[Row], column: str) -> str:
    """All values of a column; machines and versions one by one."""
    found = {str(getattr(row, column)) for row in rows if getattr(row, column)}
    if column in ("hardware", "kdbench_version"):
        found = {part for text in found for part in text.split("; ")}
    return ", ".join(sorted(found))
