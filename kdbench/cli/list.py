"""`kdbench list [KIND]`: list components and suites."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.api.specs import SchemeSpec
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
            out.print(_table(found, whole=kind is not None))
        else:
            out.print("  none")
        if kind is not None and any(row.get("variants") for row in found):
            out.print(
                "\nvariant: the default first; kdbench show schemes/NAME says what each means", style="dim"
            )


def _rows(registry: Registry, kind: str) -> list[dict[str, Any]]:
    rows = []
    for spec in registry.specs(kind):
        plugin = registry.plugin_of(kind, spec.name)
        row: dict[str, Any] = {
            "name": spec.name,
            "summary": spec.summary,
            "source": spec.reference,
            "version": spec.version,
            "control": spec.control,
            "plugin": plugin.name,
            "origin": f"{plugin.distribution} {plugin.version}",
        }
        if isinstance(spec, SchemeSpec):
            row["variants"] = list(spec.variants)
        rows.append(row)
    return rows


def _table(rows: list[dict[str, Any]], *, whole: bool) -> Any:
    """Components by name under the plugin that brings them; `whole`: with their sources and variants."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=True, show_header=whole, header_style="dim")
    table.add_column("name", no_wrap=True)
    table.add_column("summary", ratio=5)
    variants = whole and any(row.get("variants") for row in rows)
    if variants:
        table.add_column("variant", style="dim", no_wrap=True)
    if whole:
        table.add_column("source", ratio=4, style="dim")
    plugins = sorted({row["plugin"] for row in rows})
    for plugin in plugins:
        of_plugin = [row for row in rows if row["plugin"] == plugin]
        table.add_row(Text(plugin, "dim"), Text(of_plugin[0]["origin"], "dim"))
        for row in of_plugin:
            control = f" ({row['control']} control)" if row["control"] else ""
            cells = [f"  {row['name']}", row["summary"] + control]
            if variants:
                cells.append(" | ".join(row["variants"]))
            table.add_row(*cells, *([row["source"]] if whole else []))
    return table
