"""Find and parse a suite file: by path, or by the name under which a plugin registers it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from kdbench.errors import SuiteError, UsageError, did_you_mean
from kdbench.registry import Registry
from kdbench.suite.published import read_published, read_text

_SCALE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
#: The scale of a suite file without scales.
ONLY_SCALE = "default"


@dataclass(frozen=True)
class SuiteFile:
    """A parsed suite file, with its scales separated from the rest.

    Attributes
    ----------
    origin
        Path, for error messages.
    document
        The file without `default_scale` and `scales`; published numbers in a CSV file are read in.
    scales
        Overlays by name, in the order of the file. A file without scales has the one scale "default".
    default_scale
        The scale used if none is requested.
    """

    origin: str
    document: Mapping[str, Any]
    scales: Mapping[str, Mapping[str, Any]]
    default_scale: str

    def overlay(self, scale: str | None) -> tuple[str, Mapping[str, Any]]:
        """Look up a scale.

        Parameters
        ----------
        scale
            Its name; None for the default scale.

        Returns
        -------
        tuple
            Name and overlay.

        Raises
        ------
        SuiteError
            There is no such scale.
        """
        name = scale or self.default_scale
        if name not in self.scales:
            raise SuiteError(
                f"there is no scale {name!r}", where=self.origin, hint="known: " + ", ".join(self.scales)
            )
        return name, self.scales[name]


def read_suite(name_or_path: str | Path, registry: Registry) -> SuiteFile:
    """Find and parse a suite file.

    Parameters
    ----------
    name_or_path
        Name of a registered suite, or path of a TOML file: anything that ends in `.toml` or contains a folder.
    registry
        Registry that knows the suites of plugins.

    Returns
    -------
    SuiteFile
        The parsed file.

    Raises
    ------
    UsageError
        There is no such suite or file.
    SuiteError
        The file is not valid TOML, its scales are malformed, or its published numbers can't be read.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise UsageError("there is no such suite file", where=text, hint="kdbench list suites")
        return _parse(path, text)
    file = registry.suite_file(text)
    suite = _parse(file, str(file))
    if suite.document.get("name") != text:
        what = f"it is registered as {text!r} and calls itself {suite.document.get('name')!r}"
        raise SuiteError(what, where=suite.origin)
    return suite


def _parse(file: Traversable | Path, origin: str) -> SuiteFile:
    try:
        document = tomllib.loads(read_text(file, origin))
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
        where = f"{origin}:{found[2]}" if found else origin
        raise SuiteError(f"not valid TOML: {found[1] if found else error}", where=where) from error
    scales = document.pop("scales", {})
    default = document.pop("default_scale", None)
    if "scale" in document:
        hint = "default_scale names the scale used without --scale"
        raise SuiteError("a file can't set 'scale'", where=f"{origin}: scale", hint=hint)
    if not isinstance(scales, dict) or not all(isinstance(o, dict) for o in scales.values()):
        raise SuiteError("scales are tables: [scales.quick]", where=f"{origin}: scales")
    for name in scales:
        if not _SCALE.fullmatch(name):
            raise SuiteError(f"{name!r}: lower-case words joined by '-'", where=f"{origin}: scales")
        if "name" in scales[name]:
            raise SuiteError("a scale can't rename the suite", where=f"{origin}: scales.{name}.name")
    for prefix, table in (("", document), *((f"scales.{name}.", table) for name, table in scales.items())):
        if isinstance(csv := table.get("published"), str):
            # folders of importlib.resources and zip files have a parent too, though their protocol lacks it
            numbers = file.parent.joinpath(csv)  # type: ignore[union-attr]
            if not numbers.is_file():
                raise SuiteError(f"there is no file {csv!r}", where=f"{origin}: {prefix}published")
            table["published"] = read_published(numbers, str(numbers))
    if not scales:
        if default not in (None, ONLY_SCALE):
            raise SuiteError(f"{default!r}: the file has no scales", where=f"{origin}: default_scale")
        return SuiteFile(origin, document, {ONLY_SCALE: {}}, ONLY_SCALE)
    if default is None:
        hint = f'write default_scale = "{next(iter(scales))}" at the top'
        raise SuiteError("default_scale is missing", where=origin, hint=hint)
    if default not in scales:
        what = f"there is no scale {default!r}"
        raise SuiteError(what, where=f"{origin}: default_scale", hint=did_you_mean(str(default), scales))
    return SuiteFile(origin, document, scales, default)
