"""`kdbench leaderboard`: write leaderboards from the tracking store."""

from __future__ import annotations

from pathlib import Path

import click

from kdbench.cli.options import (
    json_option,
    plugin_option,
    tracking_option,
    workspace_option,
)


@click.group()
def command() -> None:
    """Leaderboards from the tracking store."""


@command.command()
@click.argument("suite")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("leaderboards"),
    show_default=True,
    help="Write to OUT/<suite>/<scale>/.",
)
@click.option("--scale", default=None, metavar="NAME", help="Only this scale.")
@workspace_option
@tracking_option
@plugin_option
@json_option
def build(
    suite: str,
    out: Path,
    scale: str | None,
    workspace: Path,
    tracking_uri: str | None,
    plugin_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Write README.md, leaderboard.csv, leaderboard.json, index.html and table.tex of SUITE.

    Without --scale, one leaderboard for every scale that has cells. A scale that can't be loaded (because the
    suite no longer has it, for example) is skipped, and the command fails after the others are written.
    """
    from kdbench.cli.options import console, echo_json, registry_from
    from kdbench.session import leaderboards

    built = leaderboards.build(
        suite,
        registry_from(plugin_files),
        scale=scale,
        out=out,
        tracking_uri=tracking_uri,
        workspace=workspace,
    )
    if as_json:
        skipped = {name: str(error) for name, error in built.skipped.items()}
        files = [str(p) for p in built.files]
        echo_json({"suite": built.suite, "scales": built.scales, "files": files, "skipped": skipped})
    else:
        for path in built.files:
            console().print(str(path), soft_wrap=True)
    if built.skipped:
        first = next(iter(built.skipped.values()))
        names = ", ".join(map(repr, built.skipped))
        raise type(first)(
            f"no leaderboard of scale {names}: {first.what}", where=first.where, hint=first.hint
        )
