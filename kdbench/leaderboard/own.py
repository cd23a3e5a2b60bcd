"""A suite's own settings, named as cells name their parameters, so that like is compared with like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdbench.plan.metric_stages import BESIDE_TEACHER
from kdbench.suite.schema import Suite

if TYPE_CHECKING:
    from kdbench.api.specs import MetricSpec
    from kdbench.registry import Registry
    from kdbench.suite.schema import Component, Student, Training

#: Stands for a parameter that a cell of the suite's own setting does not have.
ABSENT = None
#: What has a recipe.
RECIPE_ROLES = ("student", "teacher", "teacher.source")
#: Needs of metrics that are computed once a tap and reducer, and of those that are once a tap.
_OF_EMBEDDINGS = frozenset({"embedding", "loss_history"})
_OF_TAPS = frozenset({"features", "neighbours", "teacher_features"})


@dataclass(frozen=True)
class Scope:
    """Where a suite measures a metric: what a claim is about that leaves budget, scheme, tap or reducer out.

    Each holds labels; (None,) where a metric has none of the kind; () where it has some that can't be told from the
    suite; None where the suite leaves it open for all metrics: the taps to the student's network, say.
    """

    budget: tuple[int, ...] | None
    scheme: tuple[str, ...] | None
    tap: tuple[str | None, ...] | None
    reducer: tuple[str | None, ...] | None


class CompletedSuite(Suite):
    """A suite with its defaults written out, and by label of each metric where it is measured."""

    scopes: dict[str, Scope]


def own_params(suite: Suite, scheme: str = "") -> dict[str, Any]:
    """What the suite says of its cells, by the names of `CellRecord.params`.

    A parameter that the suite leaves to its default is missing (see `completed`), as is what the machine
    decides (precision "auto"). `ABSENT` is what must not be there.

    Args:
        scheme: label of the scheme whose parameters are wanted too.
    """
    d = suite.data
    student = student_for(suite, scheme)
    named: dict[str, Any] = {
        "data.dataset": d.dataset.title,
        **_flat("data.dataset", d.dataset.params),
        "data.train": d.train,
        "data.test": d.test,
        "data.embedded": d.embedded,
        "data.validation": d.validation,
        "data.unlabelled": d.unlabelled,
        **_network("student", student.architecture),
        **_recipe("student", student),
    }
    taught = _teacher(suite)
    named |= taught
    named |= {k: v for c in suite.schemes if c.title == scheme for k, v in _flat("scheme", c.params).items()}
    reducers = {k: v for c in suite.reducers for k, v in _flat(f"reducers.{c.title}", c.params).items()}
    for c in suite.metrics:
        named |= _flat(f"metrics.{c.title}", c.params)
        # of one that looks at the teacher, or runs the reducers itself
        named |= {f"metrics.{c.title}.{name}": value for name, value in (taught | reducers).items()}
    return named | reducers


def _teacher(suite: Suite) -> dict[str, Any]:
    if suite.teacher is None:
        return {}
    named = {
        **_network("teacher", suite.teacher.architecture),
        **_recipe("teacher", suite.teacher),
        "teacher.mode": suite.teacher.mode,
        "teacher.source.dataset": ABSENT,
    }
    if (source := suite.teacher.source) is not None:
        named |= {"teacher.source.dataset": source.dataset.title, **_recipe("teacher.source", source)}
        named |= _flat("teacher.source.dataset", source.dataset.params)
    return named


def own_student(suite: Suite, scheme: str) -> str:
    """What the suite trains for `scheme`: equal texts for schemes whose students are trained alike."""
    return student_for(suite, scheme).model_dump_json()


def student_for(suite: Suite, scheme: str) -> Student:
    """The student that `scheme` (a label) trains; the suite's own for a scheme that it does not have."""
    return next((suite.student_of(c) for c in suite.schemes if c.title == scheme), suite.student)


def _network(role: str, architecture: Component) -> dict[str, Any]:
    return {f"{role}.architecture": architecture.name} | _flat(f"{role}.architecture", architecture.params)


def _recipe(role: str, training: Training) -> dict[str, Any]:
    from kdbench.suite.schema import Training as Base

    fields = {name: getattr(training, name) for name in Base.model_fields}
    if training.precision == "auto":
        del fields["precision"]
    return {f"{role}.{name}": value for name, value in fields.items()}


def _flat(prefix: str, params: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= _flat(f"{prefix}.{name}", value)
        else:
            flat[f"{prefix}.{name}"] = value
    return flat


def completed(suite: Suite, registry: Registry) -> CompletedSuite:
    """The suite with every default of its datasets, networks, schemes, reducers and metrics written out, and the
    versions that these have now as the parameters "@version" and "@source", as cells name them.

    Without it a cell with a default overridden, or made by an older version, can't be told from one of the suite's
    own setting, nor a result that is missing from one that there can't be. Labels stay as they are. It is for
    comparing: no component takes those two parameters.

    Raises:
        SuiteError, UsageError, PluginError: as `Registry.check`.
    """

    def whole(kind: str, c: Component) -> Component:
        params = registry.check(kind, c.name, c.params)
        if kind != "datasets":  # whose digest says what they are
            params |= {f"@{name}": value for name, value in registry.code(kind, c.name).items()}
        return c.model_copy(update={"params": params, "label": c.title})

    def trained(training: Any) -> Any:
        changed: dict[str, Any] = {"architecture": whole("architectures", training.architecture)}
        if (source := getattr(training, "source", None)) is not None:
            changed["source"] = source.model_copy(update={"dataset": whole("datasets", source.dataset)})
        return training.model_copy(update=changed)

    def whole_scheme(c: Component) -> Component:
        if "architecture" not in c.student:
            return whole("schemes", c)
        architecture = whole("architectures", suite.student_of(c).architecture)
        return whole("schemes", c).model_copy(
            update={"student": {**c.student, "architecture": architecture.model_dump()}}
        )

    lists = {kind: tuple(whole(kind, c) for c in getattr(suite, kind)) for kind in ("reducers", "metrics")}
    lists["schemes"] = tuple(whole_scheme(c) for c in suite.schemes)
    teacher = trained(suite.teacher) if suite.teacher is not None else None
    data = suite.data.model_copy(update={"dataset": whole("datasets", suite.data.dataset)})
    fields = {name: getattr(suite, name) for name in Suite.model_fields}
    fields |= {"data": data, "student": trained(suite.student), "teacher": teacher, **lists}
    scopes = {m.title: _scope(suite, registry, m) for m in suite.metrics}
    return CompletedSuite.model_construct(suite.model_fields_set | {"scopes"}, **fields, scopes=scopes)


def _scope(suite: Suite, registry: Registry, metric: Component) -> Scope:
    """Where the plan of a suite has a metric (`kdbench.plan.metric_stages`), as far as that hangs on no dataset."""
    spec: MetricSpec = registry.spec("metrics", metric.name)  # type: ignore[assignment]
    taps: tuple[str | None, ...] | None = (None,)
    reducers: tuple[str | None, ...] = (None,)
    if spec.needs & (_OF_EMBEDDINGS | _OF_TAPS):
        taps = suite.taps[-1:] if "head" in spec.needs else suite.taps or None
    if spec.needs & _OF_EMBEDDINGS:
        reducers = tuple(
            r.title
            for r in suite.reducers
            if "loss_history" not in spec.needs
            or getattr(registry.spec("reducers", r.name), "loss_history", False)
        )
    schemes = [c.title for c in suite.schemes]
    if suite.teacher is not None and not spec.needs & BESIDE_TEACHER:
        schemes += ["teacher"] * bool({metric.name, metric.title} & set(suite.teacher_metrics))
    return Scope(suite.data.budgets, tuple(schemes) or None, taps, reducers)
