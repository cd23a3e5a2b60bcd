"""Read the published numbers of a suite from the CSV file next to it."""

from __future__ import annotations

import csv
import io
import math
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from kdbench.errors import SuiteError, did_you_mean
from kdbench.suite.merge import unwrapped
from kdbench.suite.schema import Published

_KINDS = {name: unwrapped(field.annotation) for name, field in Published.model_fields.items()}


def read_published(file: Traversable | Path, origin: str) -> list[dict[str, Any]]:
    """Read a CSV file with one published number a row.

    Parameters
    ----------
    file
        The CSV file. Its columns are fields of `Published`; an empty cell leaves a field out.
    origin
        Path of the file for error messages.

    Returns
    -------
    list of dict
        The rows, as a suite file would list them under `published`.

    Raises
    ------
    SuiteError
        The file can't be read, or a column or value is wrong; names file, line and column.
    """
    try:
        rows = csv.DictReader(io.StringIO(read_text(file, origin), newline=""), strict=True)
        for column in rows.fieldnames or ():
            if column not in _KINDS:
                raise SuiteError(
                    f"unknown column {column!r}", where=f"{origin}:1", hint=did_you_mean(column, _KINDS)
                )
        return [_number(row, f"{origin}:{rows.line_num}") for row in rows]
    except csv.Error as error:
        raise SuiteError(f"not valid CSV: {error}", where=f"{origin}:{rows.line_num}") from error


def read_text(file: Traversable | Path, origin: str) -> str:
    """Read a text file; SuiteError if it can't be read or is not UTF-8."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SuiteError(f"not a text file in UTF-8 (byte {error.start})", where=origin) from error
    except OSError as error:
        raise SuiteError(f"can't be read: {error.strerror or error}", where=origin) from error


def _number(row: dict[Any, Any], where: str) -> dict[str, Any]:
    """One row with its values typed."""
    if None in row or None in row.values():
        raise SuiteError("this row and the header differ in their number of columns", where=where)
    for name, field in Published.model_fields.items():
        if field.is_required() and not row.get(name):
            raise SuiteError("a value is required", where=f"{where}: {name}")
    return {name: _value(name, text, f"{where}: {name}") for name, text in row.items() if text}


def _value(name: str, text: str, where: str) -> str | int | float:
    kind = _KINDS[name]
    try:
        value: str | int | float = kind(text)
    except ValueError as error:
        expected = "an integer" if kind is int else "a number"
        raise SuiteError(f"{text!r} is not {expected}", where=where) from error
    if isinstance(value, float) and not math.isfinite(value):
        raise SuiteError(f"{text!r} is not a finite number", where=where)
    return value
