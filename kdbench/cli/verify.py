"""`kdbench verify`: what the records say of a suite's claims, and whether they are whole."""

from __future__ import annotations

from pathlib import Path

import click

from kdbench.cli.options import json_option, plugin_option, scale_option, tracking_option, workspace_option


@click.command()
@click.argument("suite")
@scale_option
@workspace_option
@tracking_option
@plugin_option
@json_option
def command(
    suite: str,
    scale: str | None,
    workspace: Path,
    tracking_uri: str | None,
    plugin_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Give the verdict on each claim of SUITE, and check every stored result against its checksum.

    Reads the workspace's records, or the cells of a tracking store when --tracking-uri is given. Checked are the
    records of all stages and cells, and the files beside them; verdicts are over what is whole. Records written
    before they had checksums have nothing to be checked against. Exit code 4 when a claim is contradicted or a
    result is damaged.
    """
    from kdbench.cli.options import console, echo_json, registry_from
    from kdbench.errors import VerificationError, WorkspaceError
    from kdbench.leaderboard import completed, evaluate
    from kdbench.rendering.export import rounded
    from kdbench.rendering.terminal import claims_table
    from kdbench.suite import load_suite

    registry = registry_from(plugin_files)
    loaded = load_suite(suite, scale=scale, registry=registry)
    damaged: list[str] = []
    checked = False
    given = click.get_current_context().get_parameter_source("tracking_uri")
    if tracking_uri and given is click.core.ParameterSource.COMMANDLINE:
        from kdbench.tracking import fetch_cells

        where = tracking_uri
        cells = fetch_cells(tracking_uri, loaded.name, loaded.scale or None)
    else:
        from kdbench.store import Store

        where = str(workspace)
        if not workspace.is_dir():
            raise WorkspaceError("there is no workspace", where=where, hint="give the right --workspace")
        store = Store(workspace)
        damaged, checked = list(store.verify()), True
        cells = store.cells(suite=loaded.name, scale=loaded.scale or None, damaged=[])  # named above
    if not cells and not damaged:
        raise WorkspaceError(
            f"no cell of {loaded.name!r} at scale {loaded.scale!r}",
            where=where,
            hint=f"kdbench run {suite} first",
        )
    verdicts = evaluate(cells, completed(loaded, registry))
    if as_json:
        echo_json(
            {
                "suite": loaded.name,
                "scale": loaded.scale,
                "cells": len(cells),
                "claims": rounded([v.to_json() for v in verdicts]),
                "damaged": damaged,
            }
        )
    else:
        if verdicts:
            console().print(claims_table(verdicts))
        else:
            whole = "; every stored result is whole" if checked and not damaged else ""
            console().print(f"{loaded.name} makes no claims to give a verdict on{whole}", soft_wrap=True)
        for line in damaged:
            console().print(f"damaged: {line}", soft_wrap=True)
    contradicted = [v.id for v in verdicts if v.verdict == "contradicted"]
    problems = []
    if contradicted:
        problems.append(
            f"{len(contradicted)} of {len(verdicts)} claims contradicted: {', '.join(contradicted)}"
        )
    if damaged:
        problems.append(f"{len(damaged)} stored results damaged")
    if problems:
        raise VerificationError(
            "; ".join(problems),
            where=f"{loaded.name} at scale {loaded.scale}",
            hint="delete what is damaged (of an artifact its folder) and run again: it is made anew"
            if damaged
            else "",
        )
