"""`kdbench verify`: evaluate a suite's claims, and check stored results for damage."""

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
    """Evaluate each claim of SUITE, and check every stored result against its checksum.

    Reads the workspace's records, or the cells of a tracking store if --tracking-uri is given. Records of all stages
    and cells are checked, and the files next to them; verdicts use undamaged records only. Exit
    code 4 if a claim is contradicted or a result is damaged.
    """
    from kdbench.cli.options import console, echo_json, registry_from
    from kdbench.errors import VerificationError, WorkspaceError
    from kdbench.rendering.export import rounded
    from kdbench.rendering.terminal import claims_table
    from kdbench.session.leaderboards import verdicts as verdicts_of
    from kdbench.suite import load_suite

    registry = registry_from(plugin_files)
    resolved = load_suite(suite, scale=scale, registry=registry)
    name, of_scale = resolved.suite.name, resolved.suite.scale
    damaged: list[str] = []
    checked = False
    given = click.get_current_context().get_parameter_source("tracking_uri")
    if tracking_uri and given is click.core.ParameterSource.COMMANDLINE:
        from kdbench.tracking import fetch_cells

        where = tracking_uri
        cells = fetch_cells(tracking_uri, name, of_scale)
    else:
        from kdbench.store import Store

        where = str(workspace)
        if not workspace.is_dir():
            raise WorkspaceError("there is no workspace", where=where, hint="give the right --workspace")
        store = Store(workspace)
        damaged, checked = list(store.verify()), True
        cells = store.cells(suite=name, scale=of_scale, damaged=[])  # reported by verify()
    if not cells and not damaged:
        raise WorkspaceError(
            f"no cell of {name!r} at scale {of_scale!r}",
            where=where,
            hint=f"kdbench run {suite} first",
        )
    verdicts = verdicts_of(cells, resolved, registry)
    if as_json:
        echo_json(
            {
                "suite": name,
                "scale": of_scale,
                "cells": len(cells),
                "claims": rounded([v.to_json() for v in verdicts]),
                "damaged": damaged,
            }
        )
    else:
        if verdicts:
            console().print(claims_table(verdicts))
        else:
            intact = "; no stored result is damaged" if checked and not damaged else ""
            console().print(f"{name} has no claims to evaluate{intact}", soft_wrap=True)
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
            where=f"{name} at scale {of_scale}",
            hint="delete what is damaged (the folder of an artifact) and run again to recompute it"
            if damaged
            else "",
        )
