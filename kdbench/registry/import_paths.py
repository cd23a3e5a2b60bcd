"""Reducers by import path, such as "sklearn.manifold:MDS": classes that follow scikit-learn's conventions."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
from importlib import metadata
from pathlib import Path

from kdbench.api.specs import ReducerSpec
from kdbench.errors import UsageError
from kdbench.registry.components import Parameter

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_import_path(kind: str, name: str) -> bool:
    """Whether `name` names a reducer by import path."""
    return kind == "reducers" and ":" in name


def spec_of_import_path(path: str) -> ReducerSpec:
    """A spec for "module:Class". Its version is that of the distribution, so results of two never mix.

    Raises UsageError if `path` is not of that form, or the package is not installed.
    """
    where = f"reducers/{path}"
    if not _PATH.fullmatch(path):
        raise UsageError(f"{path!r} is not an import path", where=where, hint="write module:Class")
    top = path.partition(":")[0].partition(".")[0]
    found = importlib.util.find_spec(top)
    if found is None:
        raise UsageError(f"there is no module {top!r}", where=where, hint=_pip_hint(top))
    version = _distribution_version(top) or _source_version(path.partition(":")[0])
    return ReducerSpec(
        name=path,
        target=path,
        version=version,
        summary=f"a scikit-learn-compatible class, from {version}",
    )


def _pip_hint(module: str) -> str:
    return f"pip install {module.replace('_', '-')}, or whatever the distribution is called that brings {module!r}"


@functools.cache  # reads the file lists of all distributions, and they don't change under a running process
def _distribution_version(module: str) -> str:
    """Name and version of the distribution that brings a top-level module; "" for none."""
    distributions = metadata.packages_distributions().get(module)
    return f"{distributions[0]} {metadata.version(distributions[0])}" if distributions else ""


def _source_version(module: str) -> str:
    """A version for a module that no distribution owns: the hash of its source."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UsageError(f"the source of module {module!r} can't be found", where=f"reducers/{module}")
    return f"source {hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:12]}"


def two_dimensional(parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    """The same parameters, with `n_components` 2 by default: PCA's own default would keep every dimension."""
    if "n_components" in parameters:
        return {**parameters, "n_components": Parameter(parameters["n_components"].annotation, 2)}
    return parameters
