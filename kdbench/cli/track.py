"""`kdbench track`: the tracking store."""

from __future__ import annotations

from pathlib import Path

import click

from kdbench.cli.options import json_option, scale_option, tracking_option, workspace_option


@click.group()
def command() -> None:
    """The MLflow tracking store."""


@command.command()
@click.argument("suite", required=False)
@scale_option
@workspace_option
@tracking_option
@json_option
def sync(
    suite: str | None, scale: str | None, workspace: Path, tracking_uri: str | None, as_json: bool
) -> None:
    """Log the workspace's records that the tracking store does not hold yet, of SUITE or of all suites.

    Doing it twice changes nothing. Use it to bring runs of another machine to a shared server. Exit code 4 when
    a record of the workspace is damaged; the others are logged all the same.
    """
    from kdbench.cli.options import console, echo_json
    from kdbench.errors import VerificationError, WorkspaceError
    from kdbench.store import Store
    from kdbench.tracking import Tracker

    if not workspace.is_dir():
        raise WorkspaceError("there is no workspace", where=str(workspace), hint="give the right --workspace")
    damaged: list[VerificationError] = []
    records = Store(workspace).cells(suite=suite, scale=scale, damaged=damaged)
    tracker = Tracker(tracking_uri, workspace)
    tracker.check()
    counts = tracker.sync(records)
    if as_json:
        echo_json({"tracking_uri": tracker.uri, **counts, "damaged": [error.where for error in damaged]})
    else:
        line = f"{counts['logged']} logged, {counts['found']} found there already: {tracker.uri}"
        console().print(line, soft_wrap=True)
    if damaged:
        raise VerificationError(
            f"damaged records of cells, not logged: {len(damaged)}; the first: {damaged[0].what}",
            where=damaged[0].where,
            hint=damaged[0].hint,
        )
