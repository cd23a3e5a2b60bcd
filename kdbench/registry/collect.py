"""Collect the specs of each plugin and check them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from kdbench.api.specs import (
    METRIC_NEEDS,
    SCHEME_NEEDS,
    SPEC_TYPES,
    MetricSpec,
    SchemeSpec,
    SchemeTeacher,
    Spec,
)
from kdbench.errors import did_you_mean
from kdbench.registry.import_guard import IMPORT_HINT, guarded
from kdbench.registry.plugins import Candidate, Failure, Loaded, error_place, function_place

_NAME = re.compile(r"[a-z0-9]+([-_.][a-z0-9]+)*(/(\*|[a-z0-9]+([-_.][a-z0-9]+)*))?")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[\w./-]+")


@dataclass(frozen=True)
class Origin:
    """Where a component comes from: its plugin, and the hook that returned it ("file:line")."""

    plugin: str
    distribution: str
    where: str

    def __str__(self) -> str:
        return f"{self.plugin} ({self.distribution}; {self.where})"


@dataclass(frozen=True)
class Entry:
    """One usable component."""

    spec: Spec
    origin: Origin

    @property
    def id(self) -> str:
        return f"{self.spec.kind}/{self.spec.name}"


def collect(loaded: Loaded) -> tuple[dict[str, Entry], dict[str, tuple[Origin, ...]]]:
    """All components by id ("reducers/pca"), and the ids that several origins claim, which none of them gets.

    What is wrong is added to `loaded.failures`.
    """
    by_id: dict[str, list[Entry]] = {}
    for kind in SPEC_TYPES:
        for impl in reversed(getattr(loaded.manager.hook, f"kdbench_{kind}").get_hookimpls()):
            candidate = loaded.candidates[impl.plugin_name]
            failures = loaded.failures[impl.plugin_name]
            if impl.hookwrapper or impl.wrapper:
                continue  # reported when the plugin was loaded
            origin = Origin(candidate.name, candidate.title, function_place(impl.function))
            for spec in _specs(kind, impl.function, candidate, failures):
                entry = Entry(spec, origin)
                by_id.setdefault(entry.id, []).append(entry)
    conflicts = {}
    for id_, entries in by_id.items():
        if len(entries) > 1:
            conflicts[id_] = tuple(e.origin for e in entries)
            what = (
                f"{id_} is defined by "
                + " and ".join(map(str, conflicts[id_]))
                + "; none of them can be used"
            )
            hint = "rename one, or select plugins with KDBENCH_PLUGINS"
            for name in dict.fromkeys(e.origin.plugin for e in entries):
                where = next(e.origin.where for e in entries if e.origin.plugin == name)
                loaded.failures[name].append(loaded.candidates[name].failure(what, where, hint))
    usable = {id_: entries[0] for id_, entries in sorted(by_id.items()) if len(entries) == 1}
    return usable, conflicts


def _specs(kind: str, function: Any, candidate: Candidate, failures: list[Failure]) -> Iterator[Spec]:
    where = function_place(function)
    wanted = SPEC_TYPES[kind]
    hook = f"kdbench_{kind}"
    items: list[object] = []
    try:
        with guarded(
            f"in {hook}", lambda what, at: failures.append(candidate.failure(what, at or where, IMPORT_HINT))
        ):
            returned = function()
            if not isinstance(returned, Iterable) or isinstance(returned, (str, bytes, Mapping)):
                what = (
                    f"{hook} returned {_short(returned)}, where an iterable of {wanted.__name__} is expected"
                )
                failures.append(candidate.failure(what, where))
                return
            for item in returned:  # one by one: what comes before an error is kept
                items.append(item)
    except Exception as error:  # a plugin's error, of whatever kind, is reported and stays the plugin's own
        what = f"{hook} raised {type(error).__name__}: {error}"
        broken = [candidate.failure(what, error_place(error) or where, _field_hint(error), error)]
    else:
        broken = []
    for spec in items:
        if not isinstance(spec, wanted):
            what = f"{hook} returned {_short(spec)} among its items, where {wanted.__name__} is expected"
            failures.append(candidate.failure(what, where))
        elif wrong := _wrong_field(spec):
            failures.append(candidate.failure(f"{hook}: {kind}/{spec.name}: {wrong}", where))
        else:
            yield spec
    failures += broken


def _short(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _field_hint(error: BaseException) -> str:
    """For `ReducerSpec(nmae=...)`: the field that was meant."""
    found = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    spec = next((t for t in SPEC_TYPES.values() if found and t.__name__ == found[1]), None)
    if found is None or spec is None:
        return "kdbench plugins doctor shows the traceback"
    return did_you_mean(found[2], [f.name for f in dataclasses.fields(spec)])


def _wrong_field(spec: Spec) -> str:
    """What is wrong with the values of a spec; "" for nothing."""
    if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name):
        return f"name={spec.name!r}: lower-case words joined by '-', or a family 'words/*'"
    if not isinstance(spec.target, str) or not _TARGET.fullmatch(spec.target):
        return f"target={spec.target!r}: 'module:attribute' is expected"
    if isinstance(spec.version, bool) or not isinstance(spec.version, int) or spec.version < 1:
        return f"version={spec.version!r}: an integer from 1"
    if spec.control not in (None, "positive", "negative"):
        return f"control={spec.control!r}: None, 'positive' or 'negative'"
    if isinstance(spec.requires, str):
        return f"requires={spec.requires!r}: a tuple of requirements, not one string"
    known = METRIC_NEEDS if isinstance(spec, MetricSpec) else SCHEME_NEEDS
    if isinstance(spec, (MetricSpec, SchemeSpec)):
        if isinstance(spec.needs, str):
            return f"needs={spec.needs!r}: a set of names, not one string"
        if unknown := sorted(set(spec.needs) - known):
            return f"needs={unknown[0]!r}: {did_you_mean(unknown[0], known)}"
    if isinstance(spec, SchemeSpec):
        if spec.teacher not in get_args(SchemeTeacher):
            return f"teacher={spec.teacher!r}: {' or '.join(map(repr, get_args(SchemeTeacher)))}"
        if isinstance(spec.variants, str):
            return f"variants={spec.variants!r}: a tuple of names, not one string"
    return ""
