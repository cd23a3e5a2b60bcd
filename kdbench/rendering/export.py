"""Leaderboards as csv, json and LaTeX. The same cells give the same bytes: sorted, rounded, without dates."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from kdbench.api.records import CellRecord
from kdbench.leaderboard.board import Board
from kdbench.leaderboard.collate import COLUMNS, Row
from kdbench.rendering.tables import Table, whole_network_tables

DIGITS = 6


def rounded(value: Any) -> Any:
    """Floats to six significant digits, wherever they stand; "nan", "inf" and "-inf" for those that JSON has no
    number for: null says that there is nothing, and these are something."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return float(f"{value:.{DIGITS}g}") + 0.0  # no negative zero
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return value


def to_csv(rows: Sequence[Row]) -> str:
    """One line a row, columns as in `COLUMNS`; empty where there is nothing, "nan" where a number is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_csv_value(row[c]) for c in COLUMNS])
    return out.getvalue()


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(rounded(value)) if math.isfinite(value) else rounded(value)
    return value


def to_json(board: Board) -> str:
    """Strict JSON; null where there is nothing, the text "nan" where a number is none (see `rounded`)."""
    data: dict[str, Any] = {
        "suite": board.suite_name,
        "scale": board.scale,
        "title": board.suite.title if board.suite else "",
        "reference": board.suite.reference if board.suite else "",
        "changes": list(board.changes),
        "seeds": list(board.seeds),
        "columns": list(COLUMNS),
        "rows": [],
        "claims": [v.to_json() for v in board.claims],
        "failed": [_failed(c) for c in board.failed],
        "assumptions": dict(sorted(board.suite.assumptions.items())) if board.suite else {},
    }
    text = json.dumps(rounded(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if not board.rows:
        return text
    rows = ",\n".join(_indented_row(rounded(row)) for row in board.rows)
    return text.replace('\n "rows": []', f'\n "rows": [\n{rows}\n ]', 1)


def _indented_row(row: Row) -> str:
    """A flat row as `json.dumps(..., indent=1)` writes it two levels down; its encoder for indented text is slow,
    and rows are nearly all of the file."""
    flat = json.dumps(row, separators=(",\n   ", ": "), ensure_ascii=False, allow_nan=False)
    return f"  {{\n   {flat[1:-1]}\n  }}"


def _failed(cell: CellRecord) -> dict[str, Any]:
    return {
        "dataset": cell.dataset, "budget": cell.budget, "scheme": cell.scheme, "fold": cell.fold,
        "seed": cell.seed, "student": cell.student, "teacher": cell.teacher, "error": last_line(cell.error),
    }  # fmt: skip


def first_line(error: str) -> str:
    """The stage that failed, where the error begins with its title."""
    first, _, rest = error.strip().partition("\n")
    return first if rest and not first.startswith("Traceback") else ""


def last_line(error: str) -> str:
    """What a traceback says in the end, without the paths above it."""
    lines = [line for line in error.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


def to_tex(board: Board) -> str:
    """The tables of whole networks for a paper that uses booktabs; quoted numbers in italics below ours."""
    parts = [f"% kdbench: {board.suite_name} at scale {board.scale}; needs \\usepackage{{booktabs}}"]
    parts += [_tex_table(t) for t in whole_network_tables(board.rows, board.directions)]
    return "\n\n".join(parts) + "\n"


def _tex_table(table: Table) -> str:
    lines = [
        rf"% {table.title}: mean $\pm$ standard deviation over folds"
        + (", percent" if table.percent else ""),
        *([f"% {spreads}"] if (spreads := table.spreads("leaderboard.csv")) else []),
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["", *(_tex(c) for c in table.columns)]) + r" \\",
        r"\midrule",
    ]
    for labels, entries in table.lines:
        ours = []
        for e in entries:
            text = f"${e.text(chr(92) + 'pm')}$" if e else "--"
            text = rf"\boldmath{text}" if e and e.best else text
            ours.append(rf"{text} \footnotesize{e.failed}" if e and e.failed else text)
        lines.append(" & ".join([_tex(labels[-1]), *ours]) + r" \\")
        if any(e and e.row["published"] is not None for e in entries):
            quoted = [
                rf"\textit{{{e.quoted(chr(36) + chr(92) + 'pm' + chr(36))}}}" if e and e.quoted() else ""
                for e in entries
            ]
            lines.append(" & ".join([r"\quad\textit{quoted}", *quoted]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}",
    }  # fmt: skip
    return "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in text)
