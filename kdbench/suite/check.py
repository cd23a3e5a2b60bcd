"""Check what the schema can't express: names and parameters, duplicates, missing parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pydantic import ValidationError

from kdbench.api.specs import SchemeSpec
from kdbench.errors import PluginError, SuiteError, UsageError, did_you_mean
from kdbench.registry import Registry
from kdbench.suite.schema import Component, Student, Suite

Path = tuple[str | int, ...]
#: Maps a key path to where it was written: file, scale or override.
Where = Callable[[Sequence[str | int]], str]

_LISTS = ("schemes", "reducers", "metrics")
_SELECTORS = ("scheme", "budget", "tap", "reducer")


def components(suite: Suite) -> Iterator[tuple[Path, str, Component]]:
    """Yield (key path, kind, component) for every component that a suite names."""
    yield ("data", "dataset"), "datasets", suite.data.dataset
    if suite.teacher is not None:
        yield ("teacher", "architecture"), "architectures", suite.teacher.architecture
        if suite.teacher.source is not None:
            yield ("teacher", "source", "dataset"), "datasets", suite.teacher.source.dataset
    yield ("student", "architecture"), "architectures", suite.student.architecture
    for kind in _LISTS:
        for i, component in enumerate(getattr(suite, kind)):
            yield (kind, i), kind, component
            if "architecture" in component.student:
                architecture = suite.student_of(component).architecture
                yield (kind, i, "student", "architecture"), "architectures", architecture


def check_suite(suite: Suite, registry: Registry, where: Where) -> None:
    """Check a suite against the registry and for consistency; raise the first error.

    Parameters
    ----------
    suite
        The suite, with its scale and overrides merged in.
    registry
        Registry of the components.
    where
        Maps a key path to where it was written, for error messages.

    Raises
    ------
    SuiteError
        An unknown component or parameter, an invalid value, a duplicate, or a missing part.
    PluginError
        A component can't be imported.
    """
    _check_duplicates(suite, where)
    _check_students(suite, where)
    for path, kind, component in components(suite):
        try:
            registry.check(kind, component.name, component.params)
        except (UsageError, SuiteError) as error:
            what = error.what if isinstance(error, UsageError) else f"{component.name}: {error.what}"
            raise SuiteError(what, where=where(path), hint=error.hint) from error
        except PluginError as error:
            raise PluginError(error.what, where=f"{where(path)}: {error.where}", hint=error.hint) from error
    _check_teacher(suite, registry, where)
    _check_claims(suite, where)


def _check_duplicates(suite: Suite, where: Where) -> None:
    lists: dict[Path, Sequence[object]] = {
        ("data", "budgets"): suite.data.budgets,
        ("taps",): suite.taps,
        ("teacher_metrics",): suite.teacher_metrics,
        ("claim",): [claim.id for claim in suite.claim],
    }
    lists |= {(kind,): [c.title for c in getattr(suite, kind)] for kind in _LISTS}
    for path, values in lists.items():
        for i, value in enumerate(values):
            if value in values[:i]:
                hint = "give one of them another label" if path[0] in _LISTS else ""
                raise SuiteError(f"{value!r} appears twice", where=where(path), hint=hint)


def _check_students(suite: Suite, where: Where) -> None:
    """Only schemes may override fields of the student, and the result must be a valid student."""
    for kind in _LISTS:
        for i, component in enumerate(getattr(suite, kind)):
            path = (kind, i, "student")
            if not component.student:
                continue
            if kind != "schemes":
                raise SuiteError(
                    f"{component.name} is not a scheme and can't have a student", where=where(path)
                )
            try:
                suite.student_of(component)
            except ValidationError as error:
                first = error.errors()[0]
                at = [str(part) for part in first["loc"]]
                what = f"{'.'.join(at)}: {first['msg']}"
                if first["type"] == "extra_forbidden":
                    what = f"unknown key {at[-1]!r}: {did_you_mean(at[-1], Student.model_fields)}"
                raise SuiteError(what, where=where((*path, *at))) from error


def _check_teacher(suite: Suite, registry: Registry, where: Where) -> None:
    for i, scheme in enumerate(suite.schemes):
        if scheme.title == "teacher":
            what = "the label 'teacher' is reserved for the rows of teachers"
            raise SuiteError(what, where=where(("schemes", i)), hint="give the scheme another label")
        spec = registry.spec("schemes", scheme.name)
        if (
            suite.teacher is None
            and isinstance(spec, SchemeSpec)
            and spec.teacher != "own"
            and spec.uses_teacher
        ):
            what = f"{scheme.name} learns from a teacher and the suite has none"
            raise SuiteError(what, where=where(("schemes", i)), hint="add a [teacher] table")
    if "teacher_metrics" not in suite.model_fields_set:
        return
    # metrics outside of the suite are allowed, so that `--set metrics=[...]` needs no second override
    known = {s.name for s in registry.specs("metrics")} | {m.title for m in suite.metrics}
    for name in suite.teacher_metrics:
        if name not in known:
            what = f"there is no metric {name!r}"
            raise SuiteError(what, where=where(("teacher_metrics",)), hint=did_you_mean(name, known))


def _check_claims(suite: Suite, where: Where) -> None:
    """Check the keys of selectors; values may be outside of a scale, which makes the claim undecided."""
    for i, claim in enumerate(suite.claim):
        for side in ("left", "right"):
            for key in getattr(claim, side):
                if key not in _SELECTORS:
                    hint = did_you_mean(key, _SELECTORS)
                    raise SuiteError(f"unknown selector {key!r}", where=where(("claim", i, side)), hint=hint)
