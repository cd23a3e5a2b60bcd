"""Build a suite's networks, to list their taps and to check them before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdbench.errors import SuiteError

if TYPE_CHECKING:
    from kdbench.api.data import ImageData
    from kdbench.plan import Plan, Stage
    from kdbench.registry import Registry
    from kdbench.suite.schema import Component, Suite

_NEEDS_TAPS = frozenset({"embedding", "loss_history", "features", "neighbours", "teacher_features"})


def with_taps(registry: Registry, suite: Suite, data: ImageData) -> Suite:
    """Fill in all taps of the student if the suite names none and one of its metrics needs taps."""
    if suite.taps or not any(_needs(registry, metric) & _NEEDS_TAPS for metric in suite.metrics):
        return suite
    architecture, model = _build(registry, "student", suite.student.architecture, data)
    return suite.model_copy(update={"taps": tuple(architecture.taps(model))})


def check_networks(registry: Registry, plan: Plan, data: ImageData, outstanding: tuple[Stage, ...]) -> None:
    """Build every network that is still to be trained, and check its taps and head.

    Weights that don't fit or can't be found are reported here rather than hours into a run.

    Parameters
    ----------
    registry
        Registry of the architectures.
    plan
        Plan of the run.
    data
        Dataset of the plan.
    outstanding
        Stages that are still to be executed.

    Raises
    ------
    DataError, SuiteError, PluginError
        A network can't be built, lacks a tap, or has a head that is not a linear layer.
    """
    kinds = {stage.kind for stage in outstanding}
    suite = plan.suite
    networks = []
    if kinds & {"source", "backbone", "teacher"} and suite.teacher is not None:
        networks.append(("teacher", suite.teacher.architecture))
    if kinds & {"student", "features"}:
        networks += [("student", reference) for reference in suite.student_architectures()]
    if not networks:
        return
    import torch

    required: dict[str, tuple[str, ...]] = {"student": suite.taps}
    required["teacher"] = tuple({s.tap for c in plan.cells if not c.student for s in c.scores if s.tap})
    if any("teacher_features" in stage.inputs for stage in plan.stages.values()):
        required["teacher"] = suite.taps
    reads_head = any("head" in _needs(registry, metric) for metric in suite.metrics)
    for role, reference in networks:
        architecture, model = _build(registry, role, reference, data)
        taps = architecture.taps(model)
        for tap in required[role]:
            if tap not in taps:
                raise SuiteError(
                    f"{reference.title} has no tap {tap!r}",
                    where="taps",
                    hint="its taps: " + ", ".join(taps),
                )
        if (role == "teacher" or reads_head) and not isinstance(
            model.get_submodule(architecture.head(model)), torch.nn.Linear
        ):
            raise SuiteError(
                f"the head of {reference.title} is not a linear layer", where=f"{role}.architecture"
            )


def _needs(registry: Registry, metric: Component) -> frozenset[str]:
    needs: frozenset[str] = registry.spec("metrics", metric.name).needs  # type: ignore[attr-defined]
    return needs


def _build(registry: Registry, role: str, reference: Component, data: ImageData) -> tuple[Any, Any]:
    """Return the architecture, and its network with initial or pretrained weights."""
    import torch

    architecture = registry.create("architectures", reference.name, reference.params)
    with torch.random.fork_rng(devices=[]):
        try:
            return architecture, architecture.build(data.n_classes, data.input_shape)
        except (ValueError, RuntimeError) as error:
            raise SuiteError(str(error), where=f"{role}.architecture {reference.title}") from error
