"""`kdbench list [KIND]`: what there is to use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli.options import console, echo_json, json_option, plugin_option, registry_from

if TYPE_CHECKING:
    from kdbench.registry import Registry

_KINDS = ("datasets", "architectures", "schemes", "reducers", "metrics", "executors", "suites")


@click.command("list")
@click.argument("kind", type=click.Choice(_KINDS), required=False)
@plugin_option
@json_option
def command(kind: str | None, plugin_files: tuple[Path, ...], as_json: bool) -> None:
    """List components and suites, of one KIND or of all."""
    registry = registry_from(plugin_files)
    rows = {k: _rows(registry, k) for k in ((kind,) if kind else _KINDS)}
    if as_json:
        echo_json(rows)
        return
    out = console()
    shown = {k: r for k, r in rows.items() if r or k == kind}
    for i, (name, found) in enumerate(shown.items()):
        if i:
            out.print()
        out.print(name, style="bold")
        if found:
            out.print(_table(found))
        else:
            out.print("  none")


def _rows(registry: Registry, kind: str) -> list[dict[str, Any]]:
    rows = []
    for spec in registry.specs(kind):
        plugin = registry.plugin_of(kind, spec.name)
        row = {
            "name": spec.name,
            "summary": spec.summary,
            "source": spec.reference,
            "version": spec.version,
            "control": spec.control,
            "plugin": plugin.name,
            "origin": f"{plugin.distribution} {plugin.version}",
        }
        rows.append(row)
    return rows


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=True, show_header=True, header_style="dim")
    table.add_column("name", no_wrap=True)
    table.add_column("summary", ratio=3)
    table.add_column("source", ratio=2, style="dim")
    table.add_column("origin", style="dim")
    for row in rows:
        control = f" ({row['control']} control)" if row["control"] else ""
        table.add_row(row["name"], row["summary"] + control, row["source"], row["plugin"])
    return table
