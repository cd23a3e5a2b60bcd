"""The page: one HTML file with everything inlined, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

from kdbench.report import tables
from kdbench.report.metric_figures import Gallery
from kdbench.report.selection import Missing
from kdbench.report.style import Drawing, inlined

if TYPE_CHECKING:
    from kdbench.api import CellRecord
    from kdbench.suite.schema import Suite

_CSS = """
:root { color-scheme: light dark; --ink: #1b1c1e; --dim: #5d636c; --paper: #ffffff; --grid: #dfe1e5;
  --panel: #f5f6f8; --good: #1f7a4d; --bad: #b3401a; --link: #0b61a4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e8ea; --dim: #a0a6af; --paper: #16181b;
  --grid: #363a41; --panel: #1f2226; --good: #5cc08f; --bad: #f08a5d; --link: #6fb6ec; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .5rem; }
p { margin: .4rem 0; max-width: 46rem; }
.dim, figcaption, .caption { color: var(--dim); font-size: .88rem; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: 1.2rem 0;
  padding: .8rem 1rem; background: var(--panel); border-radius: 6px; font-size: .92rem; }
dl.facts dt { color: var(--dim); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
dl.assumed dt { font-weight: 600; margin-top: .5rem; } dl.assumed dd { margin: 0 0 0 1.2rem; }
figure { margin: .6rem 0 0; } figure svg { max-width: 100%; height: auto; display: block; }
figcaption, .caption { max-width: 46rem; margin-top: .4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--grid);
  vertical-align: top; white-space: nowrap; }
thead th { color: var(--dim); font-weight: 600; border-bottom-color: var(--dim); }
th:first-child, td:first-child, th[scope=row] { text-align: left; } th[scope=row], th[scope=rowgroup] {
  font-weight: 500; } th.text, td.text { white-space: normal; text-align: left; } td.text { min-width: 18rem; }
.rows td, .rows th { text-align: left; font-size: .8rem; padding-right: .6rem; }
i.quoted { color: var(--dim); font-size: .85rem; }
.verdict { font-weight: 600; } .verdict.supported { color: var(--good); }
.verdict.contradicted { color: var(--bad); } .verdict.no-data { color: var(--dim); font-weight: 400; }
summary { cursor: pointer; } details { margin: .4rem 0; }
pre { overflow-x: auto; background: var(--panel); padding: .8rem; border-radius: 6px; font-size: .8rem; }
.failed { color: var(--bad); font-weight: 600; }
a { color: var(--link); }
@media print { details { display: block; } main { max-width: none; } }
"""

Item: TypeAlias = Drawing | Gallery | tables.Table | Missing


def page(
    items: Sequence[Item],
    *,
    suite: Suite,
    records: Sequence[CellRecord],
    leaderboard_rows: Sequence[Mapping[str, Any]],
    claims: Sequence[Mapping[str, Any]],
    changes: Sequence[str] = (),
) -> str:
    """The whole HTML document."""
    title = escape(f"{suite.title} · {suite.scale}" if suite.scale else suite.title)
    parts = [f"<h1>{escape(suite.title)}</h1>"]
    parts += [f"<p>{escape(t)}</p>" for t in (suite.summary, suite.reference) if t]
    parts.append(_facts(records, suite, changes))
    failed = [r for r in records if r.status == "failed"]
    if failed:
        parts.append(
            f'<p class="failed">{_cells(len(failed))} failed; <a href="#failed">what happened</a>.</p>'
        )
    if claims:
        whose = "The paper's claims" if suite.published else "Claims"
        parts += [f"<h2>{whose}, against these records</h2>", tables.claims(claims)]
    parts += [_item(item) for item in items if not isinstance(item, Missing)]
    parts += _missing([item for item in items if isinstance(item, Missing)])
    if leaderboard_rows:
        inside = tables.leaderboard(leaderboard_rows)
        parts.append(
            '<h2>All results</h2><details class="rows">'
            f"<summary>Rows of the leaderboard: {len(leaderboard_rows)}</summary>{inside}</details>"
        )
    if suite.assumptions:
        inside = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in suite.assumptions.items())
        parts.append(
            f"<h2>Assumptions</h2><p>What {'the paper does not say and ' * bool(suite.published)}this suite had to "
            "choose.</p>"
            f'<dl class="assumed">{inside}</dl>'
        )
    if failed:
        parts.append('<h2 id="failed">Failed cells</h2>')
        parts += [_failure(r) for r in failed]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_CSS}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def _facts(records: Sequence[CellRecord], suite: Suite, changes: Sequence[str]) -> str:
    done = [r for r in records if r.status == "finished"]
    cells = f"{_cells(len(done))} finished"
    if len(done) < len(records):
        cells += f", {len(records) - len(done)} failed"
    versions = (f"{k} {v}" for r in records for k, v in r.versions.items() if k == "kdbench")
    facts = {
        "Scale": [suite.scale],
        "Dataset": [r.dataset for r in records],
        "Labels": [f"{b:,}" for b in sorted({r.budget for r in records})],
        "Folds": [str(len({r.fold for r in records}))] if records else [],
        "Student": [r.student for r in records],
        "Teacher": [r.teacher for r in records],
        "Teacher's confidence": confidence(done),
        "Cells": [cells],
        "Work": [_duration(sum(r.seconds for r in records))] if records else [],
        "Hardware": [_hardware(r.hardware) for r in records] + _elsewhere(records, "hardware"),
        "Version": [*versions, *(f"kdbench {v}" for v in _elsewhere(records, "kdbench"))],
        "Changed": changes,
    }
    lines = []
    for name, values in facts.items():
        shown = list(dict.fromkeys(v for v in values if v))
        if shown:
            lines.append(f"<dt>{name}</dt><dd>{escape(', '.join(shown))}</dd>")
    return f'<dl class="facts">{"".join(lines)}</dl>'


def confidence(records: Sequence[CellRecord]) -> list[str]:
    """Mean of the teacher's top probability at the scheme's temperature, by budget; low: it says little."""
    found: dict[tuple[int, str], list[float]] = {}
    for record in records:
        for r in record.results:
            if (r.metric, r.value_name) == ("teacher-confidence", "top_probability"):
                found.setdefault((record.budget, r.setting), []).append(r.value)
    return [f"{sum(v) / len(v):.3f} at {s} ({b:,} labels)" for (b, s), v in sorted(found.items())]


def _item(item: Drawing | Gallery | tables.Table) -> str:
    heading = f"<h2>{escape(item.title)}</h2>"
    if isinstance(item, Drawing):
        image = inlined(item.svg, item.name, escape(item.title, quote=True))
        return f"{heading}<figure>{image}<figcaption>{escape(item.caption)}</figcaption></figure>"
    if isinstance(item, Gallery):
        shown = []
        for d in item.drawings:
            image = inlined(d.svg, d.name, escape(f"{item.title}: {d.caption}", quote=True), ours=False)
            shown.append(f"<figure>{image}<figcaption>{escape(d.caption)}</figcaption></figure>")
        return heading + "".join(shown)
    return f'{heading}{item.html}<p class="caption">{item.caption}</p>'


def _missing(items: Sequence[Missing]) -> list[str]:
    if not items:
        return []
    lines = "".join(f"<li>{escape(m.title)}: {escape(m.reason)}.</li>" for m in items)
    return [f"<h2>Not drawn</h2><ul>{lines}</ul>"]


def _failure(record: CellRecord) -> str:
    lines = record.error.strip().splitlines()
    where = f"{record.budget:,} labels · fold {record.fold + 1} · {record.scheme}"
    last = escape(lines[-1]) if lines else "no traceback was recorded"
    head = f"<summary>{escape(where)}: {last}</summary>"
    return f"<details>{head}<pre>{escape(record.error.strip())}</pre></details>"


def _hardware(hardware: Mapping[str, Any]) -> str:
    if hardware.get("label"):
        return str(hardware["label"])
    return " ".join(str(hardware[k]) for k in ("cpu", "device", "precision") if hardware.get(k))


def _elsewhere(records: Sequence[CellRecord], part: str) -> list[str]:
    """Machines or versions that networks were embedded or measured with, training aside."""
    joined = (origin[part] for r in records for origin in r.origins.values() if part in origin)
    return sorted({one for text in joined for one in text.split("; ")})


def _cells(n: int) -> str:
    return f"{n} cell" if n == 1 else f"{n} cells"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
