"""Fingerprint of a report's input, to skip a report that is up to date.

Light: a run that finds everything done asks this, and imports nothing that draws.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench import __version__

if TYPE_CHECKING:
    from kdbench.api import CellRecord
    from kdbench.suite.schema import Suite

#: Beside the page: digest of what it was made from.
INPUT = "report.input"


def digest(records: Sequence[CellRecord], suite: Suite, **rest: Any) -> str:
    """Of all that a page shows and of the code that draws it; the order of records does not matter.

    What lies in the store is known by the records: its paths are content keys.
    """
    found = hashlib.sha256(__version__.encode())
    here = Path(__file__).parent
    for folder in (here, here.parent / "rendering"):  # a page of older code is drawn again
        for source in sorted(p for p in folder.rglob("*") if p.suffix in {".py", ".j2", ".css"}):
            found.update(source.read_bytes())
    data = {
        "records": [r.to_json() for r in sorted(records, key=lambda r: r.key)],
        "suite": suite.model_dump(mode="json"),
        **rest,
    }
    found.update(json.dumps(data, sort_keys=True, separators=(",", ":"), default=_plain).encode())
    return found.hexdigest()


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def is_current(out: Path, wanted: str) -> bool:
    """Whether the page in `out` was made from the input of digest `wanted`."""
    try:
        return (out / "report.html").is_file() and (out / INPUT).read_text(encoding="ascii") == wanted
    except (OSError, ValueError):
        return False
