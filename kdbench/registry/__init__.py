"""The registry of plugins and their components.

Nothing behind a component is imported until it is resolved. After `discover` a registry does not change.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, overload

import pluggy

from kdbench import __version__
from kdbench.api.specs import (
    SPEC_TYPES,
    ArchitectureSpec,
    DatasetSpec,
    ExecutorSpec,
    MetricSpec,
    ReducerSpec,
    SchemeSpec,
    Spec,
    SuiteSpec,
)
from kdbench.errors import PluginError, UsageError, did_you_mean
from kdbench.registry.collect import Entry, Origin, collect
from kdbench.registry.components import (
    ENGINE_PARAMETERS,
    REQUIRED,
    Parameter,
    RegisteredComponent,
    import_target,
    missing_requirement,
    missing_requirements,
    plain,
    read_parameters,
)
from kdbench.registry.import_paths import is_import_path, spec_of_import_path, two_dimensional
from kdbench.registry.plugins import (
    Failure,
    PluginInfo,
    Status,
    entry_point_candidates,
    error_place,
    file_candidate,
    function_place,
    load_plugins,
    raise_failures,
)

__all__ = [
    "ENGINE_PARAMETERS",
    "KINDS",
    "REQUIRED",
    "Failure",
    "Parameter",
    "PluginInfo",
    "RegisteredComponent",
    "Registry",
]

KINDS: tuple[str, ...] = tuple(SPEC_TYPES)


class _Found(NamedTuple):
    """A component's spec, its origin for people, and its entry (None for an import path)."""

    spec: Spec
    origin: str
    entry: Entry | None


@dataclass(frozen=True, eq=False)
class Registry:
    """All components of all plugins. Made by `Registry.discover`; pickles as the arguments of that call."""

    select: tuple[str, ...] | None
    files: tuple[Path, ...]
    failures: tuple[Failure, ...]
    _entries: Mapping[str, Entry]
    _conflicts: Mapping[str, tuple[Origin, ...]]
    _plugins: tuple[PluginInfo, ...]
    _manager: pluggy.PluginManager

    @classmethod
    def discover(
        cls,
        *,
        select: Sequence[str] | None = None,
        files: Sequence[str | Path] = (),
        broken_files: bool = False,
    ) -> Registry:
        """Find and check the plugins.

        Parameters
        ----------
        select
            Names of the installed plugins to load; by default those in `KDBENCH_PLUGINS` (separated by commas), or
            all of them where that is unset or empty.
        files
            One-file plugins, loaded besides. What is wrong with one of these is an error unless `broken_files`, which
            keeps it among the `failures`.
        broken_files
            Keep a broken one-file plugin among the `failures` instead of raising.

        Returns
        -------
        Registry
            All components of all plugins.

        Raises
        ------
        UsageError
            a file or a selected plugin does not exist.
        PluginError
            a one-file plugin is broken; or any plugin is, under `KDBENCH_STRICT=1`.
        """
        if select is None:
            select = os.environ.get("KDBENCH_PLUGINS", "").replace(",", " ").split() or None
        paths = tuple(dict.fromkeys(Path(f).expanduser().absolute() for f in files))
        loaded = load_plugins([*entry_point_candidates(), *map(file_candidate, paths)], select)
        entries, conflicts = collect(loaded)
        infos = list(loaded.broken)
        for name, candidate in loaded.candidates.items():
            ids = tuple(id_ for id_, entry in entries.items() if entry.origin.plugin == name)
            wrong = loaded.failures[name]
            status: Status = "ok" if not wrong else "partly" if ids else "failed"
            infos.append(dataclasses.replace(candidate.info(wrong, status), components=ids))
        infos.sort(key=lambda i: (i.name, i.distribution))
        failures = tuple(f for info in infos for f in info.failures)
        stems = {p.stem for p in paths}
        strict = os.environ.get("KDBENCH_STRICT", "") not in ("", "0")
        raise_failures([f for f in failures if strict or (f.plugin in stems and not broken_files)])
        return cls(
            select=tuple(select) if select is not None else None,
            files=paths,
            failures=failures,
            _entries=MappingProxyType(entries),
            _conflicts=MappingProxyType(conflicts),
            _plugins=tuple(infos),
            _manager=loaded.manager,
        )

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # a worker finds the plugins again; hooks and modules don't travel
        return _rediscover, (self.select, self.files)

    # What there is

    def plugins(self) -> list[PluginInfo]:
        """Every plugin that was found, broken and deselected ones too, by name."""
        return list(self._plugins)

    def versions(self) -> dict[str, str]:
        """Version of kdbench and of every plugin that brings something, for records."""
        found = {
            i.name: f"{i.distribution} {i.version}" for i in self._plugins if i.status in ("ok", "partly")
        }
        return {"kdbench": __version__, **found}

    def specs(self, kind: str) -> list[Spec]:
        """The usable components of a kind, by name. Raises UsageError if there is no such kind."""
        _check_kind(kind)
        return [entry.spec for entry in self._entries.values() if entry.spec.kind == kind]

    @overload
    def spec(self, kind: Literal["datasets"], name: str) -> DatasetSpec: ...

    @overload
    def spec(self, kind: Literal["architectures"], name: str) -> ArchitectureSpec: ...

    @overload
    def spec(self, kind: Literal["schemes"], name: str) -> SchemeSpec: ...

    @overload
    def spec(self, kind: Literal["reducers"], name: str) -> ReducerSpec: ...

    @overload
    def spec(self, kind: Literal["metrics"], name: str) -> MetricSpec: ...

    @overload
    def spec(self, kind: Literal["executors"], name: str) -> ExecutorSpec: ...

    @overload
    def spec(self, kind: Literal["suites"], name: str) -> SuiteSpec: ...

    @overload
    def spec(self, kind: str, name: str) -> Spec: ...

    def spec(self, kind: str, name: str) -> Spec:
        """The spec of one component. A member of a family ("timm/resnet34") has the family's, under its name.

        Raises UsageError if there is no such kind or component, and PluginError if several plugins define it.
        """
        return self._find(kind, name).spec

    def origin(self, kind: str, name: str) -> str:
        """Plugin, distribution and "file:line" of a component, for people. Raises as `spec`."""
        return self._find(kind, name).origin

    def plugin_of(self, kind: str, name: str) -> PluginInfo:
        """The plugin of a component. Raises as `spec`; UsageError for an import path, which has none."""
        entry = self._find(kind, name).entry
        if entry is None:
            raise UsageError("it comes from no plugin", where=f"{kind}/{name}")
        return next(info for info in self._plugins if info.name == entry.origin.plugin)

    def code(self, kind: str, name: str) -> dict[str, Any]:
        """Which code a component is, as it stands in keys and records: its spec's `version`; of a one-file plugin's
        also `source`, for a file that is being worked on has no version that anybody raises."""
        source = self.source_digest(kind, name)
        return {"version": self.spec(kind, name).version, **({"source": source} if source else {})}

    def source_digest(self, kind: str, name: str) -> str:
        """Digest of the file that a one-file plugin's component comes from; "" for an installed one, whose
        version says when its results may change."""
        entry = self._find(kind, name).entry
        if entry is None:
            return ""
        info = next(info for info in self._plugins if info.name == entry.origin.plugin)
        return info.version if info.distribution == "file" else ""

    def _find(self, kind: str, name: str) -> _Found:
        _check_kind(kind)
        id_ = f"{kind}/{name}"
        if id_ in self._entries:
            entry = self._entries[id_]
            return _Found(entry.spec, str(entry.origin), entry)
        if is_import_path(kind, name):
            return _Found(spec_of_import_path(name), f"import path {name}", None)
        family, _, member = name.partition("/")
        entry_ = self._entries.get(f"{kind}/{family}/*") if member and member != "*" else None
        if entry_ is not None:
            return _Found(dataclasses.replace(entry_.spec, name=name), str(entry_.origin), entry_)
        for taken in (id_, f"{kind}/{family}/*"):
            if taken in self._conflicts:
                both = " and ".join(map(str, self._conflicts[taken]))
                hint = "rename one, or select plugins with KDBENCH_PLUGINS"
                raise PluginError(f"{taken} is defined by {both}", where=id_, hint=hint)
        raise UsageError(
            f"there is no {name!r} among the {kind}", where=id_, hint=self._absent_hint(kind, name)
        )

    def _absent_hint(self, kind: str, name: str) -> str:
        names = [s.name for s in self.specs(kind)]
        others = [k for k in KINDS if f"{k}/{name}" in self._entries]
        broken = sorted({i.name for i in self._plugins if i.status in ("failed", "partly")})
        if others:
            hint = f"{name!r} is one of the {others[0]}"
        else:
            hint = did_you_mean(name, names)
            if kind != "suites" and not self.files:
                hint += " (a component of your own file needs --plugin FILE.py)"
        return hint + (f"; broken plugins: {', '.join(broken)} (kdbench doctor)" if broken else "")

    # From a name to an object

    def resolve(self, kind: str, name: str) -> RegisteredComponent:
        """Import what is behind a name.

        Raises UsageError if there is no such component, and PluginError if it can't be imported (the hint says what
        to install), or breaks its contract.
        """
        spec, origin, entry = self._find(kind, name)
        foreign = entry is None
        file_stem = entry.origin.plugin if entry and self._is_file(entry.origin.plugin) else ""
        if missing_requirements(spec):
            raise missing_requirement(spec)
        factory = import_target(spec, file_stem)
        id_ = f"{kind}/{name}"
        if foreign and not hasattr(factory, "fit_transform"):
            raise UsageError(
                f"{name} has no fit_transform", where=id_, hint="name a scikit-learn-compatible class"
            )
        parameters = read_parameters(factory, id_, foreign=foreign)
        bound = {}
        if entry is not None and entry.spec.name.endswith("/*"):
            if "model" not in parameters:
                raise PluginError("the target of a family takes the keyword 'model'", where=id_)
            del parameters["model"]
            bound = {"model": name.partition("/")[2]}
        engine = {n: p for n, p in parameters.items() if n in ENGINE_PARAMETERS}
        parameters = {n: p for n, p in parameters.items() if n not in ENGINE_PARAMETERS}
        if foreign:
            parameters = two_dimensional(parameters)
        return RegisteredComponent(spec, factory, MappingProxyType(parameters), engine, bound, origin)

    def parameters(self, kind: str, name: str) -> dict[str, Parameter]:
        """The parameters of a component: a suite's, then the engine's. Raises as `resolve`."""
        component = self.resolve(kind, name)
        return {**component.parameters, **component.engine}

    def check(self, kind: str, name: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The parameters with all defaults filled in, as plain JSON data: what goes into a key.

        The constructor is called too, so that what it refuses is refused before anything runs. The engine's
        own parameters (`ENGINE_PARAMETERS`) are not among them.

        Raises UsageError or PluginError if as `resolve`, and SuiteError if an unknown parameter, a wrong type, or a
        value that the constructor refuses.
        """
        component = self.resolve(kind, name)
        values = component.values(params or {})
        component.build(values)
        return plain(values, component.parameters)

    def create(self, kind: str, name: str, params: Mapping[str, Any] | None = None, **engine: Any) -> Any:
        """A component with checked parameters.

        Parameters
        ----------
        kind
            Kind of the component.
        name
            Its name.
        params
            What the suite sets, or what `check` returned; the engine's may be among them.
        **engine
            Values for `random_state`, `n_jobs`, `device`; those that the constructor does not take are left out.

        Returns
        -------
        object
            The component.

        Raises
        ------
        Exception
            As `check`.
        """
        component = self.resolve(kind, name)
        params = dict(params or {})
        engine = {n: params.pop(n) for n in component.engine if n in params} | engine
        unknown = set(engine) - ENGINE_PARAMETERS
        if unknown:
            raise TypeError(f"not a parameter of the engine: {sorted(unknown)}; pass it in params")
        return component.build(component.values(params), engine)

    def suite_file(self, name: str) -> Traversable | Path:
        """The TOML file of a suite by name.

        Raises UsageError if there is no such suite, and PluginError if its plugin does not ship the file.
        """
        spec, _, entry = self._find("suites", name)
        assert entry is not None, "only reducers have import paths"
        package, _, inside = spec.target.partition(":")
        file: Traversable | Path
        if self._is_file(entry.origin.plugin) and package == entry.origin.plugin:
            file = next(p for p in self.files if p.stem == package).parent / inside
        else:
            try:
                file = importlib.resources.files(package).joinpath(inside)
            except ImportError as error:
                raise PluginError(f"there is no package {package!r}", where=f"suites/{name}") from error
        if not file.is_file():
            raise PluginError(
                f"its file {spec.target!r} does not exist", where=f"suites/{name} ({entry.origin})"
            )
        return file

    def _is_file(self, plugin: str) -> bool:
        return any(p.stem == plugin for p in self.files)

    # Observers

    def notify(self, hook: str, **arguments: Any) -> list[Failure]:
        """Call an observer hook ("kdbench_run_started", ...) of every plugin that has it, in their order.

        An observer that raises stops neither the others nor the run: its error is returned as a failure.
        """
        failures = []
        by_name = {i.name: i for i in self._plugins}
        for impl in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
            if impl.hookwrapper or impl.wrapper:
                continue  # reported when the plugin was loaded
            try:
                impl.function(*(arguments[a] for a in impl.argnames))
            except Exception as error:
                info = by_name[impl.plugin_name]
                what = f"{hook} raised {type(error).__name__}: {error}"
                where = error_place(error) or function_place(impl.function)
                failures.append(Failure(info.name, f"{info.distribution} {info.version}", what, where))
        return failures


def _rediscover(select: tuple[str, ...] | None, files: tuple[Path, ...]) -> Registry:
    return Registry.discover(select=select, files=files)


def _check_kind(kind: str) -> None:
    if kind not in SPEC_TYPES:
        raise UsageError(f"there is no kind {kind!r}", hint=did_you_mean(kind, KINDS))
