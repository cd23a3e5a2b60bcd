"""From a suite to the stages that have to be done: each once, with a key that says what it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from kdbench.api.data import ImageData
from kdbench.api.draws import draw_fold, draw_test
from kdbench.api.settings import Settings
from kdbench.errors import SuiteError
from kdbench.plan.checks import check_metrics, check_views, wants_pool
from kdbench.plan.metric_stages import Builder
from kdbench.plan.model import KINDS, STAGE_VERSIONS, Cell, Plan, Score, Stage, ordered
from kdbench.plan.teachers import TeacherChoice
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

    Args:
        source: the loaded dataset of the teacher's source task, where it has one.
        seed: everything random follows from it.
        auto_precision: what precision "auto" is on the device that networks will run on; it stands in the keys.

    Raises:
        SuiteError: budgets or folds that can't be, neighbours beyond the images there are, a missing teacher.
    """
    builder = Builder(suite, registry, data, seed, auto_precision, source)
    d = suite.data
    for name, refs in (("schemes", suite.schemes), ("reducers", suite.reducers), ("metrics", suite.metrics)):
        titles = [r.title for r in refs]
        twice = sorted({t for t in titles if titles.count(t) > 1})
        if twice:
            raise SuiteError(
                f"{name} has {twice[0]!r} twice", where=f"suite {suite.name}", hint="give one a label"
            )
    for budget in d.budgets:  # refused before anything else is built
        draw_fold(
            data.train.labels, data.n_classes, budget=budget, fold=0, seed=seed, train=d.train,
            validation=d.validation, unlabelled=d.unlabelled if wants_pool(suite, registry) else "rest",
        )  # fmt: skip
    for key, size in (("test", d.test), ("embedded", d.embedded)):
        try:
            draw_test(data.test.labels, data.n_classes, size=size, seed=seed)
        except SuiteError as error:
            raise SuiteError(error.what, where=f"data.{key}", hint=error.hint) from error
    check_views(suite)
    check_metrics(suite, registry, data)
    cells: list[Cell] = []
    for budget in d.budgets:
        for fold in range(d.folds):
            if suite.teacher is not None:
                cells.append(_teacher_cell(builder, suite.teacher, budget, fold))
            cells += [_student_cell(builder, scheme, budget, fold) for scheme in suite.schemes]
    used = {s.reducer for cell in cells for s in cell.scores}
    runs_them = any("reducers" in registry.spec("metrics", m.name).needs for m in suite.metrics)  # type: ignore[attr-defined]
    for reducer in suite.reducers:
        if reducer.title not in used and not runs_them:
            builder.exclude(f"reducer {reducer.title}: no metric of the suite looks at its embeddings")
    return Plan(
        suite,
        seed,
        suite.data.dataset.title,
        data.digest,
        ordered(builder.stages),
        tuple(cells),
        tuple(builder.exclusions),
    )


def _teacher_cell(builder: Builder, teacher: Teacher, budget: int, fold: int) -> Cell:
    suite = builder.suite
    network = builder.teacher(TeacherChoice(teacher), budget, fold)
    metrics = [m for m in suite.metrics if {m.name, m.title} & set(suite.teacher_metrics)]
    return _cell(builder, "teacher", budget, fold, network, metrics, "", teacher.architecture.title)


def _student_cell(builder: Builder, scheme: Component, budget: int, fold: int) -> Cell:
    suite = builder.suite
    network = builder.student(scheme, budget, fold)
    taught = builder.registry.spec("schemes", scheme.name).uses_teacher
    teacher = builder.choices(scheme)[0].teacher.architecture.title if taught else ""
    student = builder.architectures[network].title
    return _cell(builder, scheme.title, budget, fold, network, list(suite.metrics), student, teacher)


def _cell(
    builder: Builder,
    scheme: str,
    budget: int,
    fold: int,
    network: str,
    metrics: list[Component],
    student: str,
    teacher: str,
) -> Cell:
    title = f"{scheme} · {budget} labels · fold {fold + 1}"
    role = "student" if student else "teacher"
    scores, embeddings = builder.scores(network, role, title, metrics, budget, fold)
    return Cell(
        key=content_key({"cell": [network, sorted(s.key for s in scores), scheme]}),
        budget=budget,
        fold=fold,
        scheme=scheme,
        student=student,
        teacher=teacher,
        seed=builder.seed,
        network=network,
        scores=tuple(scores),
        embeddings=embeddings,
        settings=_settings(builder, scheme, budget, network, scores),
    )


def _settings(builder: Builder, scheme: str, budget: int, network: str, scores: Iterable[Score]) -> Settings:
    """The settings of a cell: of the suite's reducers and metrics those that it is measured with, and the versions
    of the stages that it needs."""
    settings = builder.settings.of(scheme, budget)
    trained = _stage_versions(builder, network)
    used = {s.reducer for s in scores if s.reducer}
    metrics = {}
    for score in {s.metric: s for s in scores}.values():
        added = {k: v for k, v in _stage_versions(builder, score.key).items() if k not in trained}
        metrics[score.metric] = replace(settings.metrics[score.metric], stages=added)
    reducers = {label: reducer for label, reducer in settings.reducers.items() if label in used}
    return replace(settings, reducers=reducers, metrics=metrics, stages=trained)


def _stage_versions(builder: Builder, key: str) -> dict[str, int]:
    """Kind to version of every stage that `key` rests on whose version is not the first."""
    found: dict[str, int] = {}
    queue, seen = [key], set()
    while queue:
        key = queue.pop()
        if key in seen:
            continue
        seen.add(key)
        stage = builder.stages[key]
        if stage.kind in STAGE_VERSIONS:
            found[stage.kind] = STAGE_VERSIONS[stage.kind]
        queue += stage.inputs.values()
    return dict(sorted(found.items()))
