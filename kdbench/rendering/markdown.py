"""A leaderboard as a Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench.leaderboard.board import Board
from kdbench.leaderboard.collate import fits, of_paper
from kdbench.leaderboard.rows import Row
from kdbench.leaderboard.statistics import DESCRIPTIVE_BELOW
from kdbench.rendering.environment import code, markdown, markdown_environment
from kdbench.rendering.numbers import number
from kdbench.rendering.tables import (
    LeaderboardTable,
    NumberCell,
    in_percent,
    is_deviation,
    short,
    source_text,
    tap_tables,
    whole_network_tables,
    without_primary,
)
from kdbench.rendering.views import (
    ClaimView,
    assumptions,
    claim_view,
    costs,
    differences,
    distinct,
    failure_view,
)

if TYPE_CHECKING:
    from kdbench.suite.schema import Published


def to_markdown(board: Board) -> str:
    """README.md of a leaderboard. The same cells give the same text; no dates, no paths."""
    suite, rows = board.suite, board.rows
    claims = [claim_view(v) for v in board.claims]
    cost_header, cost_lines = costs(rows)
    unmatched = _unmatched(board)
    others = sorted({r.dataset for r in rows if suite and not of_paper(r.dataset, suite)})
    text = markdown_environment().get_template("leaderboard.md.j2").render(
        board=board,
        title=suite.title if suite else board.suite_name,
        reference=suite.reference if suite else "",
        facts=_facts(board),
        notes=_notes(board),
        network_tables=[_table(t) for t in whole_network_tables(rows, board.directions)],
        tap_tables=[_table(t) for t in tap_tables(rows, board.directions)],
        differences=[[markdown(part) for part in line] for line in differences(rows)],
        cost_header=cost_header,
        costs=[[markdown(part) for part in line] for line in cost_lines],
        unmatched=unmatched,
        unmatched_on=f" on {markdown(suite.published_dataset)}" if suite and suite.published_dataset else "",
        unmatched_note=f"Not comparable with the rows above that are of {markdown(', '.join(others))}."
        if others
        else "",
        claims=[_claim(c) for c in claims],
        descriptive_claims=any(c.descriptive for c in claims),
        descriptive_below=DESCRIPTIVE_BELOW,
        failed=[_failure(f) for f in map(failure_view, board.failed)],
        assumptions=assumptions(suite.assumptions) if suite else [],
        commands=_commands(board),
    )  # fmt: skip
    return text.rstrip() + "\n"


def _facts(board: Board) -> list[tuple[str, str]]:
    rows = board.rows
    folds = sorted({r.n for r in rows})
    columns = [
        ("dataset", "dataset"),
        ("student", "student"),
        ("teacher", "teacher"),
        ("hardware", "hardware"),
    ]
    return [
        ("suite, scale", f"{code(board.suite_name)}, {code(board.scale)}"),
        *((name, markdown(distinct(rows, column))) for name, column in columns),
        ("kdbench", markdown(distinct(rows, "kdbench_version"))),
        ("folds", ", ".join(map(str, folds))),
        ("seeds", ", ".join(map(str, board.seeds)) if len(board.seeds) > 1 else ""),
        ("overrides", "; ".join(map(code, board.changes))),
    ]


def _notes(board: Board) -> list[str]:
    suite, rows = board.suite, board.rows
    notes = ["Numbers are mean ± standard deviation over folds; bold is the best student of its column."]
    if suite is not None and suite.published:
        if any(row.published is not None for row in rows):
            notes.append(
                "*Italic* numbers are quoted from the paper, not measured here; it may have used other data, "
                "networks and training than this scale does."
            )
        elif suite.published_dataset and not any(of_paper(row.dataset, suite) for row in rows):
            notes.append(
                f"The paper's numbers are on {markdown(suite.published_dataset)} and are listed separately."
            )
    notes.append(
        "Intervals are 95 %, Student's t over folds. All results, with intervals, are in "
        "[leaderboard.csv](leaderboard.csv) and [leaderboard.json](leaderboard.json); "
        "[index.html](index.html) sorts and filters them."
    )
    if len(board.seeds) > 1:
        notes.append("Folds of every seed count alike: each is a separate draw.")
    if any(row.descriptive for row in rows):
        notes.append(f"Rows of fewer than {DESCRIPTIVE_BELOW} folds are **descriptive only**.")
    if absent := without_primary(rows, board.directions):
        notes.append(markdown(absent))
    return notes


def _table(table: LeaderboardTable) -> str:
    lines = []
    for raw, entries in table.lines:
        labels = [*map(markdown, raw)]
        lines.append([*labels, *map(_entry, entries)])
        if any(e is not None and e.row.published is not None for e in entries):
            names = [*labels[:-1], f"*{labels[-1]}, quoted*"]
            lines.append([*names, *(f"*{e.quoted()}*" if e and e.quoted() else "" for e in entries)])
    return markdown_environment().get_template("table.md.j2").render(
        table=table,
        header=[*table.labels, *map(markdown, table.columns)],
        lines=lines,
        spreads=table.spreads("[leaderboard.csv](leaderboard.csv)"),
    )  # fmt: skip


def _entry(entry: NumberCell | None) -> str:
    if entry is None:
        return "–"
    text = f"**{entry.text()}**" if entry.best else entry.text()
    return f"{text} {entry.failed}" if entry.failed else text


def _claim(c: ClaimView) -> list[str]:
    verdict = f"**{c.verdict}**" if c.verdict == "contradicted" else c.verdict
    verdict += " (descriptive)" if c.descriptive else ""
    return [markdown(f"{c.text} ({c.where})"), verdict, c.effect, c.folds, c.held, markdown(c.shown)]


def _failure(f) -> list[str]:
    return [
        str(f.budget),
        markdown(f.scheme),
        str(f.fold),
        markdown(f.network),
        markdown(f.stage),
        code(f.error),
    ]


def _unmatched(board: Board) -> list[list[str]]:
    """Quoted numbers that are not shown next to a row."""
    if board.suite is None:
        return []
    quoting = [row for row in board.rows if row.published is not None]
    lines = []
    for p in board.suite.published:
        if _is_shown(p, quoting):
            continue
        metric = f"{p.metric}.{p.value_name}"
        percent = in_percent(metric)
        value = number(p.value, p.spread if is_deviation(p.spread_kind) else None, percent=percent)
        source = source_text(p.source, p.spread, p.spread_kind, percent=percent)
        name = markdown(short(metric)) + (" [%]" if percent else "")
        position = [str(p.budget or ""), *(markdown(v or "") for v in (p.scheme, p.tap, p.reducer))]
        lines.append([name, *position, f"*{value}*", markdown(source)])
    return lines


def _is_shown(p: Published, rows: Sequence[Row]) -> bool:
    return any(
        (row.published_source, row.published) == (p.source, p.value)
        and fits(p, row.metric, row.budget, row.scheme, row.tap, row.reducer)
        for row in rows
    )


def _commands(board: Board) -> list[str]:
    given, scale = board.given or board.suite_name, board.scale
    others = [seed for seed in board.seeds if seed != 0]
    runs = [f"kdbench run {given} --scale {scale}"] if len(others) < len(board.seeds) or not others else []
    runs += [f"kdbench run {given} --scale {scale} --seed {seed}" for seed in others]
    return [*runs, f"kdbench leaderboard build {given} --scale {scale}"]
