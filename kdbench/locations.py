"""Locate plugins, data and the workspace."""

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

#: Called with a warning of one sentence.
Warn = Callable[[str], None]


def python_warning(sentence: str) -> None:
    """Issue a `UserWarning` attributed to the line outside of kdbench that called into it."""
    level, frame = 2, inspect.currentframe()
    frame = frame.f_back if frame else None
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "kdbench":
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, UserWarning, stacklevel=level)


def user_cache() -> Path:
    """Return the user's cache folder: decoded datasets, and what is known of components."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("kdbench", appauthor=False))


def workspace_or_default(workspace: str | Path | None) -> Path:
    """Return `workspace`, or else `$KDBENCH_HOME`, or else `.kdbench`."""
    return Path(workspace if workspace is not None else os.environ.get("KDBENCH_HOME") or ".kdbench")


def data_places(data_dir: str | Path | None = None, download: bool = True) -> DataPlaces:
    """List the folders to look for datasets in: `data_dir`, those of `$KDBENCH_DATA`, the user cache.

    Parameters
    ----------
    data_dir
        Folder to look in first.
    download
        Whether missing datasets may be downloaded.

    Returns
    -------
    DataPlaces
        The folders, and where decoded datasets are cached.
    """
    from kdbench.api.data import DataPlaces

    cache = user_cache()
    named = [Path(p).expanduser() for p in os.environ.get("KDBENCH_DATA", "").split(os.pathsep) if p]
    folders = dict.fromkeys([*([Path(data_dir)] if data_dir is not None else []), *named, cache / "data"])
    return DataPlaces(folders=tuple(folders), cache=cache / "decoded", download=download)


def discover(plugins: Sequence[str | Path] = (), warn: Warn = python_warning) -> Registry:
    """Discover the installed plugins and load one-file plugins.

    Parameters
    ----------
    plugins
        Paths of one-file plugins.
    warn
        Called for each plugin that can't be loaded.

    Returns
    -------
    Registry
        The registry of all plugins.

    Raises
    ------
    UsageError
        A one-file plugin does not exist, or two components have one name.
    PluginError
        A one-file plugin can't be loaded.
    """
    from kdbench.registry import Registry

    registry = Registry.discover(files=plugins, memory=user_cache() / "components.json")
    for failure in registry.failures:
        warn(f"{failure} (kdbench doctor)")
    return registry
