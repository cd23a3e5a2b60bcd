"""A suite's own settings, named as cells name their parameters, so that like is compared with like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdbench.plan.model import LATER_RECIPE_FIELDS

if TYPE_CHECKING:
    from kdbench.registry import Registry
    from kdbench.suite.schema import Component, Suite, Training

#: Stands for a parameter that a cell of the suite's own setting does not have.
ABSENT = None
#: What has a recipe.
RECIPE_ROLES = ("student", "teacher", "teacher.source")


def own_params(suite: Suite, scheme: str = "") -> dict[str, Any]:
    """What the suite says of its cells, by the names of `CellRecord.params`.

    A parameter that the suite leaves to its default is missing (see `completed`), as is what the machine
    decides (precision "auto"). `ABSENT` is what must not be there.

    Args:
        scheme: label of the scheme whose parameters are wanted too.
    """
    d = suite.data
    student = next((suite.student_of(c) for c in suite.schemes if c.title == scheme), suite.student)
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
    if suite.teacher is not None:
        named |= {
            **_network("teacher", suite.teacher.architecture),
            **_recipe("teacher", suite.teacher),
            "teacher.mode": suite.teacher.mode,
            "teacher.source.dataset": ABSENT,
        }
        if (source := suite.teacher.source) is not None:
            named |= {"teacher.source.dataset": source.dataset.title, **_recipe("teacher.source", source)}
            named |= _flat("teacher.source.dataset", source.dataset.params)
    named |= {k: v for c in suite.schemes if c.title == scheme for k, v in _flat("scheme", c.params).items()}
    for kind, components in (("reducers", suite.reducers), ("metrics", suite.metrics)):
        for c in components:
            named |= _flat(f"{kind}.{c.title}", c.params)
    return named


def own_student(suite: Suite, scheme: str) -> str:
    """What the suite trains for `scheme`: equal texts for schemes whose students are trained alike."""
    student = next((suite.student_of(c) for c in suite.schemes if c.title == scheme), suite.student)
    return student.model_dump_json()


def _network(role: str, architecture: Component) -> dict[str, Any]:
    return {f"{role}.architecture": architecture.name} | _flat(f"{role}.architecture", architecture.params)


def _recipe(role: str, training: Training) -> dict[str, Any]:
    from kdbench.suite.schema import Training as Base

    fields = {name: getattr(training, name) for name in Base.model_fields}
    # cells leave these out where they are what held before there was a choice
    fields |= {name: ABSENT for name, before in LATER_RECIPE_FIELDS.items() if fields[name] == before}
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


def completed(suite: Suite, registry: Registry) -> Suite:
    """The suite with every default of its datasets, networks, schemes, reducers and metrics written out, and the
    versions that these have now as the parameters "@version" and "@source", as cells name them.

    Without it a cell with a default overridden, or made by an older version, can't be told from one of the suite's
    own setting. Labels stay as they are. It is for comparing: no component takes those two parameters.

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
    return suite.model_copy(
        update={"data": data, "student": trained(suite.student), "teacher": teacher, **lists}
    )
