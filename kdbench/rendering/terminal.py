"""Leaderboards and verdicts in a terminal, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench.leaderboard.board import Directions
from kdbench.leaderboard.claims import ClaimVerdict
from kdbench.leaderboard.rows import Row
from kdbench.leaderboard.statistics import DESCRIPTIVE_BELOW
from kdbench.rendering.numbers import decimals, fixed, number
from kdbench.rendering.tables import (
    LeaderboardTable,
    NumberCell,
    tap_tables,
    whole_network_tables,
    without_primary,
)
from kdbench.rendering.views import DESCRIPTIVE, claim_view

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table as RichTable

_STYLES = {"supported": "green", "contradicted": "bold red", "undecided": "yellow", "no data": "dim"}


def terminal_table(rows: Sequence[Row], directions: Directions | None = None) -> Group:
    """The primary results as tables: whole networks by scheme and budget, embeddings by tap."""
    from rich.console import Group
    from rich.text import Text

    if not rows:
        return Group(Text("no cell has finished: nothing to rank", style="yellow"))
    tables = [_rich(t) for t in whole_network_tables(rows, directions) + tap_tables(rows, directions)]
    folds = sorted({r.n for r in rows})
    span = str(folds[0]) if len(folds) == 1 else f"{folds[0]} to {folds[-1]}"
    note = f"mean ± standard deviation over {span} fold{'s' if folds[-1] > 1 else ''}"
    if any(r.published is not None for r in rows):
        note += "; (quoted): the paper's"
    if folds[0] < DESCRIPTIVE_BELOW:
        note += f"; {DESCRIPTIVE}"
    absent = without_primary(rows, directions)
    return Group(*tables, Text(note, style="dim"), *([Text(absent, style="yellow")] if absent else []))


def _rich(table: LeaderboardTable) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    title = Text(
        table.title + (" [%]" if table.percent else ""), "bold"
    )  # Text: a label's brackets are no markup
    rich = RichTable(title=title, title_justify="left")
    for label in table.labels:
        rich.add_column(label, justify="right" if label == "labels" else "left", overflow="fold")
    for column in table.columns:
        rich.add_column(column, justify="right")
    before = ""
    for labels, entries in table.lines:
        if len(labels) > 1 and before and labels[0] != before:
            rich.add_section()
        shown = [labels[0] if labels[0] != before else "", *labels[1:]] if len(labels) > 1 else list(labels)
        before = labels[0]
        wide = len(table.columns) > 4
        rich.add_row(*map(Text, shown), *(_cell(entry, wide) for entry in entries))
    return rich


def _cell(entry: NumberCell | None, wide: bool):
    from rich.text import Text

    if entry is None:
        return Text("-", style="dim")
    sd = entry.row.sd
    text = Text(
        number(entry.row.mean, None if wide else sd, percent=entry.percent), "bold" if entry.best else ""
    )
    if wide and sd is not None:  # a second line costs less than columns that no longer fit
        digits = decimals(entry.row.mean, percent=entry.percent)
        text.append(f"\n± {fixed(sd, digits, percent=entry.percent)}", style="dim")
    if entry.failed:
        text.append(f"\n{entry.failed}", style="red")
    if entry.row.published is not None:
        text.append(f"\n({number(entry.row.published, percent=entry.percent)})", style="dim italic")
    return text


def claims_table(verdicts: Sequence[ClaimVerdict]) -> RichTable:
    """One line a claim: verdict, effect with interval, the sentence and where the paper says it."""
    from rich.table import Table as RichTable
    from rich.text import Text

    claims = [claim_view(v) for v in verdicts]
    rich = RichTable(title="claims", title_justify="left", title_style="bold")
    rich.add_column("claim", overflow="fold", ratio=5)
    rich.add_column("verdict", no_wrap=True)
    rich.add_column("effect (95 %)", overflow="fold", ratio=3)
    rich.add_column("folds", justify="right")
    for claim, verdict in zip(claims, verdicts, strict=True):
        text = Text(claim.text)
        text.append(f" ({claim.where})", style="dim")
        effect = Text(claim.effect)
        if len(verdict.comparisons) > 1:
            effect.append(f"\n{claim.held} comparisons hold; shown: {claim.shown}", style="dim")
        elif verdict.missing:
            effect.append(f"{chr(10) if effect.plain else ''}{claim.shown}", style="dim")
        mark = Text(claim.verdict, style=_STYLES[claim.verdict])
        if claim.descriptive:
            mark.append("\n(descriptive)", style="dim")
        rich.add_row(text, mark, effect, claim.folds)
    if any(claim.descriptive for claim in claims):
        rich.caption = DESCRIPTIVE
        rich.caption_justify = "left"
    return rich
