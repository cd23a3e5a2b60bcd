"""`kdbench plugins new`: create a distribution with one working component.

The templates lie in `templates/`: `common/` for every kind, and one folder a kind. Their texts hold `${...}`, as
`string.Template` has it, with the values of `_values`; PACKAGE and MODULE in their paths are the names of those.
"""

from __future__ import annotations

import importlib.resources
import keyword
import re
import shutil
import string
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench import __version__
from kdbench.api.version import API_VERSION
from kdbench.errors import UsageError, WorkspaceError, did_you_mean

if TYPE_CHECKING:
    from kdbench.registry import Registry

KINDS = ("dataset", "architecture", "scheme", "reducer", "metric", "executor")

#: How a component of a kind is used, for the README of its distribution.
_USE = {
    "dataset": "kdbench run paper-reference --set data.dataset={name} --set 'data.budgets=[40]' "
    "--set data.embedded=200",
    "architecture": "kdbench run paper-reference --set student.architecture={name}",
    "scheme": "kdbench run paper-reference --set schemes+={name}",
    "reducer": "kdbench run paper-reference --set reducers+={name}",
    "metric": "kdbench run paper-reference --set metrics+={name}",
    "executor": "kdbench run paper-reference --executor {name}",
}
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")  # PEP 508


@dataclass(frozen=True)
class Made:
    """What `create` wrote: the folder, its files relative to it, and what to do next, commands line by line."""

    folder: Path
    files: tuple[str, ...]
    next_steps: tuple[str, ...]


def create(distribution: str, kind: str, into: str | Path, registry: Registry) -> Made:
    """Write the distribution into a new folder of its name.

    Parameters
    ----------
    distribution
        What `pip install` will call it. "kdbench-pacmap" brings the package `kdbench_pacmap` and the component
        `pacmap`.
    kind
        One of `KINDS`.
    into
        An existing folder.
    registry
        Plugins and components that are there already: their names are refused.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    UsageError
        No name of a distribution or a taken one, no such kind, no folder `into`, or one of that name in it. Nothing
        is written.
    WorkspaceError
        The folder can't be written. Nothing is left of it.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no kind {kind!r}", where="--kind", hint=did_you_mean(kind, KINDS))
    values = _values(distribution, kind)
    _refuse_taken(values, registry)
    parent = Path(into).expanduser()
    if not parent.is_dir():
        raise UsageError("there is no such folder", where=f"--into {into}", hint="make it first")
    folder = parent / distribution
    if folder.exists() or folder.is_symlink():
        hint = "take another name, or another folder with --into"
        raise UsageError("it is there already; nothing is overwritten", where=str(folder), hint=hint)
    # All of it or nothing: it gets its name when it is whole.
    draft = parent / f".{distribution}.{uuid.uuid4().hex[:8]}"
    files = {}
    try:
        for name, text in rendered(kind, values):
            file = draft / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            files[name] = file
        draft.rename(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise WorkspaceError(f"it can't be written: {error}", where=str(folder)) from error
    target = f"{values['kinds']}/{values['name']}"
    steps = (
        f"pip install -e '{folder}[test]'",
        f"kdbench show {target}",
        f"kdbench plugins check {target}",
        f"python -m pytest {folder}",
        values["use"],
    )
    return Made(folder, tuple(sorted(files)), steps)


def rendered(kind: str, values: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(path in the distribution, text) of every file of a kind's template."""
    templates = importlib.resources.files(__name__) / "templates"
    for part in ("common", kind):
        for name, file in _walk(templates / part):
            path = name.removesuffix(".tmpl").replace("PACKAGE", values["package"])
            path = path.replace("MODULE", values["module"])
            yield path, string.Template(file.read_text(encoding="utf-8")).substitute(values)


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".tmpl"):
            yield prefix + entry.name, entry


def _values(distribution: str, kind: str) -> dict[str, str]:
    where = f"kdbench plugins new {distribution}"
    if not _DISTRIBUTION.fullmatch(distribution):
        what = f"{distribution!r} is no name of a distribution"
        hint = "letters, digits, '-', '_' and '.', with a letter or digit at both ends: kdbench-pacmap"
        raise UsageError(what, where=where, hint=hint)
    normal = re.sub(r"[-_.]+", "-", distribution).lower()
    name = normal.removeprefix("kdbench-")
    package = normal.replace("-", "_")
    if normal == "kdbench" or not package.isidentifier() or keyword.iskeyword(package):
        what = f"{distribution!r} makes the import package {package!r}, which can't be"
        raise UsageError(what, where=where, hint=f"kdbench-{name} would do" if normal != "kdbench" else "")
    module = name.replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module):
        module = f"{kind}_{module}"
    words = "".join(word.capitalize() for word in name.split("-"))
    return {
        "distribution": distribution,
        "package": package,
        "name": name,
        "module": module,
        "cls": words
        if words.isidentifier() and not keyword.iskeyword(words)
        else f"{kind.capitalize()}{words}",
        "kind": kind,
        "kinds": f"{kind}s",
        "a_kind": f"an {kind}" if kind[0] in "ae" else f"a {kind}",
        "Kind": kind.capitalize(),
        "use": _USE[kind].format(name=name),
        "kdbench": __version__,
        "api": str(API_VERSION),
    }


def _refuse_taken(values: dict[str, str], registry: Registry) -> None:
    hint = "take another name, or uninstall that one"
    for info in registry.plugins():
        if info.name == values["package"]:
            what = f"the plugin name {info.name!r} is taken by {info.distribution} {info.version} ({info.origin})"
            raise UsageError(what, where=values["distribution"], hint=hint)
    if values["name"] in {spec.name for spec in registry.specs(values["kinds"])}:
        origin = registry.origin(values["kinds"], values["name"])
        what = f"{values['kinds']}/{values['name']} is taken by {origin}"
        raise UsageError(what, where=values["distribution"], hint=hint)
