"""Check that a plugin's API version is supported (see `kdbench.api.version`)."""

from __future__ import annotations

from dataclasses import dataclass

from kdbench import __version__
from kdbench.api.version import API_VERSION, OLDEST_API_VERSION


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a version. `refused`: the plugin is not loaded; `what` "" : nothing to say."""

    refused: bool = False
    what: str = ""
    hint: str = ""


def verdict(
    declared: object, *, current: int = API_VERSION, oldest: int = OLDEST_API_VERSION, distribution: str = ""
) -> Verdict:
    """On `kdbench_api` of a plugin's module, None where there is none."""
    if declared is None or (declared == current and type(declared) is int):
        return Verdict()
    if not isinstance(declared, int) or isinstance(declared, bool) or declared < 1:
        return Verdict(True, f"kdbench_api={declared!r}: a whole number from 1", f"kdbench_api = {current}")
    if declared > current:
        what = f"it is written for API {declared} of plugins, and kdbench {__version__} has {current}"
        return Verdict(True, what, "pip install -U kdbench, or take an older release of the plugin")
    upgrade = f"pip install -U {distribution}" if distribution else "take a newer release of the plugin"
    if declared < oldest:
        what = f"it is written for API {declared} of plugins, and kdbench {__version__} serves {oldest} to {current}"
        return Verdict(True, what, f"{upgrade}, or an older kdbench")
    what = f"it is written for API {declared} of plugins, which a coming kdbench will not serve; {current} is current"
    return Verdict(False, what, upgrade)
