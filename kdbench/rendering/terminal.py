"""Leaderboards and verdicts in a terminal, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench.leaderboard.board import Directions
from kdbench.leaderboard.claims import ClaimVerdict
from kdbench.leaderboard.collate import Row
from kdbench.leaderboard.statistics import DESCRIPTIVE_BELOW
from kdbench.rendering.tables import Entry, Table, number, tap_tables, whole_network_tables

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
    folds = sorted({r["n"] for r in rows})
    span = str(folds[0]) if len(folds) == 1 else f"{folds[0]} to {folds[-1]}"
    note = f"mean ± standard deviation over {span} fold{'s' if folds[-1] > 1 else ''}"
    if any(r["published"] is not None for r in rows):
        note += "; (quoted): the paper's"
    if folds[0] < DESCRIPTIVE_BELOW:
        note += f"; fewer than {DESCRIPTIVE_BELOW} folds describe, they do not conclude"
    return Group(*tables, Text(note, style="dim"))


def _rich(table: Table) -> RichTable:
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


def _cell(entry: Entry | None, wide: bool):
    from rich.text import Text

    if entry is None:
        return Text("-", style="dim")
    sd = entry.row["sd"]
    text = Text(
        number(entry.row["mean"], None if wide else sd, percent=entry.percent), "bold" if entry.best else ""
    )
    if wide and sd is not None:  # a second line costs less than columns that no longer fit
        spread = f"{sd * 100:.2f}" if entry.percent else f"{sd:.3f}"
        text.append(f"\n± {spread}", style="dim")
    if entry.failed:
        text.append(f"\n{entry.failed}", style="red")
    if entry.row["published"] is not None:
        text.append(f"\n({number(entry.row['published'], percent=entry.percent)})", style="dim italic")
    return text


def claims_table(verdicts: Sequence[ClaimVerdict]) -> RichTable:
    """One line a claim: verdict, effect with interval, the sentence and where it stands. A verdict that rests on
    fewer than five folds says so."""
    from rich.table import Table as RichTable
    from rich.text import Text

    rich = RichTable(title="claims", title_justify="left", title_style="bold")
    rich.add_column("claim", overflow="fold", ratio=5)
    rich.add_column("verdict", no_wrap=True)
    rich.add_column("effect (95 %)", overflow="fold", ratio=3)
    rich.add_column("folds", justify="right")
    for v in verdicts:
        claim = Text(v.text)
        claim.append(f" ({v.where})", style="dim")
        effect = Text(effect_text(v))
        if len(v.comparisons) > 1:
            held = sum(c.verdict == "supported" for c in v.comparisons)
            effect.append(
                f"\n{held} of {len(v.comparisons)} comparisons hold; shown: {v.decisive}", style="dim"
            )
        if v.missing:
            effect.append(f"{chr(10) if effect.plain else ''}{missing_text(v)}", style="dim")
        verdict = Text(v.verdict, style=_STYLES[v.verdict])
        if is_descriptive(v):
            verdict.append("\n(descriptive)", style="dim")
        rich.add_row(claim, verdict, effect, str(v.n) if v.n else "")
    if any(map(is_descriptive, verdicts)):
        rich.caption = f"descriptive: fewer than {DESCRIPTIVE_BELOW} folds describe, they do not conclude"
        rich.caption_justify = "left"
    return rich


def is_descriptive(v: ClaimVerdict) -> bool:
    """Whether a verdict is to be marked: there is one, and it rests on fewer than five folds."""
    return v.descriptive and v.n > 0


def effect_text(v: ClaimVerdict) -> str:
    """ "+0.182 [+0.169, +0.194]"."""
    if v.effect is None:
        return ""
    return f"{v.effect:+.3f}" + ("" if v.low is None else f" [{v.low:+.3f}, {v.high:+.3f}]")


def missing_text(v: ClaimVerdict, most: int = 4) -> str:
    """ "1 of 4 measured; missing: 2500 labels, 5000 labels, 10000 labels", "" where nothing is missing."""
    if not v.missing:
        return ""
    more = f" and {len(v.missing) - most} more" if len(v.missing) > most else ""
    named = ", ".join(v.missing[:most])
    return f"{v.measured}; missing: {named}{more}" if named else v.measured
