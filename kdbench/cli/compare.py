"""`kdbench compare A B`: two schemes, students or runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdbench.cli.options import (
    json_option,
    plugin_option,
    scale_option,
    tracking_option,
    workspace_option,
)

if TYPE_CHECKING:
    from rich.console import Group

    from kdbench.api.records import CellRecord
    from kdbench.leaderboard.compare import SideBySide
    from kdbench.registry import Registry

_STYLES = {"A": "green", "B": "green", "differs": "", "undecided": "dim"}


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--suite",
    default=None,
    help="Only results of this suite: its name or file. Required with --tracking-uri.",
)
@scale_option
@click.option("--metric", "metrics", multiple=True, help="Only this metric or value. Repeatable.")
@click.option("--all", "every", is_flag=True, help="Show all values, not only the primary ones.")
@workspace_option
@tracking_option
@plugin_option
@json_option
def command(
    a: str,
    b: str,
    suite: str | None,
    scale: str | None,
    metrics: tuple[str, ...],
    every: bool,
    workspace: Path,
    tracking_uri: str | None,
    plugin_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Compare A with B: two schemes, two students, or two runs, paired by fold.

    A run is given by its id (of kdbench or MLflow) or by the folder of its workspace. If a name is ambiguous, write
    scheme:NAME, student:NAME or run:ID. Experiments with overrides are labelled by them, as on a leaderboard. A
    suite that no plugin registers needs --suite FILE. The 95 % intervals are not corrected for the number of rows.
    """
    from kdbench.cli.options import console, echo_json, registry_from, warn
    from kdbench.errors import UsageError, WorkspaceError, did_you_mean
    from kdbench.leaderboard.board import directions_of
    from kdbench.leaderboard.compare import compare, side, suites_of
    from kdbench.rendering.export import rounded
    from kdbench.tracking import tracking_uri as uri_of
    from kdbench.tracking.query import fetch_run

    registry = registry_from(plugin_files)
    given = click.get_current_context().get_parameter_source("tracking_uri")
    from_tracking = bool(tracking_uri) and given is click.core.ParameterSource.COMMANDLINE
    uri = uri_of(tracking_uri, workspace)
    sources = _named(suite, registry)
    of_suite = next(iter(sources), suite)
    cells = _cells(of_suite, scale, workspace, uri if from_tracking else None)
    try:
        left, right = (side(name, cells, lambda run: fetch_run(uri, run)) for name in (a, b))
    except UsageError:
        if suite is None or cells:
            raise
        known = [spec.name for spec in registry.specs("suites")]
        raise WorkspaceError(
            f"no cell of {of_suite!r}" + (f" at scale {scale!r}" if scale else ""),
            where=str(uri if from_tracking else workspace),
            hint=f"kdbench run {suite}, then compare" if sources else did_you_mean(suite, known),
        ) from None
    suites = suites_of([*left.cells, *right.cells], registry, sources)
    found = compare(
        left, right, suites=suites, metrics=metrics, directions=directions_of(registry), every=every
    )
    if as_json:
        echo_json(
            {
                "kind": found.kind,
                "a": found.left,
                "b": found.right,
                "rows": rounded([row.to_json() for row in found.rows]),
                "without_partner": {"a": found.left_alone, "b": found.right_alone},
            }
        )
    else:
        guessed = {r.suite for r in found.rows if r.variant and (r.suite, r.scale) not in suites}
        console().print(comparison_table(found))
        for name in sorted(guessed):
            warn(
                f"the suite {name!r} is not known here: its newest setting goes without a label; --suite FILE"
            )


def _named(suite: str | None, registry: Registry) -> dict[str, str]:
    """Name of the suite that is asked for to where it is read from; empty where it is a name of cells alone.

    Raises UsageError or SuiteError if there is no such file, or it is broken.
    """
    from kdbench.errors import KdbenchError
    from kdbench.suite import load_suite

    if suite is None:
        return {}
    try:
        return {load_suite(suite, registry=registry).suite.name: suite}
    except KdbenchError:
        if suite.endswith(".toml"):
            raise
        return {}


def _cells(suite: str | None, scale: str | None, workspace: Path, uri: str | None) -> list[CellRecord]:
    """The cells that schemes and students are looked for in; none where there is no workspace yet.

    Raises UsageError if a tracking store is to be read, and no suite was named.
    """
    if uri is not None:
        from kdbench.errors import UsageError
        from kdbench.tracking import fetch_cells

        if suite is None:
            raise UsageError("a tracking store may hold many suites", where="--suite", hint="name one")
        return fetch_cells(uri, suite, scale)
    from kdbench.store import Store

    return Store(workspace).cells(suite=suite, scale=scale) if workspace.is_dir() else []


def comparison_table(found: SideBySide) -> Group:
    """One table a metric, reducer and setting."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from kdbench.leaderboard.statistics import DESCRIPTIVE_BELOW
    from kdbench.rendering.numbers import number, signed
    from kdbench.rendering.tables import in_percent
    from kdbench.rendering.views import DESCRIPTIVE

    parts: list[Text | Table] = [Text(f"A = {found.left}   B = {found.right}", style="bold")]
    groups: dict[tuple, list] = {}
    experiments = {(r.suite, r.scale, r.dataset) for r in found.rows}
    for row in found.rows:
        where = (row.suite, row.scale, row.dataset) if len(experiments) > 1 else ()
        groups.setdefault((row.metric, row.reducer or "", row.setting, *where, row.variant), []).append(row)
    for labels_of, rows in groups.items():
        percent = in_percent(rows[0].metric)
        title = " · ".join(p for p in labels_of if p) + (" [%]" if percent else "")
        # without lines between its columns it fits 80 characters
        table = Table(
            title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
        )
        with_tap = any(r.tap for r in rows)
        names = ["labels", *(["tap"] if with_tap else [])]
        context = "student" if found.kind == "scheme" else "scheme"
        several = len({getattr(r, context) for r in rows}) > 1
        for name in [*names, *([context] if several else [])]:
            table.add_column(name, overflow="fold")
        for name in ("A", "B", "A - B", "95 %", "folds"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("better", no_wrap=True)
        for r in rows:
            labels = [
                str(r.budget),
                *([r.tap or ""] if with_tap else []),
                *([getattr(r, context)] if several else []),
            ]
            difference, _, interval = signed(r.difference, r.low, r.high, percent=percent).partition(" ")
            numbers = [
                *(number(v, percent=percent) for v in (r.left, r.right)),
                difference,
                interval,
                str(r.n),
            ]
            table.add_row(*map(Text, labels + numbers), Text(r.verdict, _STYLES[r.verdict]))
        parts.append(table)
    schemes = {r.scheme for r in found.rows}
    for note in dict.fromkeys(r.notes for r in found.rows if r.notes):
        noted = {r.scheme for r in found.rows if r.notes == note}
        of = "" if noted == schemes else f" ({', '.join(sorted(noted))})"
        parts.append(Text(f"other differences{of}: {note}", style="yellow"))
    alone = [f"{n} of {name}" for name, n in (("A", found.left_alone), ("B", found.right_alone)) if n]
    if alone:
        parts.append(Text(f"measurements without a partner: {', '.join(alone)}", style="dim"))
    if any(r.n < DESCRIPTIVE_BELOW for r in found.rows):
        parts.append(Text(DESCRIPTIVE, style="dim"))
    return Group(*parts)
