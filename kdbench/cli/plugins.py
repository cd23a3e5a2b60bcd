"""`kdbench plugins list`: the plugins that were found, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli.options import console, echo_json, json_option, plugin_option

if TYPE_CHECKING:
    from kdbench.registry import Registry


@click.group("plugins")
def command() -> None:
    """What plugins there are."""


@command.command("list")
@plugin_option
@json_option
def list_plugins(plugin_files: tuple[Path, ...], as_json: bool) -> int:
    """List plugins, their components, and what is wrong with them. Exits with 3 if anything is."""
    from kdbench.registry import Registry

    registry = Registry.discover(files=plugin_files)
    data = plugin_rows(registry)
    if as_json:
        echo_json(data)
    else:
        print_plugins(data)
    return 3 if registry.failures else 0


def plugin_rows(registry: Registry) -> list[dict[str, Any]]:
    """One table a plugin, as plain data."""
    import dataclasses

    return [dataclasses.asdict(info) for info in registry.plugins()]


def print_plugins(rows: list[dict[str, Any]], tracebacks: bool = False) -> None:
    """Print what `plugin_rows` returned, the failures below their plugins."""
    from rich.text import Text

    out = console()
    colours = {"ok": "green", "partly": "yellow", "failed": "red", "deselected": "dim"}
    for row in rows:
        line = Text("  ").append(row["status"].ljust(11), style=colours[row["status"]])
        line.append(row["name"], style="bold").append(
            f"  {row['distribution']} {row['version']}, {row['origin']}"
        )
        out.print(line, soft_wrap=True)
        if row["components"]:
            out.print(
                f"    {len(row['components'])} components: {', '.join(row['components'])}",
                style="dim",
                soft_wrap=True,
            )
        for failure in row["failures"]:
            where = f"{failure['where']}: " if failure["where"] else ""
            out.print(Text(f"    {where}{failure['what']}", style="red"), soft_wrap=True)
            if failure["hint"]:
                out.print(f"      hint: {failure['hint']}", soft_wrap=True)
            if tracebacks and failure["traceback"]:
                out.print("".join(f"      {x}\n" for x in failure["traceback"].splitlines()), soft_wrap=True)
