"""Which requirements are not installed. Nothing is imported to find out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata


def absent(requirements: Iterable[str]) -> list[str]:
    """Those requirements ("umap-learn>=0.5") whose distribution is not installed, of whatever version."""
    missing = []
    for requirement in requirements:
        found = re.match(r"[A-Za-z0-9][\w.-]*", requirement.strip())
        try:
            metadata.version(found[0] if found else requirement)
        except metadata.PackageNotFoundError:
            missing.append(requirement)
    return missing


def absent_of(distribution: str) -> list[str]:
    """What an installed distribution requires and is not installed, its extras left out."""
    try:
        required = metadata.requires(distribution) or ()
    except metadata.PackageNotFoundError:
        return []
    return absent(r.partition(";")[0].strip() for r in required if "extra" not in r.partition(";")[2])


def pip_install(requirements: Iterable[str]) -> str:
    """The command that installs them."""
    return "pip install " + " ".join(f'"{r}"' for r in requirements)
