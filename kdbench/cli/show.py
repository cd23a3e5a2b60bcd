"""`kdbench show KIND/NAME`: show a component with its parameters, or a suite with its scale merged in."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.api.specs import SchemeSpec
from kdbench.cli.options import (
    console,
    echo_json,
    json_option,
    plugin_option,
    registry_from,
    scale_option,
    set_option,
)
from kdbench.errors import KdbenchError, UsageError, did_you_mean

if TYPE_CHECKING:
    from kdbench.registry import RegisteredComponent, Registry


@click.command("show")
@click.argument("what", metavar="KIND/NAME")
@scale_option
@set_option
@plugin_option
@json_option
def command(
    what: str, scale: str | None, overrides: tuple[str, ...], plugin_files: tuple[Path, ...], as_json: bool
) -> None:
    """Show one component (reducers/tsne) or suite (suites/paper-reference, or the path of a TOML file).

    A suite is shown as it would run at --scale and with --set.
    """
    registry = registry_from(plugin_files)
    kind, name = _kind_and_name(what, registry)
    if kind == "suites":
        _show_suite(name, scale, overrides, registry, as_json)
        return
    if scale or overrides:
        raise UsageError("--scale and --set are for suites", where=what)
    data = _component(kind, name, registry)
    if as_json:
        echo_json(data)
    else:
        _print_component(data)


def _kind_and_name(what: str, registry: Registry) -> tuple[str, str]:
    from kdbench.registry import KINDS

    if what.endswith(".toml"):
        return "suites", what
    kind, slash, name = what.partition("/")
    if slash and kind in KINDS:
        return kind, name
    owners = [k for k in KINDS if any(s.name == what for s in registry.specs(k))]
    if len(owners) == 1:
        return owners[0], what
    if owners:
        raise UsageError(f"{what!r} is ambiguous: {', '.join(f'{k}/{what}' for k in owners)}")
    if slash:
        raise UsageError(f"there is no kind {kind!r}", where=what, hint=did_you_mean(kind, KINDS))
    names = {f"{s.kind}/{s.name}": s.name for k in KINDS for s in registry.specs(k)}
    raise UsageError(f"there is no {what!r}", hint=did_you_mean(what, names.values()))


def _component(kind: str, name: str, registry: Registry) -> dict[str, Any]:
    component = registry.resolve(kind, name)
    spec = component.spec
    special = {
        f.name: getattr(spec, f.name)
        for f in dataclasses.fields(spec)
        if f.name not in ("name", "summary", "reference", "resources")
    }
    if isinstance(spec, SchemeSpec) and not spec.uses_teacher:
        del special["teacher"]
    return {
        "id": component.id,
        "summary": spec.summary,
        "reference": spec.reference,
        "origin": component.origin,
        "parameters": {
            n: {"type": p.type_name, "required": True}
            if p.required
            else {"type": p.type_name, "default": _default(p.default)}
            for n, p in component.parameters.items()
        },
        "set_by_the_run": sorted(component.engine),
        "spec": {k: sorted(v) if isinstance(v, frozenset) else v for k, v in special.items()},
        "resources": dataclasses.asdict(spec.resources),
        **({"taps": _taps(component)} if kind == "architectures" else {}),
        "doc": inspect.getdoc(component.factory) or "",
    }


def _taps(component: RegisteredComponent) -> dict[str, str] | str:
    """Map taps to module paths of the default network, input to output; a sentence if it can't be built."""
    required = [n for n, p in component.parameters.items() if p.required]
    if required:
        return f"depend on {', '.join(required)}, without a default"
    try:
        architecture = component.build(component.values({}))
        network = architecture.build(10, (32, 32, 3))
        return dict(architecture.taps(network))
    except KdbenchError as error:  # missing weights, for example; the rest can be shown
        return f"unknown, because the network can't be built: {error.what}"
    except Exception as error:  # a third-party plugin may raise anything
        from kdbench.registry.plugins import error_place

        return f"unknown: {type(error).__name__}: {error} ({error_place(error)})"


def _default(value: Any) -> Any:
    """Convert a default to JSON data, or to its repr if JSON has no such value."""
    from kdbench.registry import Parameter
    from kdbench.registry.components import plain

    return plain({"": value}, {"": Parameter(default=value)}).get("", repr(value))


def _print_component(data: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    out.print(data["id"], style="bold", end="  ")
    out.print(data["summary"])
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for label in ("reference", "origin"):
        if data[label]:
            table.add_row(label, str(data[label]))
    for label, value in data["spec"].items():
        if value not in ("", None, [], ()):
            table.add_row(
                label, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            )
    asked = [k if v is True else f"{k}={v}" for k, v in data["resources"].items() if v]
    table.add_row("resources", ", ".join(asked))
    if taps := data.get("taps"):
        table.add_row(
            "taps", taps if isinstance(taps, str) else ", ".join(f"{t} ({m})" for t, m in taps.items())
        )
    if data["set_by_the_run"]:
        table.add_row("set by the run", ", ".join(data["set_by_the_run"]))
    out.print(table)
    out.print("\nparameters", style="bold")
    if not data["parameters"]:
        out.print("  none")
    parameters = Table(box=None, header_style="dim")
    for column in ("name", "default", "type"):
        parameters.add_column(column, no_wrap=column == "name")
    for name, parameter in data["parameters"].items():
        default = "(required)" if parameter.get("required") else repr(parameter["default"])
        parameters.add_row(name, default, parameter["type"])
    if data["parameters"]:
        out.print(parameters)
    if data["doc"]:
        out.print(f"\n{data['doc']}", soft_wrap=True)


def _show_suite(
    name: str, scale: str | None, overrides: tuple[str, ...], registry: Registry, as_json: bool
) -> None:
    from kdbench.suite import dump, load_suite, to_toml

    resolved = load_suite(name, scale=scale, overrides=overrides, registry=registry)
    file, suite = resolved.file, resolved.suite
    data = dump(suite, registry)
    if as_json:
        echo_json({"suite": data, "scales": list(file.scales), "default_scale": file.default_scale})
        return
    scales = ", ".join(f"{s} (default)" if s == file.default_scale else s for s in file.scales)
    click.echo(f"# {file.origin}\n# scales: {scales}; this is {suite.scale}\n")
    click.echo(to_toml(data))
