"""Leaderboards as CSV, JSON and LaTeX. The same cells give the same bytes: sorted, rounded, without dates."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from kdbench.api.records import CellRecord
from kdbench.leaderboard.board import Board
from kdbench.leaderboard.rows import COLUMNS, Row
from kdbench.rendering.environment import tex_environment
from kdbench.rendering.tables import NumberCell, whole_network_tables
from kdbench.rendering.views import failure_view

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
        writer.writerow([_csv_value(value) for value in row.to_dict().values()])
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
        "rows": [row.to_dict() for row in board.rows],
        "claims": [v.to_json() for v in board.claims],
        "failed": [_failed(c) for c in board.failed],
        "assumptions": dict(sorted(board.suite.assumptions.items())) if board.suite else {},
    }
    return json.dumps(rounded(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _failed(cell: CellRecord) -> dict[str, Any]:
    return {
        "dataset": cell.dataset, "budget": cell.budget, "scheme": cell.scheme, "fold": cell.fold,
        "seed": cell.seed, "student": cell.student, "teacher": cell.teacher, "error": failure_view(cell).error,
    }  # fmt: skip


def to_tex(board: Board) -> str:
    """The tables of whole networks for a paper that uses booktabs; quoted numbers in italics below ours."""
    template = tex_environment().get_template("leaderboard.tex.j2")
    tables = whole_network_tables(board.rows, board.directions)
    return template.render(board=board, tables=tables, number=_tex_number, quoted=_tex_quoted)


def _tex_number(entry: NumberCell | None) -> str:
    if entry is None:
        return "--"
    bold = r"\boldmath" if entry.best else ""
    failed = rf" \footnotesize{entry.failed}" if entry.failed else ""
    return f"{bold}${entry.text(chr(92) + 'pm')}${failed}"


def _tex_quoted(entry: NumberCell | None) -> str:
    quoted = entry.quoted(r"$\pm$") if entry is not None else ""
    return rf"\textit{{{quoted}}}" if quoted else ""
