"""Load a suite: merge scale and overrides, validate against the schema, check against the registry."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from kdbench.errors import KdbenchError, SuiteError, did_you_mean
from kdbench.registry import Registry
from kdbench.suite.check import check_suite, components
from kdbench.suite.merge import Override, apply_override, fields_of, merge, parse_override, unwrapped
from kdbench.suite.schema import Suite
from kdbench.suite.source import SuiteFile, read_suite


@dataclass(frozen=True)
class ResolvedSuite:
    """A suite at one scale, with and without overrides.

    Attributes
    ----------
    source
        Name of a registered suite, or path of a TOML file.
    file
        The parsed file.
    suite
        The suite as it will run: scale and overrides merged in.
    base
        The suite without the overrides; None if it is only valid with them.
    overrides
        The overrides, in the order they were applied.
    """

    source: str | Path
    file: SuiteFile
    suite: Suite
    base: Suite | None
    overrides: tuple[str, ...] = ()


def load_suite(
    name_or_path: str | Path,
    *,
    scale: str | None = None,
    overrides: Sequence[str] = (),
    registry: Registry | None = None,
) -> ResolvedSuite:
    """Load a suite, merge its scale and overrides, and check it as far as possible without data.

    Every scale of the file is checked against the schema; the selected one also against the registry.

    Parameters
    ----------
    name_or_path
        Name of a registered suite, or path of a TOML file.
    scale
        One of the file's scales; None for its `default_scale`.
    overrides
        `PATH=VALUE`, `PATH+=VALUE` or `PATH-=VALUE`, applied in this order.
    registry
        Registry to look names up in; None for the one of the installed plugins.

    Returns
    -------
    ResolvedSuite
        The suite as it will run, the suite without overrides, and where it came from.

    Raises
    ------
    UsageError
        There is no such suite or file.
    SuiteError
        Something in the suite is wrong; the message names the file, scale or override, and the key.
    PluginError
        A component of the suite can't be imported.
    """
    registry = registry or Registry.discover()
    file = read_suite(name_or_path, registry)
    scale, _ = file.overlay(scale)
    parsed = [parse_override(text) for text in overrides]
    bases = {name: _validated(_merged(file, name), _Blame(file, name)) for name in file.scales}
    document, base = _merged(file, scale), bases[scale]
    for override in parsed:
        document = apply_override(document, override, Suite)
    blame = _Blame(file, scale, parsed)
    suite = _validated(document, blame) if parsed else base
    check_suite(suite, registry, blame)
    return ResolvedSuite(
        name_or_path, file, suite, base if _is_valid(base, suite, registry) else None, tuple(overrides)
    )


def _is_valid(base: Suite, suite: Suite, registry: Registry) -> bool:
    """Whether `base` passes the checks that `suite` passed."""
    try:
        if base is not suite:
            check_suite(base, registry, lambda _path: "")
    except KdbenchError:
        return False
    return True


def scales(name_or_path: str | Path, registry: Registry | None = None) -> list[str]:
    """List the scales of a suite in the order of the file."""
    return list(read_suite(name_or_path, registry or Registry.discover()).scales)


def dump(suite: Suite, registry: Registry | None = None) -> dict[str, Any]:
    """Return a suite as JSON data; with a registry, every component has all its parameters."""
    data = suite.model_dump(mode="json")
    if registry is not None:
        for path, kind, component in components(suite):
            table: Any = data
            for part in path:
                table = table[part]
            table["params"] = registry.check(kind, component.name, component.params)
    return data


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a suite file, for editors."""
    schema = Suite.model_json_schema()
    properties = schema["properties"]
    del properties["scale"]
    properties["default_scale"] = {"type": "string", "description": "the scale used without --scale"}
    properties["scales"] = {
        "type": "object",
        "description": "overlays by name: tables merge, lists and values replace",
        "additionalProperties": {"type": "object"},
    }
    properties["published"] = {
        "description": "published numbers: a CSV file next to the suite file, or a list of tables",
        "anyOf": [{"type": "string"}, properties["published"]],
    }
    table = schema["$defs"]["Component"] | {"additionalProperties": True}
    schema["$defs"]["Component"] = {
        "description": "a name, or a table of the name and parameters",
        "anyOf": [{"type": "string"}, table],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class _Blame:
    """Say which override (the last one), scale or file set a key."""

    def __init__(self, file: SuiteFile, scale: str, overrides: Sequence[Override] = ()) -> None:
        self._file, self._scale, self._overrides = file, scale, overrides

    def __call__(self, path: Sequence[str | int], missing: bool = False) -> str:
        """`missing`: the key is absent; look for whoever wrote the table around it."""
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
        raise SuiteError(f"a suite can't contain dates or times: {error}", where=blame(())) from error
    try:
        # pydantic's strict JSON mode accepts 3 as a float and a list as a tuple, but not "3" or true as an int
        return Suite.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _suite_error(error, document, blame) from error


def _suite_error(error: ValidationError, document: Mapping[str, Any], blame: _Blame) -> SuiteError:
    """Report the first error, and how many more there are."""
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
            hint = "a number is written without quotes, and true and false in lower case"
        elif first["type"].startswith("tuple"):
            hint = "a list is expected: [...]"
    if others:
        hint = f"{hint}{'; ' if hint else ''}{others} more {'is' if others == 1 else 'are'} wrong in it"
    return SuiteError(what, where=blame(path, first["type"] == "missing"), hint=hint)


def _path(loc: Sequence[str | int], document: Any) -> tuple[str | int, ...]:
    """Strip from pydantic's location the parts that name a branch of a union."""
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
