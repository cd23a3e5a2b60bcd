"""A leaderboard as one self-contained HTML page that sorts and filters offline."""

from __future__ import annotations

from typing import Any

from kdbench.leaderboard.board import Board
from kdbench.leaderboard.rows import Row
from kdbench.leaderboard.statistics import DESCRIPTIVE_BELOW
from kdbench.rendering.environment import asset, html_environment
from kdbench.rendering.numbers import significant
from kdbench.rendering.tables import tap_tables, whole_network_tables
from kdbench.rendering.views import assumptions, claim_view, failure_view

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
    """index.html of a leaderboard. The same cells give the same text; without a script the table is unsorted."""
    suite = board.suite
    return (
        html_environment()
        .get_template("leaderboard.html.j2")
        .render(
            interval=_interval,
            plain=plain,
            board=board,
            title=suite.title if suite else board.suite_name,
            reference=suite.reference if suite else "",
            tables=whole_network_tables(board.rows, board.directions)
            + tap_tables(board.rows, board.directions),
            claims=[claim_view(v) for v in board.claims],
            failed=[failure_view(c) for c in board.failed],
            assumptions=assumptions(suite.assumptions) if suite else [],
            filters=list(_filters(board)),
            columns=[_heading(c) for c in _SHOWN],
            shown=[(c, c in _NUMBERS) for c in _SHOWN],
            descriptive_below=DESCRIPTIVE_BELOW,
            css=asset("leaderboard.css"),
            script=asset("leaderboard.js"),
        )
    )


def _filters(board: Board):
    for column in _FILTERS:
        values = sorted({getattr(r, column) for r in board.rows if getattr(r, column) is not None})
        if len(values) > 1:
            yield _heading(column), _SHOWN.index(column), [str(v) for v in values]


def _heading(column: str) -> str:
    return "labels" if column == "budget" else column


def _interval(row: Row) -> str:
    if row.ci_low is None:
        return f"n = {row.n}"
    return f"n = {row.n}, 95 %: {plain(row.ci_low)} to {plain(row.ci_high)}"


def plain(value: Any) -> str:
    """A value of a row for a cell; floats with four significant digits."""
    if value is None:
        return ""
    return significant(value) if isinstance(value, float) else str(value)
