"""Load a suite: file, scale, overrides, schema, and every name and parameter against the registry."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from kdbench.errors import SuiteError, did_you_mean
from kdbench.registry import Registry
from kdbench.suite.check import check_suite, components
from kdbench.suite.merge import Override, apply_override, fields_of, merge, parse_override, unwrapped
from kdbench.suite.schema import Suite
from kdbench.suite.source import SuiteFile, read_suite


def load_suite(
    name_or_path: str | Path,
    *,
    scale: str | None = None,
    overrides: Sequence[str] = (),
    registry: Registry | None = None,
) -> Suite:
    """A suite with its scale and overrides merged in, checked as far as it can be without data.

    Every scale of the file is checked against the schema; the chosen one against the registry too.

    Args:
        name_or_path: a registered suite, or the path of a TOML file.
        scale: one of the file's scales; its `default_scale` for None.
        overrides: `PATH=VALUE`, `PATH+=VALUE` or `PATH-=VALUE`, applied in this order.
        registry: by default, that of the installed plugins.

    Raises:
        UsageError: there is no such suite or file.
        SuiteError: anything in it is wrong; says in which file, scale or override, and at which key.
        PluginError: a component it names can't be imported.
    """
    registry = registry or Registry.discover()
    file = read_suite(name_or_path, registry)
    chosen, _ = file.overlay(scale)
    parsed = [parse_override(text) for text in overrides]
    for name in file.scales:
        _validated(_merged(file, name), _Blame(file, name))
    document = _merged(file, chosen)
    for override in parsed:
        document = apply_override(document, override, Suite)
    blame = _Blame(file, chosen, parsed)
    suite = _validated(document, blame)
    check_suite(suite, registry, blame)
    return suite


def scales(name_or_path: str | Path, registry: Registry | None = None) -> list[str]:
    """The scales of a suite, in the file's order. Raises as `load_suite`."""
    return list(read_suite(name_or_path, registry or Registry.discover()).scales)


def dump(suite: Suite, registry: Registry | None = None) -> dict[str, Any]:
    """A suite as plain JSON data; with a registry, every component has all its parameters."""
    data = suite.model_dump(mode="json")
    if registry is not None:
        for path, kind, component in components(suite):
            table: Any = data
            for part in path:
                table = table[part]
            table["params"] = registry.check(kind, component.name, component.params)
    return data


def json_schema() -> dict[str, Any]:
    """The JSON schema of a suite file, for editors."""
    schema = Suite.model_json_schema()
    properties = schema["properties"]
    del properties["scale"]
    properties["default_scale"] = {"type": "string", "description": "the scale taken where none is asked for"}
    properties["scales"] = {
        "type": "object",
        "description": "overlays by name: tables merge, lists and values replace",
        "additionalProperties": {"type": "object"},
    }
    table = schema["$defs"]["Component"] | {"additionalProperties": True}
    schema["$defs"]["Component"] = {
        "description": "a name, or a table of the name and parameters",
        "anyOf": [{"type": "string"}, table],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class _Blame:
    """Says who wrote a key: an override (the last one), the scale, or the file."""

    def __init__(self, file: SuiteFile, scale: str, overrides: Sequence[Override] = ()) -> None:
        self._file, self._scale, self._overrides = file, scale, overrides

    def __call__(self, path: Sequence[str | int], missing: bool = False) -> str:
        """`missing`: nobody wrote `path`; it is about what lacks it."""
        key = ".".join(str(p) for p in path)
        path = path[:-1] if missing else path
        for override in reversed(self._overrides):
            shared = itertools.takewhile(
                lambda pair: isinstance(pair[0], str), zip(path, override.keys, strict=False)
            )
            if path and all(mine == theirs for mine, theirs in shared):
                return f"{override.where}: {key}"
        written: Any = self._file.scales[self._scale]
        in_scale = bool(path)
        for part in path:
            if in_scale and isinstance(written, Mapping):
                in_scale, written = part in written, written.get(part)
        prefix = f"scales.{self._scale}." if in_scale else ""
        return f"{self._file.origin}: {prefix}{key}" if key else self._file.origin


def _merged(file: SuiteFile, scale: str) -> dict[str, Any]:
    return {**merge(file.document, file.scales[scale], Suite), "scale": scale}


def _validated(document: Mapping[str, Any], blame: _Blame) -> Suite:
    try:
        text = json.dumps(document)
    except TypeError as error:
        raise SuiteError(f"dates and times mean nothing in a suite: {error}", where=blame(())) from error
    try:
        # JSON's strict mode is the wanted one: 3 is a float, a list is a tuple, but "3" and true are no int.
        return Suite.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _suite_error(error, document, blame) from error


def _suite_error(error: ValidationError, document: Mapping[str, Any], blame: _Blame) -> SuiteError:
    """The first thing that is wrong, and how many more there are."""
    found = error.errors()
    path, first = _path(found[0]["loc"], document), found[0]
    reasons = dict.fromkeys(e["msg"] for e in found if _path(e["loc"], document) == path)
    others = len({_path(e["loc"], document) for e in found}) - 1
    hint = ""
    if first["type"] == "extra_forbidden":
        what = f"there is no key {path[-1]!r}"
        known = _known_keys(path[:-1])
        hint = did_you_mean(str(path[-1]), [k for k in known if k != "scale"])
    elif first["type"] == "missing":
        what = "this key is missing"
    else:
        what = f"{first['input']!r}: " + " or ".join(m[0].lower() + m[1:] for m in reasons)
        if isinstance(first["input"], str) and first["type"].startswith(("int", "float", "bool")):
            hint = "no quotes around numbers; true and false in lower case"
        elif first["type"].startswith("tuple"):
            hint = "a list is expected: [...]"
    if others:
        hint = f"{hint}{'; ' if hint else ''}{others} more {'is' if others == 1 else 'are'} wrong in it"
    return SuiteError(what, where=blame(path, first["type"] == "missing"), hint=hint)


def _path(loc: Sequence[str | int], document: Any) -> tuple[str | int, ...]:
    """pydantic's location without the parts that name a branch of a union."""
    path: list[str | int] = []
    for i, part in enumerate(loc):
        inside = isinstance(document, Mapping) and part in document
        if inside or (isinstance(document, list) and isinstance(part, int) and part < len(document)):
            document = document[part]  # type: ignore[index]
            path.append(part)
        elif isinstance(document, (Mapping, list)) and i == len(loc) - 1:
            path.append(part)  # a missing key
    return tuple(path)


def _known_keys(path: Sequence[str | int]) -> list[str]:
    annotation: Any = Suite
    for part in path:
        if isinstance(part, int):
            annotation = get_args(unwrapped(annotation))[0]
        else:
            annotation = fields_of(annotation)[part].annotation if part in fields_of(annotation) else None
    return list(fields_of(annotation)) or ["name", "params", "label"]
