"""Find the components that a target names."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kdbench.api.specs import SPEC_TYPES, Spec
from kdbench.errors import PluginError, UsageError, did_you_mean
from kdbench.registry import Registry
from kdbench.registry.collect import Entry, Origin
from kdbench.registry.import_paths import spec_of_import_path

#: Kinds that there are checks for.
KINDS = ("reducers", "metrics", "datasets", "architectures", "schemes", "executors")
#: Methods by which the kind of a class without a spec is recognised, those with more members first.
_MEMBERS = {
    "executors": ("start", "submit", "wait", "stop"),
    "architectures": ("build", "taps", "head"),
    "reducers": ("fit_transform",),
    "datasets": ("load",),
    "schemes": ("epoch",),
    "metrics": ("__call__",),
}
#: Kinds whose components can't be tried without what their spec says they need.
_SPEC_DECIDES = ("schemes", "metrics")


@dataclass(frozen=True, eq=False)
class Target:
    """One component that is to be checked.

    Attributes
    ----------
    params
        The component's parameters, where the defaults do not do or take long.
    setting
        What the checks of the kind take besides: `folders` of a dataset's files.
    """

    kind: str
    name: str
    registry: Registry = field(repr=False)
    params: Mapping[str, Any] = field(default_factory=dict)
    setting: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """ "reducers/umap", or "reducers/umap[n_epochs=20]"."""
        params = ",".join(f"{k}={v}" for k, v in self.params.items())
        return f"{self.kind}/{self.name}" + (f"[{params}]" if params else "")

    @cached_property
    def fixture(self) -> Any:
        """What the checks are called with; it keeps what several of them look at.

        Raises PluginError if the component can't be imported (the hint has the pip command), or breaks its contract,
        and UsageError or SuiteError if there is no such component, or parameters that it does not take.
        """
        self.registry.check(self.kind, self.name, self.params)
        return _fixture_type(self.kind)(self.name, self.registry, self.params, **self.setting)

    @property
    def expected_failed_checks(self) -> Mapping[str, str]:
        """What the component's own attribute of this name says: check to reason."""
        factory = self.registry.resolve(self.kind, self.name).factory
        return dict(getattr(factory, "expected_failed_checks", {}))


def find_targets(
    target: str | Spec | Target,
    *,
    kind: str | None = None,
    params: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
    **setting: Any,
) -> list[Target]:
    """The components that `target` names.

    Parameters
    ----------
    target
        "reducers/umap"; a one-file plugin, "my.py", of which all components are meant, or "my.py:name"; the folder of
        an installed distribution's project; "module:attribute" of a class or a spec; a spec; or a `Target`, as it is.
    kind
        Of the component, where a class does not tell: "reducers" or "reducer".
    params
        The component's parameters.
    registry
        To look in; that of the installed plugins by default.
    **setting
        Passed on to the targets.

    Returns
    -------
    list of Target
        The targets.

    Raises
    ------
    UsageError
        No such file, module or component, or a kind that can't be determined.
    PluginError
        a plugin or a module that can't be imported.
    """
    if isinstance(target, Target):
        return [target]
    kind = _kind(kind) if kind else None
    file, found = ("", "") if isinstance(target, Spec) else _file(target)
    if not isinstance(target, Spec) and (folder := _distribution_folder(file or target)):
        registry = registry or Registry.discover()
        pairs = _of_distribution(registry, folder, kind)
    elif file:
        registry = Registry.discover(files=[*(registry.files if registry else ()), file])
        pairs = _of_file(registry, file, found, kind)
    else:
        registry = registry or Registry.discover()
        if isinstance(target, Spec):
            registry, pair = _with(registry, target)
            pairs = [pair]
        elif target.partition("/")[0] in SPEC_TYPES:
            pairs = [(_kind(target.partition("/")[0]), target.partition("/")[2])]
        elif ":" in target:
            registry, pair = _of_module(registry, target, kind)
            pairs = [pair]
        elif kind:
            pairs = [(kind, target)]
        else:
            raise UsageError(
                f"{target!r} names no component", hint='write "reducers/pca", "my.py" or "module:Class"'
            )
    for k, name in pairs:
        registry.spec(k, name)
        if name.endswith("/*"):
            hint = f"name one of its members: {k}/{name[:-1]}..."
            raise UsageError(f"{k}/{name} is a family, not a component", hint=hint)
    return [Target(k, name, registry, dict(params or {}), setting) for k, name in pairs]


def _kind(kind: str) -> str:
    for known in KINDS:
        if kind in (known, known.removesuffix("s")):
            return known
    raise UsageError(f"there are no checks for {kind!r}", hint=did_you_mean(kind, KINDS))


def _file(target: str) -> tuple[str, str]:
    """(file, name) of "my.py" and "my.py:name", else ("", "")."""
    if target.endswith(".py"):
        return target, ""
    file, _, name = target.rpartition(":")
    return (file, name) if file.endswith(".py") else ("", "")


def _distribution_folder(path: str) -> Path | None:
    """The project folder that `path` is, or that it lies in as a module of a package; None of other paths."""
    found = Path(path)
    if found.is_dir():
        start = found
    elif found.suffix == ".py" and (found.parent / "__init__.py").is_file():
        start = found.parent
    else:
        return None
    start = start.resolve()
    return next((p for p in (start, *start.parents) if (p / "pyproject.toml").is_file()), start)


def _of_distribution(registry: Registry, folder: Path, kind: str | None) -> list[tuple[str, str]]:
    """The components of the distribution whose project `folder` is.

    Raises UsageError if it is not installed, for a package's modules can't be imported before, or brings nothing.
    """
    project = folder / "pyproject.toml"
    name = ""
    if project.is_file():
        try:
            name = str(tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("name", ""))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"it can't be read: {error}", where=str(project)) from error
    plain = re.sub(r"[-_.]+", "-", name).lower()
    infos = [
        i for i in registry.plugins() if plain and re.sub(r"[-_.]+", "-", i.distribution).lower() == plain
    ]
    if not infos:
        raise UsageError(
            f"no plugin of {name or 'it'!r} is installed"
            if name
            else "it is no project with a pyproject.toml",
            where=str(folder),
            hint=f"pip install -e {folder}" if name else 'write "reducers/pca", "my.py" or "module:Class"',
        )
    ids = [id_ for info in infos for id_ in info.components]
    pairs = [(k, n) for k, _, n in (id_.partition("/") for id_ in ids) if k in KINDS and kind in (None, k)]
    if not pairs:
        raise UsageError("it brings no component that there are checks for", where=str(folder))
    return pairs


def _of_file(registry: Registry, file: str, name: str, kind: str | None) -> list[tuple[str, str]]:
    info = next(i for i in registry.plugins() if i.name == Path(file).stem)
    pairs = [(k, n) for k, _, n in (id_.partition("/") for id_ in info.components) if k in KINDS]
    chosen = [(k, n) for k, n in pairs if name in ("", n, f"{k}/{n}") and kind in (None, k)]
    if chosen:
        return chosen
    if name and pairs:
        raise UsageError(
            f"it has no component {name!r}", where=file, hint=did_you_mean(name, [n for _, n in pairs])
        )
    what = f"it brings no {kind}" if kind else "it brings no component"
    raise UsageError(
        what, where=file, hint="return a spec from a hook: @kdbench.api.hookimpl def kdbench_reducers()"
    )


def _of_module(registry: Registry, target: str, kind: str | None) -> tuple[Registry, tuple[str, str]]:
    """Of "module:attribute": the spec that it is, that a plugin registers for it, or that the class shows."""
    known = [
        s
        for k in KINDS
        for s in registry.specs(k)
        if s.target == target and kind in (None, k) and "*" not in s.name
    ]
    if known:
        return registry, (known[0].kind, known[0].name)
    module_name, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            hint = "install it, or run where it can be imported"
            raise UsageError(f"there is no module {error.name!r}", where=target, hint=hint) from error
        raise PluginError(
            f"it can't be imported: {error}", where=target, hint=f"install {error.name}"
        ) from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"it can't be imported: {type(error).__name__}: {error}", where=target) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [n for n in dir(found) if not n.startswith("_")]
            raise UsageError(
                f"there is no {part!r} in {module_name}", where=target, hint=did_you_mean(part, names)
            )
        found = getattr(found, part)
    if isinstance(found, Spec):
        return _with(registry, found)
    kind = kind or _told(found, target)
    if kind == "reducers":
        return registry, (kind, spec_of_import_path(target).name)
    if kind in _SPEC_DECIDES:
        hint = "name its spec, or the component of a plugin: what it needs stands in the spec"
        raise UsageError(f"a class alone does not say what one of the {kind} needs", where=target, hint=hint)
    name = "-".join(attribute.lower().replace("_", "-").split("."))
    return _with(registry, SPEC_TYPES[kind](name=name, target=target, summary=target))


def _told(found: Any, target: str) -> str:
    if inspect.isclass(found):
        for kind, members in _MEMBERS.items():
            if all(callable(getattr(found, m, None)) for m in members):
                return kind
    hint = "say it: --kind reducer, or kind='reducers'"
    raise UsageError("its kind of component can't be determined", where=target, hint=hint)


def _with(registry: Registry, spec: Spec) -> tuple[Registry, tuple[str, str]]:
    """The registry with one more component, or in the place of one of the same name."""
    kind = _kind(spec.kind)
    entry = Entry(spec, Origin("", "", spec.target))
    entries = {**registry._entries, f"{kind}/{spec.name}": entry}
    return dataclasses.replace(registry, _entries=MappingProxyType(entries)), (kind, spec.name)


def _fixture_type(kind: str) -> Any:
    module, name = {
        "reducers": ("fixtures.reducers", "ReducerFixture"),
        "metrics": ("fixtures.metrics", "MetricFixture"),
        "datasets": ("fixtures.datasets", "DatasetFixture"),
        "architectures": ("fixtures.architectures", "ArchitectureFixture"),
        "schemes": ("fixtures.schemes", "SchemeFixture"),
        "executors": ("fixtures.executors", "ExecutorFixture"),
    }[kind]
    return getattr(importlib.import_module(f"kdbench.testing.{module}"), name)
