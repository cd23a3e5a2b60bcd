"""Plan a suite: the stages to execute, each once, with keys that contain everything they depend on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from kdbench.api.data import ImageData
from kdbench.api.settings import Settings
from kdbench.plan.checks import check_draws, check_metrics, check_views
from kdbench.plan.metric_stages import MetricStages
from kdbench.plan.model import KINDS, STAGE_VERSIONS, Cell, Plan, Score, Stage, ordered
from kdbench.plan.teachers import TeacherChoice
from kdbench.plan.training_stages import TrainingStages
from kdbench.store import content_key

if TYPE_CHECKING:
    from kdbench.registry import Registry
    from kdbench.suite.schema import Component, Suite, Teacher

__all__ = ["KINDS", "Cell", "Plan", "Score", "Stage", "make_plan"]


def make_plan(
    suite: Suite,
    registry: Registry,
    data: ImageData,
    *,
    source: ImageData | None = None,
    seed: int = 0,
    auto_precision: str = "float32",
) -> Plan:
    """Plan a suite over its loaded dataset.

    Parameters
    ----------
    suite
        The suite.
    registry
        Registry that the suite was loaded with.
    data
        The loaded dataset.
    source
        The loaded dataset of the teacher's source task, if it has one.
    seed
        The seed that all others are derived from.
    auto_precision
        What precision "auto" is on the device that networks run on; part of the keys.

    Returns
    -------
    Plan
        Stages in an order in which they can run, cells, and exclusions.

    Raises
    ------
    SuiteError
        Impossible budgets or folds, more neighbours than images, a missing teacher.
    """
    check_draws(suite, registry, data, seed)
    check_views(suite)
    check_metrics(suite, registry, data)
    training = TrainingStages(suite, registry, data, seed, auto_precision, source)
    measuring = MetricStages(training)
    cells: list[Cell] = []
    for budget in suite.data.budgets:
        for fold in range(suite.data.folds):
            if suite.teacher is not None:
                cells.append(_teacher_cell(measuring, suite.teacher, budget, fold))
            cells += [_student_cell(measuring, scheme, budget, fold) for scheme in suite.schemes]
    used = {s.reducer for cell in cells for s in cell.scores}
    run_by_metrics = any("reducers" in registry.spec("metrics", m.name).needs for m in suite.metrics)
    for reducer in suite.reducers:
        if reducer.title not in used and not run_by_metrics:
            measuring.exclude(f"reducer {reducer.title}: no metric of the suite reads its embeddings")
    return Plan(
        suite,
        seed,
        suite.data.dataset.title,
        data.digest,
        ordered(training.stages),
        tuple(cells),
        tuple(measuring.exclusions),
    )


def _teacher_cell(measuring: MetricStages, teacher: Teacher, budget: int, fold: int) -> Cell:
    suite = measuring.suite
    network = measuring.training.teacher(TeacherChoice(teacher), budget, fold)
    metrics = [m for m in suite.metrics if {m.name, m.title} & set(suite.teacher_metrics)]
    return _cell(measuring, "teacher", budget, fold, network, metrics, "", teacher.architecture.title)


def _student_cell(measuring: MetricStages, scheme: Component, budget: int, fold: int) -> Cell:
    training = measuring.training
    network = training.student(scheme, budget, fold)
    student, teacher = training.architectures[network].title, ""
    if measuring.registry.spec("schemes", scheme.name).uses_teacher:
        teacher = training.choices(scheme)[0].teacher.architecture.title
    metrics = list(measuring.suite.metrics)
    return _cell(measuring, scheme.title, budget, fold, network, metrics, student, teacher)


def _cell(
    measuring: MetricStages,
    scheme: str,
    budget: int,
    fold: int,
    network: str,
    metrics: list[Component],
    student: str,
    teacher: str,
) -> Cell:
    title = f"{scheme} · {budget} labels · fold {fold + 1}"
    scores, embeddings = measuring.scores(network, title, metrics, budget, fold, is_teacher=not student)
    return Cell(
        key=content_key({"cell": [network, sorted(s.key for s in scores), scheme]}),
        budget=budget,
        fold=fold,
        scheme=scheme,
        student=student,
        teacher=teacher,
        seed=measuring.training.seed,
        network=network,
        scores=tuple(scores),
        embeddings=embeddings,
        settings=_settings(measuring.training, scheme, budget, network, scores),
    )


def _settings(
    training: TrainingStages, scheme: str, budget: int, network: str, scores: Iterable[Score]
) -> Settings:
    """The settings of a cell: of the suite's reducers and metrics those that it is measured with, and the versions
    of the stages that it needs."""
    settings = training.settings.of(scheme, budget)
    trained = _stage_versions(training, network)
    used = {s.reducer for s in scores if s.reducer}
    metrics = {}
    for score in {s.metric: s for s in scores}.values():
        added = {k: v for k, v in _stage_versions(training, score.key).items() if k not in trained}
        metrics[score.metric] = replace(settings.metrics[score.metric], stages=added)
    reducers = {label: reducer for label, reducer in settings.reducers.items() if label in used}
    return replace(settings, reducers=reducers, metrics=metrics, stages=trained)


def _stage_versions(training: TrainingStages, key: str) -> dict[str, int]:
    """Kind to version of every stage that `key` depends on whose version is not 1."""
    found: dict[str, int] = {}
    queue, seen = [key], set()
    while queue:
        key = queue.pop()
        if key in seen:
            continue
        seen.add(key)
        stage = training.stages[key]
        if stage.kind in STAGE_VERSIONS:
            found[stage.kind] = STAGE_VERSIONS[stage.kind]
        queue += stage.inputs.values()
    return dict(sorted(found.items()))
