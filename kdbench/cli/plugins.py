"""`kdbench plugins`: list plugins and their errors, and create a new plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli import plugins_check
from kdbench.cli.options import console, echo_json, json_option, plugin_option

if TYPE_CHECKING:
    from kdbench.registry import Registry

_KINDS = ("dataset", "architecture", "scheme", "reducer", "metric", "executor")


@click.group("plugins")
def command() -> None:
    """List, check and create plugins."""


@command.command("list")
@plugin_option
@json_option
def list_plugins(plugin_files: tuple[Path, ...], as_json: bool) -> int:
    """List plugins, their components and their errors. Exits with 3 if anything is."""
    return _report(plugin_files, as_json, tracebacks=False)


@command.command("doctor")
@plugin_option
@json_option
def doctor(plugin_files: tuple[Path, ...], as_json: bool) -> int:
    """List plugins with the traceback of each failure."""
    return _report(plugin_files, as_json, tracebacks=True)


command.add_command(plugins_check.command)


@command.command("new", short_help="Create a distribution with one component.")
@click.argument("name")
@click.option("--kind", type=click.Choice(_KINDS), required=True, help="Kind of the plugin's component.")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Folder that the distribution's own folder NAME is made in; this one without.",
)
def new(name: str, kind: str, into: Path) -> None:
    """Create a working distribution called NAME (kdbench-pacmap) with one component.

    It has tests, a README and a licence. Existing files are not overwritten.
    """
    from kdbench.registry import Registry
    from kdbench.scaffold import create

    made = create(name, kind, into, Registry.discover())
    out = console()
    out.print(f"{made.folder}", style="bold")
    for file in made.files:
        out.print(f"  {file}")
    out.print("\nnext:", style="bold")
    for line in made.next_steps:
        out.print(f"  {line}", soft_wrap=True)


def _report(plugin_files: tuple[Path, ...], as_json: bool, *, tracebacks: bool) -> int:
    from kdbench.registry import Registry

    registry = Registry.discover(files=plugin_files, broken_files=True)
    data = plugin_rows(registry)
    if as_json:
        echo_json(data)
    else:
        print_plugins(data, tracebacks)
    return 3 if registry.failures else 0


def plugin_rows(registry: Registry) -> list[dict[str, Any]]:
    """One table a plugin, as plain data: the fields of `PluginInfo`, and `missing`: component to requirements that
    are not installed."""
    import dataclasses

    from kdbench.registry.requirements import missing

    specs = {id_: registry.spec(*id_.split("/", 1)) for info in registry.plugins() for id_ in info.components}
    lacking = set(missing({r for spec in specs.values() for r in spec.requires}))
    rows = []
    for info in registry.plugins():
        unmet = {
            id_: [r for r in specs[id_].requires if r in lacking]
            for id_ in info.components
            if not lacking.isdisjoint(specs[id_].requires)
        }
        rows.append({**dataclasses.asdict(info), "missing": unmet})
    return rows


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
            n = len(row["components"])
            out.print(
                f"    {n} component{'' if n == 1 else 's'}: {', '.join(row['components'])}",
                style="dim",
                soft_wrap=True,
            )
        for id_, missing in row.get("missing", {}).items():
            out.print(Text(f"    {id_} needs {', '.join(missing)}", style="yellow"), soft_wrap=True)
        for failure in row["failures"]:
            where = f"{failure['where']}: " if failure["where"] else ""
            out.print(Text(f"    {where}{failure['what']}", style="red"), soft_wrap=True)
            if failure["hint"]:
                out.print(f"      hint: {failure['hint']}", soft_wrap=True)
            if tracebacks and failure["traceback"]:
                out.print("".join(f"      {x}\n" for x in failure["traceback"].splitlines()), soft_wrap=True)
