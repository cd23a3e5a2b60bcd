"""Where things are looked for: plugins, data, the workspace."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdbench.api.data import DataPlaces
    from kdbench.registry import Registry

#: Told of what is wrong without stopping the work, in one sentence.
Warn = Callable[[str], None]


def warn_in_python(sentence: str) -> None:
    """A `UserWarning` at the line that called kdbench, however deep inside it is told."""
    level, frame = 2, inspect.currentframe()
    frame = frame.f_back if frame else None
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "kdbench":
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, UserWarning, stacklevel=level)


def user_cache() -> Path:
    """Where this user's decoded datasets lie, and what components said of themselves."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("kdbench", appauthor=False))


def workspace_or_default(workspace: str | Path | None) -> Path:
    """`workspace`, else `$KDBENCH_HOME`, else `.kdbench`."""
    return Path(workspace if workspace is not None else os.environ.get("KDBENCH_HOME") or ".kdbench")


def data_places(data_dir: str | Path | None = None, download: bool = True) -> DataPlaces:
    """Where datasets are looked for: `data_dir`, `$KDBENCH_DATA` (several with `:`), the user cache."""
    from kdbench.api.data import DataPlaces

    cache = user_cache()
    named = [Path(p).expanduser() for p in os.environ.get("KDBENCH_DATA", "").split(os.pathsep) if p]
    folders = dict.fromkeys([*([Path(data_dir)] if data_dir is not None else []), *named, cache / "data"])
    return DataPlaces(folders=tuple(folders), cache=cache / "decoded", download=download)


def discover(plugins: Sequence[str | Path] = (), warn: Warn = warn_in_python) -> Registry:
    """The registry of the installed plugins and the given one-file ones; `warn` is told what is wrong with one.

    Raises:
        UsageError, PluginError: as `Registry.discover`.
    """
    from kdbench.registry import Registry

    registry = Registry.discover(files=plugins)
    for failure in registry.failures:
        warn(f"{failure} (kdbench doctor)")
    return registry
