"""`kdbench leaderboard`: leaderboards from the tracking store."""

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
    """Leaderboards, collated from the tracking store."""


@command.command()
@click.argument("suite")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("leaderboards"),
    show_default=True,
    help="Write to OUT/<suite>/<scale>/.",
)
@click.option("--scale", default=None, metavar="NAME", help="This scale alone.")
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

    Without --scale, one leaderboard for every scale that has cells; one whose scale can't be read (the suite no
    longer has it, say) is left out, and the command fails after the others are written.
    """
    from kdbench import tracking
    from kdbench.cli.options import console, echo_json, registry_from
    from kdbench.errors import KdbenchError, WorkspaceError
    from kdbench.leaderboard import completed
    from kdbench.session.execute import as_given, directions_of
    from kdbench.session.leaderboards import build as write
    from kdbench.suite import load_suite

    registry = registry_from(plugin_files)
    loaded = load_suite(suite, scale=scale, registry=registry)
    uri = tracking.tracking_uri(tracking_uri, workspace)
    cells = tracking.fetch_cells(uri, loaded.name, scale)
    scales = [scale] if scale else sorted({c.scale for c in cells})
    if not scales:
        raise WorkspaceError(
            f"no cell of {loaded.name!r} in the tracking store",
            where=uri,
            hint=f"kdbench run {suite}, or `kdbench track sync` if it has run elsewhere",
        )
    written: list[Path] = []
    left_out: dict[str, KdbenchError] = {}
    for name in scales:
        try:
            of_scale = completed(load_suite(suite, scale=name, registry=registry), registry)
        except KdbenchError as error:
            left_out[name] = error
            continue
        written += write(
            loaded.name, name, out, uri, workspace, of_scale, directions=directions_of(registry), cells=cells,
            given=as_given(suite, registry),
        )  # fmt: skip
    if as_json:
        built = [name for name in scales if name not in left_out]
        told = {name: str(error) for name, error in left_out.items()}
        files = [str(p) for p in written]
        echo_json({"suite": loaded.name, "scales": built, "files": files, "left_out": told})
    else:
        for path in written:
            console().print(str(path), soft_wrap=True)
    if left_out:
        first = next(iter(left_out.values()))
        names = ", ".join(map(repr, left_out))
        raise type(first)(
            f"no leaderboard of scale {names}: {first.what}", where=first.where, hint=first.hint
        )
