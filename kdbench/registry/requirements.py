"""Check whether requirements are installed, without importing them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement


def missing(requirements: Iterable[str]) -> list[str]:
    """Return the requirements that the installed distributions do not meet.

    Parameters
    ----------
    requirements
        Requirements as pip reads them: "umap-learn>=0.5", "tomli; python_version < '3.11'".

    Returns
    -------
    list of str
        Those whose distribution is absent or of an excluded version, and those that cannot be parsed. A requirement
        whose marker does not apply here is not missing.
    """
    return [requirement for requirement in requirements if not _is_met(requirement)]


def missing_of(distribution: str) -> list[str]:
    """Return the unmet requirements of an installed distribution, without its extras."""
    try:
        return missing(metadata.requires(distribution) or ())
    except metadata.PackageNotFoundError:
        return []


def _is_met(text: str) -> bool:
    try:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            return True
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except (InvalidRequirement, metadata.PackageNotFoundError):
        return False


def pip_install(requirements: Iterable[str]) -> str:
    """Return the command that installs the requirements."""
    return "pip install " + " ".join(f'"{r}"' for r in requirements)
