"""Write plain data as readable TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: Mapping[str, Any], path: str = "") -> str:
    """Format data as TOML: values first, then tables; lists of tables inline. None and {} are skipped.

    Parameters
    ----------
    data
        Values, lists and tables.
    path
        Key of the table that `data` is; "" for a document.

    Returns
    -------
    str
        Text that `tomllib` reads back.

    Raises
    ------
    TypeError
        TOML has no such value.
    """
    tables = {k: v for k, v in data.items() if isinstance(v, Mapping)}
    lines = [f"{_key(k)} = {inline(v)}" for k, v in data.items() if k not in tables and v is not None]
    blocks = ["\n".join(([f"[{path}]"] if path else []) + lines)] if lines else []
    blocks += [to_toml(v, f"{path}.{_key(k)}" if path else _key(k)) for k, v in tables.items() if v]
    return "\n\n".join(b for b in blocks if b)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def inline(value: Any) -> str:
    """Format one value as it stands after `key = ` in TOML; TypeError if TOML has no such value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        items = [inline(v) for v in value]
        if any(isinstance(v, Mapping) for v in value):
            return "[\n" + "".join(f"    {i},\n" for i in items) + "]"
        return "[" + ", ".join(items) + "]"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(k)} = {inline(v)}" for k, v in value.items() if v is not None)
        return f"{{ {inside} }}" if inside else "{}"
    raise TypeError(f"TOML has no {type(value).__name__}: {value!r}")
