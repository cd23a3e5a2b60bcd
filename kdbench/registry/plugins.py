"""Find and import plugins: entry points of the group `kdbench`, and single files.

pluggy's own loader lets one plugin's ImportError stop the host, keeps one of two plugins with the same name
in silence, and ignores a function whose marker was forgotten. Here each of these becomes a `Failure`, and
everything else goes on working.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pluggy

from kdbench.api import hookspecs
from kdbench.api.version import API_VERSION
from kdbench.errors import PluginError, UsageError, did_you_mean
from kdbench.registry.import_guard import IMPORT_HINT, guarded
from kdbench.registry.requirements import missing_of, pip_install
from kdbench.registry.versions import verdict

GROUP = "kdbench"
_IMPL_MARK, _SPEC_MARK = "kdbench_impl", "kdbench_spec"  # pluggy's attributes: project name + suffix
_FILE_PREFIX = "kdbench_file_"

Status = Literal["ok", "partly", "failed", "deselected"]


@dataclass(frozen=True)
class Failure:
    """One thing that is wrong with a plugin.

    Attributes
    ----------
    plugin
        Entry-point name, or the stem of a one-file plugin.
    distribution
        "name version", or the file.
    what
        One sentence.
    where
        "file:line" where it can be told.
    hint
        What to do.
    traceback
        The original one, "" where no exception was raised.
    """

    plugin: str
    distribution: str
    what: str
    where: str = ""
    hint: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"plugin {self.plugin} ({self.distribution}): {where}{self.what}"


@dataclass(frozen=True)
class PluginInfo:
    """One plugin as found.

    Attributes
    ----------
    name
        Entry-point name, or the stem of a one-file plugin.
    distribution
        Of the distribution; for a file, "file" and the start of its SHA-256.
    version
        Of the distribution; for a file, "file" and the start of its SHA-256.
    origin
        Where its code lies, or the entry point's value when it could not be imported.
    components
        Ids ("reducers/pca") that are usable.
    failures
        What is wrong with it.
    status
        "ok"; "partly" (something is wrong, the components listed work); "failed" (nothing works); "deselected" by
        KDBENCH_PLUGINS.
    """

    name: str
    distribution: str
    version: str
    origin: str
    components: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    status: Status = "ok"


@dataclass(frozen=True)
class Candidate:
    """A plugin that was found and not imported yet."""

    name: str
    distribution: str
    version: str
    origin: str
    load: Callable[[], object]
    path: Path | None = None

    @property
    def title(self) -> str:
        return f"{self.distribution} {self.version}".strip()

    def failure(
        self, what: str, where: str = "", hint: str = "", error: BaseException | None = None
    ) -> Failure:
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        return Failure(self.name, self.title, what, where, hint, text)

    def info(self, failures: Iterable[Failure] = (), status: Status = "failed") -> PluginInfo:
        return PluginInfo(
            self.name, self.distribution, self.version, self.origin, failures=tuple(failures), status=status
        )


@dataclass
class Loaded:
    """What `load_plugins` made of the candidates. `candidates`: those that pluggy accepted, by name."""

    manager: pluggy.PluginManager
    candidates: dict[str, Candidate] = field(default_factory=dict)
    broken: list[PluginInfo] = field(default_factory=list)
    failures: dict[str, list[Failure]] = field(default_factory=lambda: defaultdict(list))


def entry_point_candidates() -> list[Candidate]:
    """The entry points of the group `kdbench`, sorted by name and distribution. Nothing is imported."""
    found = []
    for point in metadata.entry_points(group=GROUP):
        dist = point.dist
        name, version = (
            (dist.metadata["Name"] or "unknown", dist.version) if dist is not None else ("unknown", "")
        )
        found.append(Candidate(point.name, name, version, point.value, point.load))
    return sorted(found, key=lambda c: (c.name, c.distribution))


def file_candidate(path: str | Path) -> Candidate:
    """A one-file plugin. Raises UsageError if there is no such file, or its name is not that of a Python file."""
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise UsageError(
            "there is no such file", where=f"--plugin {path}", hint="give the path of a Python file"
        )
    if file.suffix != ".py":
        raise UsageError("a plugin file ends in .py", where=f"--plugin {path}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return Candidate(file.stem, "file", digest, str(file), lambda: _load_file(file, digest), file)


def file_module(stem: str) -> str:
    """The name in `sys.modules` of a one-file plugin; a prefix keeps `random.py` from shadowing `random`."""
    return _FILE_PREFIX + re.sub(r"\W", "_", stem)


def _load_file(file: Path, digest: str) -> ModuleType:
    name = file_module(file.stem)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__kdbench_source__", None) == (str(file), digest):
        return known  # loaded before: its classes must stay the same objects, or they can't be pickled
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None  # a .py file has one
    module = importlib.util.module_from_spec(spec)
    module.__kdbench_source__ = (str(file), digest)  # type: ignore[attr-defined]
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_plugins(candidates: Sequence[Candidate], select: Sequence[str] | None) -> Loaded:
    """Import the selected candidates and register them with pluggy; whatever goes wrong becomes a failure.

    Raises UsageError if `select` names a plugin that does not exist.
    """
    loaded = Loaded(pluggy.PluginManager("kdbench"))
    loaded.manager.add_hookspecs(hookspecs)
    by_name: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_name[candidate.name].append(candidate)
    for name in select or ():
        if name not in by_name:
            raise UsageError(
                f"there is no plugin {name!r}", where="KDBENCH_PLUGINS", hint=did_you_mean(name, by_name)
            )
    for name, group in by_name.items():
        if select is not None and name not in select and group[0].path is None:
            loaded.broken += [c.info(status="deselected") for c in group]
        elif len(group) > 1:
            both = " and ".join(f"{c.title} ({c.origin})" for c in group)
            what = f"the plugin name {name!r} is used by {both}; neither is loaded"
            hint = "uninstall one of them"
            loaded.broken += [c.info([c.failure(what, hint=hint)]) for c in group]
        else:
            _load_one(group[0], loaded)
    return loaded


def _load_one(candidate: Candidate, loaded: Loaded) -> None:
    rude: list[tuple[str, str]] = []
    try:
        with guarded("while it was imported", lambda what, where: rude.append((what, where))):
            plugin = candidate.load()
    except (Exception, SystemExit) as error:
        what = f"can't be imported: {type(error).__name__}: {error}"
        where = error_place(error) or candidate.origin
        loaded.broken.append(candidate.info([candidate.failure(what, where, _hint(error, candidate), error)]))
        return
    candidate = replace(candidate, origin=str(getattr(plugin, "__file__", None) or candidate.origin))
    distribution = "" if candidate.path else candidate.distribution
    version = verdict(getattr(plugin, "kdbench_api", None), distribution=distribution)
    if version.refused:
        failure = candidate.failure(version.what, _line_of(plugin, "kdbench_api"), version.hint)
        loaded.broken.append(candidate.info([failure]))
        return
    failures = [candidate.failure(what, where or candidate.origin, IMPORT_HINT) for what, where in rude]
    if version.what:
        failures.append(candidate.failure(version.what, _line_of(plugin, "kdbench_api"), version.hint))
    failures += [candidate.failure(*wrong) for wrong in _wrong_hooks(plugin)]
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            loaded.manager.register(plugin, name=candidate.name)
    except (pluggy.PluginValidationError, ValueError) as error:
        if loaded.manager.has_plugin(candidate.name):
            loaded.manager.unregister(name=candidate.name)
        what = " ".join(str(error).split())
        loaded.broken.append(
            candidate.info([*failures, candidate.failure(what, candidate.origin, error=error)])
        )
        return
    for warning in warned:  # of a hook that is going to be taken away
        failures.append(candidate.failure(str(warning.message), f"{warning.filename}:{warning.lineno}"))
    loaded.candidates[candidate.name] = candidate
    loaded.failures[candidate.name] += failures


def _line_of(plugin: object, name: str) -> str:
    """ "file:line" of the assignment to `name` in a plugin's module; its file where that is not found."""
    file = getattr(plugin, "__file__", None)
    if file is None:
        return ""
    lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    number = next((n for n, line in enumerate(lines, 1) if re.match(rf"{name}\b.*=", line)), None)
    return f"{file}:{number}" if number else str(file)


def _wrong_hooks(plugin: object) -> Iterable[tuple[str, str, str]]:
    """(what, where, hint) for functions that look like hooks and are none."""
    known = [n for n, o in vars(hookspecs).items() if hasattr(o, _SPEC_MARK)]
    for name in sorted(n for n in dir(plugin) if n.startswith("kdbench_")):
        function = getattr(plugin, name)
        if not inspect.isroutine(function) or hasattr(function, _SPEC_MARK):
            continue
        mark = getattr(function, _IMPL_MARK, None)
        where = function_place(function)
        if mark is None:
            what = f"{name} has no marker, so it is not called"
            yield what, where, "put @kdbench.api.hookimpl above it, or rename it"
        elif (mark.get("specname") or name) not in known and not mark.get("optionalhook"):
            yield f"there is no hook {name}, so it is not called", where, did_you_mean(name, known)
        elif mark.get("wrapper") or mark.get("hookwrapper"):
            yield f"{name} is a wrapper, so it is not called", where, "hooks of kdbench have nothing to wrap"


def function_place(function: Any) -> str:
    """ "file:line" of a function's definition; "" for one without source."""
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def error_place(error: BaseException) -> str:
    """ "file:line" where `error` arose: the innermost frame that is not import machinery or this package."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    here = str(Path(__file__).parent)
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith(("<frozen", here)) and "importlib" not in Path(f.filename).parts
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _hint(error: BaseException, candidate: Candidate) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        if lacking := [] if candidate.path else missing_of(candidate.distribution):
            return pip_install(lacking)
        return f"install what provides {error.name!r}, or import it inside the component that needs it"
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "kdbench":
        return f"it may be written for another version of kdbench; this one has API {API_VERSION} of plugins"
    return "kdbench plugins doctor shows the traceback"


def raise_failures(failures: Sequence[Failure]) -> None:
    """Raise one PluginError for all of `failures`; nothing when there is none."""
    if not failures:
        return
    first = failures[0]
    if len(failures) == 1:
        raise PluginError(first.what, where=f"plugin {first.plugin} {first.where}".rstrip(), hint=first.hint)
    lines = "".join(f"\n  - {f}" for f in failures)
    raise PluginError(
        f"{len(failures)} things are wrong with plugins:{lines}", hint="kdbench plugins doctor says more"
    )
