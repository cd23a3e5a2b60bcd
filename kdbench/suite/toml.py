"""Write plain data as TOML, through tomli-w."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomli_w


def to_toml(data: Mapping[str, Any]) -> str:
    """Return `data` as a TOML document, without None and empty tables.

    Parameters
    ----------
    data
        Values, lists and tables.

    Returns
    -------
    str
        Text that `tomllib` reads back.

    Raises
    ------
    TypeError
        `data` has a value that TOML does not have.
    """
    return tomli_w.dumps(_without_none(data, empty_tables=False))


def inline(value: Any) -> str:
    """Return one value as TOML writes it after `key = `. Raises TypeError as `to_toml`."""
    # tomli-w writes tables inline only inside an array that is no array of tables.
    text = tomli_w.dumps({"v": [[_without_none(value)]]})
    return text.removeprefix("v = [\n    [\n").removesuffix(",\n    ],\n]\n").strip()


def _without_none(value: Any, *, empty_tables: bool = True) -> Any:
    if isinstance(value, Mapping):
        kept = {k: _without_none(v, empty_tables=empty_tables) for k, v in value.items() if v is not None}
        return kept if empty_tables else {k: v for k, v in kept.items() if v != {}}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value]
    return value
