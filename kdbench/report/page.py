"""The report page: one HTML file with everything inlined, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, TypeAlias

from markupsafe import Markup

from kdbench.rendering.environment import asset, html_environment
from kdbench.rendering.html import plain
from kdbench.rendering.numbers import duration
from kdbench.rendering.views import assumptions, claim_view, failure_view
from kdbench.report import tables
from kdbench.report.metric_figures import Gallery, Stored
from kdbench.report.selection import Missing
from kdbench.report.style import Drawing, inlined

if TYPE_CHECKING:
    from kdbench.api import CellRecord
    from kdbench.leaderboard.claims import ClaimVerdict
    from kdbench.leaderboard.rows import Row
    from kdbench.suite.schema import Suite

Item: TypeAlias = Drawing | Gallery | tables.ReportTable | Missing

#: Columns of a leaderboard row that the report shows, in order.
_COLUMNS = (
    "dataset", "budget", "scheme", "student", "teacher", "tap", "reducer", "metric", "n", "mean", "ci_low",
    "ci_high", "difference", "difference_low", "difference_high", "published", "setting", "variant",
    "steps", "images_seen",
)  # fmt: skip


def page(
    items: Sequence[Item],
    *,
    suite: Suite,
    records: Sequence[CellRecord],
    rows: Sequence[Row],
    claims: Sequence[ClaimVerdict],
    changes: Sequence[str] = (),
) -> str:
    """The HTML document."""
    views = [claim_view(v) for v in claims]

    def image(drawing: Drawing | Stored, label: str, ours: bool) -> Markup:
        return Markup(inlined(drawing.svg, drawing.name, escape(label, quote=True), ours=ours))

    return html_environment().get_template("report.html.j2").render(
        suite=suite,
        facts=_facts(records, suite, changes),
        claims=[v for v in views if v.verdict != "no data"],
        silent_claims=[v for v in views if v.verdict == "no data"],
        items=[item for item in items if not isinstance(item, Missing)],
        missing=[item for item in items if isinstance(item, Missing)],
        failed=[failure_view(r) for r in records if r.status == "failed"],
        rows=rows,
        columns=[c for c in _COLUMNS if any(getattr(row, c) not in (None, "") for row in rows)],
        assumptions=assumptions(suite.assumptions),
        css=asset("report.css"),
        inlined=image,
        plain=plain,
    )  # fmt: skip


def _facts(
    records: Sequence[CellRecord], suite: Suite, changes: Sequence[str]
) -> list[tuple[str, list[str]]]:
    done = [r for r in records if r.status == "finished"]
    cells = f"{len(done)} cell{'s' * (len(done) != 1)} finished"
    if len(done) < len(records):
        cells += f", {len(records) - len(done)} failed"
    versions = [r.versions.get("kdbench", "") for r in records] + _elsewhere(records, "kdbench")
    facts = {
        "Scale": [suite.scale],
        "Dataset": [r.dataset for r in records],
        "Labels": [f"{b:,}" for b in sorted({r.budget for r in records})],
        "Folds": [str(len({r.fold for r in records}))] if records else [],
        "Student": [r.student for r in records],
        "Teacher": [r.teacher for r in records],
        "Teacher's confidence": confidence(done),
        "Cells": [cells],
        "Work": [duration(sum(r.seconds for r in records))] if records else [],
        "Hardware": [r.hardware_label for r in records] + _elsewhere(records, "hardware"),
        "Version": [f"kdbench {v}" for v in versions if v],
        "Overrides": list(changes),
    }
    return [(name, list(dict.fromkeys(v for v in values if v))) for name, values in facts.items()]


def confidence(records: Sequence[CellRecord]) -> list[str]:
    """Mean of the teacher's top probability at the scheme's temperature, by budget."""
    found: dict[tuple[int, str], list[float]] = {}
    for record in records:
        for r in record.results:
            if (r.metric, r.value_name) == ("teacher-confidence", "top_probability"):
                found.setdefault((record.budget, r.setting), []).append(r.value)
    return [f"{sum(v) / len(v):.3f} at {s} ({b:,} labels)" for (b, s), v in sorted(found.items())]


def _elsewhere(records: Sequence[CellRecord], part: str) -> list[str]:
    """Machines or versions that networks were embedded or measured with, where they differ from the training's."""
    joined = (origin[part] for r in records for origin in r.origins.values() if part in origin)
    return sorted({one for text in joined for one in text.split("; ")})
