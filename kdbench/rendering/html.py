"""A leaderboard as one self-contained page that sorts and filters, with nothing to load from anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from kdbench.leaderboard.collate import Row
from kdbench.rendering.export import Board, first_line, last_line, rounded
from kdbench.rendering.markdown import natural
from kdbench.rendering.tables import Table, tap_tables, whole_network_tables
from kdbench.rendering.terminal import effect_text, is_descriptive, missing_text

_FILTERS = ("metric", "scheme", "budget", "tap", "reducer", "dataset")
_SHOWN = (
    "metric", "scheme", "budget", "tap", "reducer", "setting", "mean", "ci_low", "ci_high", "n", "difference",
    "difference_low", "difference_high", "published", "published_source", "published_spread",
    "published_spread_kind", "student", "teacher", "dataset",
    "steps", "images_seen", "variant", "failed", "hardware", "kdbench_version",
)  # fmt: skip
_NUMBERS = frozenset(
    {"budget", "mean", "ci_low", "ci_high", "n", "difference", "difference_low", "difference_high",
     "published", "published_spread", "failed", "steps", "images_seen"}
)  # fmt: skip


def to_html(board: Board) -> str:
    """index.html of a leaderboard. Deterministic; works from a file, offline; without a script, unsorted."""
    suite = board.suite
    title = escape(suite.title if suite else board.suite_name)
    reference = suite.reference if suite else ""
    tables = whole_network_tables(board.rows, board.directions) + tap_tables(board.rows, board.directions)
    parts = [
        f"<h1>{title}</h1>",
        f"<p class=sub>leaderboard of <code>{escape(board.suite_name)}</code> at scale "
        f"<code>{escape(board.scale)}</code>{f' · {escape(reference)}' if reference else ''}</p>",
        "<p>Mean ± standard deviation over folds; bold: best student of its column; <i>italic</i>: quoted "
        "from the paper, not measured here. Fewer than five folds are descriptive only.</p>",
        _changes(board),
        *(_table(t) for t in tables),
        _claims(board),
        _failed(board),
        _assumptions(board),
        "<h2>All results</h2>",
        _filters(board.rows),
        _all(board.rows),
    ]
    body = "\n".join(p for p in parts if p)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_CSS}</style>\n</head>\n<body>\n{body}\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _changes(board: Board) -> str:
    if not board.changes:
        return ""
    changes = "; ".join(f"<code>{escape(c)}</code>" for c in board.changes)
    return f"<p>Otherwise than the suite file says: {changes}</p>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in (*table.labels, *table.columns))
    lines = []
    for labels, entries in table.lines:
        cells = "".join(f"<td class=l>{escape(label)}</td>" for label in labels)
        for e in entries:
            if e is None:
                cells += "<td>–</td>"
                continue
            text = f"<b>{escape(e.text())}</b>" if e.best else escape(e.text())
            text += f" {e.failed}" if e.failed else ""
            if e.quoted():
                source = escape(e.source, quote=True)
                text += f"<br><i title='{source}'>{escape(e.quoted())}</i>"
            cells += f"<td title='{_interval(e.row)}'>{text}</td>"
        lines.append(f"<tr>{cells}</tr>")
    unit = " [%]" if table.percent else ""
    spreads = table.spreads("their tooltips")
    return (
        f"<h2>{escape(table.title)}{unit}</h2>\n"
        f"<div class=wide><table><thead><tr>{head}</tr></thead>\n<tbody>"
        + "\n".join(lines)
        + "</tbody></table></div>"
        + (f"\n<p><small>{escape(spreads)}</small></p>" if spreads else "")
    )


def _interval(row: Row) -> str:
    if row["ci_low"] is None:
        return f"n = {row['n']}"
    return f"n = {row['n']}, 95 %: {_text(row['ci_low'])} to {_text(row['ci_high'])}"


def _claims(board: Board) -> str:
    if not board.claims:
        return ""
    lines = []
    for v in board.claims:
        kind = v.verdict.replace(" ", "-")
        held = f"{sum(c.verdict == 'supported' for c in v.comparisons)} of {len(v.comparisons)}"
        shown = "; ".join(t for t in (v.decisive, missing_text(v)) if t)
        few = " <small>descriptive</small>" if is_descriptive(v) else ""
        lines.append(
            f"<tr><td class=l>{escape(v.text)} <small>({escape(v.where)})</small></td>"
            f"<td><span class='v {kind}'>{v.verdict}</span>{few}</td><td>{escape(effect_text(v))}</td>"
            f"<td>{v.n or ''}</td><td>{held}</td><td class=l><small>{escape(shown)}</small></td></tr>"
        )
    names = ("claim", "verdict", "effect (95 %)", "folds", "hold", "shown")
    head = "".join(f"<th{' class=l' if h == 'shown' else ''}>{h}</th>" for h in names)
    return (
        f"<h2>The paper's claims</h2>\n<div class=wide><table><thead><tr>{head}</tr></thead>\n<tbody>"
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def _failed(board: Board) -> str:
    if not board.failed:
        return ""
    items = "".join(
        f"<li>{c.budget} labels · fold {c.fold + 1} · {escape(c.scheme)}: {escape(first_line(c.error))} "
        f"<code>{escape(last_line(c.error))}</code></li>"
        for c in board.failed
    )
    return f"<h2>Failed cells</h2>\n<ul>{items}</ul>"


def _assumptions(board: Board) -> str:
    if board.suite is None or not board.suite.assumptions:
        return ""
    named = sorted(board.suite.assumptions.items(), key=natural)
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in named)
    return f"<h2>Assumptions where the paper is silent</h2>\n<dl>{items}</dl>"


def _filters(rows: Sequence[Row]) -> str:
    selects = []
    for column in _FILTERS:
        values = sorted({r[column] for r in rows if r[column] is not None})
        if len(values) < 2:
            continue
        options = "".join(f"<option>{escape(str(v))}</option>" for v in values)
        name = "labels" if column == "budget" else column
        selects.append(
            f"<label>{name} <select data-column='{_SHOWN.index(column)}'><option value=''>all</option>"
            f"{options}</select></label>"
        )
    return f"<form id=filters onsubmit='return false'>{' '.join(selects)} <span id=count></span></form>"


def _all(rows: Sequence[Row]) -> str:
    head = "".join(
        f"<th aria-sort=none><button>{'labels' if c == 'budget' else c}</button></th>" for c in _SHOWN
    )
    lines = []
    for row in rows:
        cells = "".join(
            f"<td{'' if c in _NUMBERS else ' class=l'}>{escape(_text(row[c]))}</td>" for c in _SHOWN
        )
        lines.append(f"<tr{' class=d' if row['descriptive'] else ''}>{cells}</tr>")
    return (
        f"<div class=wide><table id=all><thead><tr>{head}</tr></thead>\n<tbody>"
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{rounded(value):.4g}" if math.isfinite(value) else str(value)
    return str(value)


_CSS = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--dim:#777}
body{font:15px/1.45 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}h2{margin:2rem 0 .5rem;font-size:1.15rem}.sub,small,i{color:var(--dim)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;
  vertical-align:top}
thead th{background:var(--soft);border-bottom:2px solid var(--line)}.l,th:first-child{text-align:left}
td.l{white-space:normal;max-width:34rem}td.l:first-child{min-width:20rem}
th button{font:inherit;font-weight:600;border:0;background:none;color:inherit;cursor:pointer;padding:0}
th[aria-sort=ascending] button::after{content:" ▲"}th[aria-sort=descending] button::after{content:" ▼"}
tr.d td{color:var(--dim)}tbody tr:hover{background:var(--soft)}
form{margin:.5rem 0 1rem;display:flex;flex-wrap:wrap;gap:.8rem;align-items:baseline}
.v{padding:0 .5rem;border-radius:.6rem;border:1px solid}.supported{color:#1a7f37}.contradicted{color:#cf222e}
.undecided{color:#9a6700}.no-data{color:var(--dim)}dt{font-weight:600}dd{margin:0 0 .5rem 1.5rem}
"""

_SCRIPT = """
const table = document.getElementById('all'), body = table.tBodies[0];
const rows = Array.from(body.rows), heads = Array.from(table.tHead.rows[0].cells);
const selects = Array.from(document.querySelectorAll('#filters select'));
const value = (row, i) => row.cells[i].textContent;
function filter() {
  let shown = 0;
  for (const row of rows) {
    row.hidden = selects.some(s => s.value && value(row, +s.dataset.column) !== s.value);
    shown += !row.hidden;
  }
  document.getElementById('count').textContent = shown + ' of ' + rows.length + ' rows';
  history.replaceState(null, '', '#' + selects.map(s => encodeURIComponent(s.value)).join('&'));
}
function compare(a, b) {
  if (a === b) return 0;
  if (a === '') return 1;
  if (b === '') return -1;
  const x = Number(a), y = Number(b);
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}
heads.forEach((head, i) => head.firstChild.addEventListener('click', () => {
  const up = head.getAttribute('aria-sort') !== 'ascending';
  heads.forEach(h => h.setAttribute('aria-sort', 'none'));
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  rows.sort((a, b) => {
    const x = value(a, i), y = value(b, i);
    return x === '' || y === '' ? compare(x, y) : (up ? 1 : -1) * compare(x, y);
  });
  body.append(...rows);
}));
const wanted = location.hash.slice(1).split('&').map(decodeURIComponent);
selects.forEach((s, i) => {
  if (Array.from(s.options).some(o => o.value === wanted[i])) s.value = wanted[i];
  s.addEventListener('change', filter);
});
filter();
"""
