"""A leaderboard as a page to read in a repository."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench.leaderboard.collate import Row, fits, of_paper
from kdbench.leaderboard.statistics import DESCRIPTIVE_BELOW
from kdbench.rendering.export import Board, first_line, last_line
from kdbench.rendering.tables import (
    Entry,
    Table,
    difference,
    in_percent,
    is_deviation,
    number,
    scheme_labels,
    short,
    source_text,
    tap_tables,
    whole_network_tables,
)
from kdbench.rendering.terminal import effect_text, is_descriptive, missing_text

if TYPE_CHECKING:
    from kdbench.suite.schema import Published


def to_markdown(board: Board) -> str:
    """README.md of a leaderboard. Deterministic; no dates, no paths."""
    sections = [
        _head(board),
        *(_section(t) for t in whole_network_tables(board.rows, board.directions)),
        _differences(board.rows),
        _costs(board.rows),
        *(_section(t) for t in tap_tables(board.rows, board.directions)),
        _unmatched(board),
        _claims(board),
        _failed(board),
        _assumptions(board),
        _rebuild(board),
    ]
    return "\n\n".join(s for s in sections if s) + "\n"


def _head(board: Board) -> str:
    suite, rows = board.suite, board.rows
    title = escaped(suite.title if suite else board.suite_name)
    lines = [f"# {title}: leaderboard at scale {code(board.scale)}"]
    if suite and suite.reference:
        lines.append(f"Reference: {escaped(suite.reference)}")
    folds = sorted({r["n"] for r in rows})
    facts = [
        ("suite, scale", f"{code(board.suite_name)}, {code(board.scale)}"),
        ("dataset", _distinct(rows, "dataset")),
        ("student", _distinct(rows, "student")),
        ("teacher", _distinct(rows, "teacher")),
        ("hardware", _distinct(rows, "hardware")),
        ("kdbench", _distinct(rows, "kdbench_version")),
        ("folds", ", ".join(map(str, folds))),
        ("seeds", ", ".join(map(str, board.seeds)) if len(board.seeds) > 1 else ""),
        ("changed", "; ".join(map(code, board.changes))),
    ]
    lines.append("| | |\n|---|---|\n" + "\n".join(f"| {k} | {_cell(v)} |" for k, v in facts if v))
    how = (
        "Numbers are mean ± standard deviation over folds; bold is the best student of its column. "
        f"{_about_quotes(board)}"
        "Intervals are 95 %, Student's t over folds. "
        "All results, with intervals, stand in [leaderboard.csv](leaderboard.csv) and "
        "[leaderboard.json](leaderboard.json); [index.html](index.html) sorts and filters them."
    )
    if len(board.seeds) > 1:
        how += " Folds of every seed count alike: each is a draw of its own."
    if folds and folds[0] < DESCRIPTIVE_BELOW:
        how += f" Rows of fewer than {DESCRIPTIVE_BELOW} folds are **descriptive only**."
    lines.append(how)
    return "\n\n".join(lines)


def _about_quotes(board: Board) -> str:
    suite = board.suite
    if suite is None or not suite.published:
        return ""
    if any(row["published"] is not None for row in board.rows):
        return (
            "*Italic* numbers are quoted from the paper, not measured here; it may have used other data, "
            "networks and training than this scale does. "
        )
    if suite.published_dataset and not any(of_paper(row["dataset"], suite) for row in board.rows):
        named = escaped(suite.published_dataset)
        return f"The paper's numbers are on {named}: they stand apart, beside none of ours. "
    return ""


def _distinct(rows: Sequence[Row], column: str) -> str:
    """All that stand in a column; what a number has of several machines or versions, each by itself."""
    found = {str(r[column]) for r in rows if r[column]}
    if column in ("hardware", "kdbench_version"):
        found = {one for text in found for one in text.split("; ")}
    return escaped(", ".join(sorted(found)))


def _section(table: Table) -> str:
    unit = " [%]" if table.percent else ""
    header = [*table.labels, *map(escaped, table.columns)]
    spreads = table.spreads("[leaderboard.csv](leaderboard.csv)")
    note = f"\n\n{spreads}" if spreads else ""
    return f"## {escaped(table.title)}{unit}\n\n{_grid(header, _lines(table))}{note}"


def _lines(table: Table) -> list[list[str]]:
    lines = []
    for raw, entries in table.lines:
        labels = [*map(escaped, raw)]
        lines.append([*labels, *(_entry(e) for e in entries)])
        if any(e is not None and e.row["published"] is not None for e in entries):
            names = [*labels[:-1], f"*{labels[-1]}, quoted*"]
            lines.append([*names, *(f"*{e.quoted()}*" if e and e.quoted() else "" for e in entries)])
    return lines


def _entry(entry: Entry | None) -> str:
    if entry is None:
        return "–"
    text = f"**{entry.text()}**" if entry.best else entry.text()
    return f"{text} {entry.failed}" if entry.failed else text


def _differences(rows: Sequence[Row]) -> str:
    """Every scheme against undistilled, whole networks' primary metrics."""
    compared = [r for r in rows if r["primary"] and r["tap"] is None and r["difference"] is not None]
    if not compared:
        return ""
    lines = []
    label_of = scheme_labels(rows)
    for row in compared:
        percent = in_percent(row["metric"])
        lines.append(
            [
                escaped(short(row["metric"])) + (" [%]" if percent else ""),
                str(row["budget"]),
                escaped(label_of(row)),
                difference(row, percent=percent),
                str(row["difference_n"]),
            ]
        )
    header = ["metric", "labels", "scheme", "difference to undistilled", "folds"]
    return f"## Differences to undistilled, paired by fold\n\n{_grid(header, lines)}"


def _costs(rows: Sequence[Row]) -> str:
    """Optimiser steps and images seen of every network, so that schemes can be compared at equal ones."""
    label_of = scheme_labels(rows)
    several = len({r["dataset"] for r in rows}) > 1
    lines: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        known = row["steps"] is not None and row["images_seen"] is not None
        if row["primary"] and row["tap"] is None and known:
            head = [escaped(row["dataset"])] if several else []
            line = [
                *head,
                str(row["budget"]),
                escaped(label_of(row)),
                f"{row['steps']:,}",
                f"{row['images_seen']:,}",
            ]
            lines.setdefault(tuple(line[:-2]), line)
    if not lines:
        return ""
    header = [*(["dataset"] if several else []), "labels", "scheme", "optimiser steps", "images seen"]
    note = "Of one network and fold; an image counts each time that it is seen."
    return f"## Steps and images seen\n\n{note}\n\n{_grid(header, list(lines.values()))}"


def _unmatched(board: Board) -> str:
    """Quoted numbers that stand beside none of ours, in a block of their own."""
    suite = board.suite
    if suite is None:
        return ""
    quoting = [row for row in board.rows if row["published"] is not None]
    left = [p for p in suite.published if not _shown(p, quoting)]
    if not left:
        return ""
    lines = []
    for p in left:
        metric = f"{p.metric}.{p.value_name}"
        percent = in_percent(metric)
        value = number(p.value, p.spread if is_deviation(p.spread_kind) else None, percent=percent)
        source = source_text(p.source, p.spread, p.spread_kind, percent=percent)
        unit = " [%]" if percent else ""
        place = [str(p.budget or ""), *(escaped(v or "") for v in (p.scheme, p.tap, p.reducer))]
        lines.append([escaped(short(metric)) + unit, *place, f"*{value}*", escaped(source)])
    grid = _grid(["metric", "labels", "scheme", "tap", "reducer", "quoted", "where"], lines)
    on = f" on {escaped(suite.published_dataset)}" if suite.published_dataset else ""
    count = f"{len(lines)} quoted number{'s' if len(lines) > 1 else ''} without a run at this scale"
    others = sorted({r["dataset"] for r in board.rows if not of_paper(r["dataset"], suite)})
    note = (
        f"\n\nNot to be compared with the rows above that are of {escaped(', '.join(others))}."
        if others
        else ""
    )
    return (
        f"## Quoted from the paper{on}{note}\n\n<details><summary>{count}</summary>\n\n{grid}\n\n</details>"
    )


def _shown(p: Published, rows: Sequence[Row]) -> bool:
    """Whether a quoted number stands beside a row."""
    return any(
        (row["published_source"], row["published"]) == (p.source, p.value)
        and fits(p, row["metric"], row["budget"], row["scheme"], row["tap"], row["reducer"])
        for row in rows
    )


def _claims(board: Board) -> str:
    if not board.claims:
        return ""
    lines = [
        [
            escaped(f"{v.text} ({v.where})"),
            (f"**{v.verdict}**" if v.verdict == "contradicted" else v.verdict)
            + (" (descriptive)" if is_descriptive(v) else ""),
            effect_text(v),
            str(v.n) if v.n else "",
            f"{sum(c.verdict == 'supported' for c in v.comparisons)} of {len(v.comparisons)}",
            escaped("; ".join(t for t in (v.decisive, missing_text(v)) if t)),
        ]
        for v in board.claims
    ]
    note = (
        "A claim of several comparisons is supported when each is, and contradicted when one is "
        "after Bonferroni's correction; while one is missing, of those that it names or else of all that the "
        "suite has at this scale, it is undecided at best. Effect "
        "and interval are of the comparison that speaks most against the claim. "
        "Claims are hypotheses of the paper, tested on this scale's data."
    )
    if any(map(is_descriptive, board.claims)):
        note += f" Fewer than {DESCRIPTIVE_BELOW} folds describe, they do not conclude."
    header = ["claim", "verdict", "effect (95 %)", "folds", "hold", "shown"]
    return f"## The paper's claims\n\n{_grid(header, lines)}\n\n{note}"


def _failed(board: Board) -> str:
    if not board.failed:
        return ""
    lines = [
        [
            str(c.budget),
            escaped(c.scheme),
            str(c.fold + 1),
            escaped(c.student or c.teacher),
            escaped(first_line(c.error)),
            code(last_line(c.error)),
        ]
        for c in board.failed
    ]
    return (
        f"## Failed cells\n\n{_grid(['labels', 'scheme', 'fold', 'network', 'what failed', 'error'], lines)}"
    )


def _assumptions(board: Board) -> str:
    if board.suite is None or not board.suite.assumptions:
        return ""
    lines = [
        f"- **{escaped(name)}**: {escaped(text)}"
        for name, text in sorted(board.suite.assumptions.items(), key=natural)
    ]
    as_written = (
        "As the suite file has them; what was changed stands at the top.\n\n" if board.changes else ""
    )
    return "## Assumptions where the paper is silent\n\n" + as_written + "\n".join(lines)


def natural(item: tuple[str, str]) -> list:
    """Sort key by name, in which A2 comes before A10."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", item[0])]


def _rebuild(board: Board) -> str:
    given, scale = board.given or board.suite_name, board.scale
    others = [seed for seed in board.seeds if seed != 0]
    runs = [f"kdbench run {given} --scale {scale}"] if len(others) < len(board.seeds) or not others else []
    runs += [f"kdbench run {given} --scale {scale} --seed {seed}" for seed in others]
    changed = "A run needs a `--set` for each change. " if board.changes else ""
    return (
        "## Rebuild\n\n```\n"
        + "\n".join([*runs, f"kdbench leaderboard build {given} --scale {scale}"])
        + f"\n```\n\n{changed}The last command collates the tracking store; the same runs give the same bytes."
    )


def _grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|" + "---|" * len(header)
    rows = ["| " + " | ".join(_cell(c) for c in line) + " |" for line in [header, *lines]]
    return "\n".join([rows[0], rule, *rows[1:]])


_MARKS = re.compile(r"[\\`*<~]|(?<![^\W_])_|_(?![^\W_])")


def escaped(text: str) -> str:
    """A name or a sentence that is no Markdown, as it is to be read: `*x*` would be a quoted number. Underscores
    within a word are none of Markdown's."""
    return _MARKS.sub(r"\\\g<0>", text)


def code(text: str) -> str:
    """`text` between as many backticks as it takes."""
    runs = [len(run) for run in re.findall("`+", text)]
    fence = "`" * (max(runs, default=0) + 1)
    return f"{fence} {text} {fence}" if runs else f"{fence}{text}{fence}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
