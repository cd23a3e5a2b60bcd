"""`kdbench plugins check`: run the conformance checks of a component."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli.options import console, data_option, echo_json, json_option, plugin_option
from kdbench.errors import UsageError

if TYPE_CHECKING:
    from kdbench.testing import Finding

_COLOURS = {"passed": "green", "failed": "bold red", "expected": "yellow", "not applicable": "dim"}


@click.command("check", short_help="Run the conformance checks of a component.")
@click.argument("target")
@click.option(
    "--kind",
    default=None,
    metavar="KIND",
    help="Kind of the component, if a class does not show it: reducer.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the component, as TOML. Repeatable.",
)
@plugin_option
@data_option
@json_option
def command(
    target: str,
    kind: str | None,
    settings: tuple[str, ...],
    plugin_files: tuple[Path, ...],
    data_dir: Path | None,
    as_json: bool,
) -> int:
    """Run the conformance checks of TARGET and report each, with what to change if it fails.

    TARGET is a component that is installed (reducers/umap), a one-file plugin (my.py, or my.py:name for one of its
    components), the project folder of an installed distribution (.), or a class or spec (module:attribute). Exits
    with 3 if a check fails.
    """
    from dataclasses import replace

    from kdbench.cli.options import registry_from
    from kdbench.locations import data_places
    from kdbench.testing import find_targets, run_checks

    params = _params(settings)
    registry = registry_from(plugin_files)
    outcomes: dict[str, list[Finding]] = {}
    kinds = {}
    for found in find_targets(target, kind=kind, params=params, registry=registry):
        if found.kind == "datasets":
            found = replace(found, setting={"folders": data_places(data_dir, download=False).folders})
        kinds[found.id] = found.kind
        with _quiet(), _waiting(found.id, as_json):
            outcomes |= run_checks(found)
    failed = sum(f.status == "failed" for findings in outcomes.values() for f in findings)
    if as_json:
        echo_json([_row(id_, kinds[id_], findings) for id_, findings in outcomes.items()])
    else:
        for id_, findings in outcomes.items():
            _print(id_, findings)
    return 3 if failed else 0


def _params(settings: Sequence[str]) -> dict[str, Any]:
    import tomllib

    params = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{setting!r} sets no parameter", where="--set", hint="write NAME=VALUE")
        try:
            params[name.strip()] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            params[name.strip()] = value.strip()  # a word needs no quotes
    return params


@contextmanager
def _quiet() -> Iterator[None]:
    """What a component prints goes to stderr, that --json stays JSON (a check says that it prints). Python's warnings
    are left out: checks try what is out of the ordinary, and libraries warn of it every time."""
    import contextlib
    import sys
    import warnings

    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _waiting(id_: str, as_json: bool) -> Iterator[None]:
    if as_json:
        yield
        return
    with console(stderr=True).status(f"checking {id_}"):
        yield


def _row(id_: str, kind: str, findings: Sequence[Finding]) -> dict[str, Any]:
    from kdbench.testing import checks_for

    holds = {check.name: check.holds for check in checks_for(kind)}
    rows = [
        {"check": f.check, "status": f.status, "what": f.sentence, "change": f.hint, "holds": holds[f.check]}
        for f in findings
    ]
    return {"component": id_, "failed": sum(f.status == "failed" for f in findings), "checks": rows}


def _print(id_: str, findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    table = Table(title=id_, title_justify="left", title_style="bold", box=None, padding=(0, 1))
    for heading in ("check", "status", "what"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "what")
    for f in findings:
        what = Text(f.sentence)
        if f.hint:
            what.append(f"\nchange: {f.hint}", style="cyan")
        table.add_row(Text(f.check), Text(f.status, style=_COLOURS[f.status]), what)
    out.print(table)
    counts = {s: sum(f.status == s for f in findings) for s in _COLOURS}
    out.print(
        ", ".join(f"{n} {s}" for s, n in counts.items() if n),
        style="bold red" if counts["failed"] else "bold",
    )
