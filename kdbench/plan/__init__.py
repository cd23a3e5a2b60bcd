"""From a suite to the stages that have to be done: each once, with a key that says what it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kdbench.api.data import ImageData
from kdbench.api.draws import draw_fold, draw_test
from kdbench.api.specs import MetricSpec, SchemeSpec
from kdbench.errors import SuiteError
from kdbench.plan.checks import check_metrics, check_views, wants_pool
from kdbench.plan.metric_stages import BESIDE_TEACHER, Builder
from kdbench.plan.model import KINDS, STAGE_VERSIONS, Cell, Plan, Score, Stage, ordered
from kdbench.plan.teachers import TeacherChoice, is_taught
from kdbench.store import content_key

if TYPE_CHECKING:
    from kdbench.registry import Registry
    from kdbench.suite.schema import Component, Student, Suite, Teacher

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
    metrics = list(suite.metrics)
    for_teachers = [m for m in metrics if m.name in suite.teacher_metrics or m.title in suite.teacher_metrics]
    cells: list[Cell] = []

    def add_cell(
        network: str, role: str, scheme: str, budget: int, fold: int, chosen: list[Component], extra: dict
    ) -> None:
        title = f"{scheme} · {budget} labels · fold {fold + 1}"
        scores, embeddings = builder.scores(network, role, title, chosen, budget, fold)
        student = builder.architectures[network].title if role == "student" else ""
        teacher = extra.pop("taught by")
        key = content_key({"cell": [network, sorted(s.key for s in scores), scheme]})
        cells.append(
            Cell(
                key,
                budget,
                fold,
                scheme,
                student,
                teacher,
                seed,
                network,
                tuple(scores),
                embeddings,
                _flat("", {**extra, **_measured(builder, network, scores)}),
            )
        )

    data_params = {
        "dataset": suite.data.dataset.title,
        **_dataset(registry, suite.data.dataset),
        "train": d.train,
        "test": d.test,
        "embedded": d.embedded,
        "validation": d.validation,
    }
    for budget in d.budgets:
        for fold in range(d.folds):
            if suite.teacher is not None:
                network = builder.teacher(TeacherChoice(suite.teacher), budget, fold)
                extra: dict[str, Any] = {
                    "data": dict(data_params),
                    "teacher": _described(builder, suite.teacher),
                }
                extra["taught by"] = suite.teacher.architecture.title
                add_cell(network, "teacher", "teacher", budget, fold, for_teachers, extra)
            for scheme in suite.schemes:
                network = builder.student(scheme, budget, fold)
                spec = registry.spec("schemes", scheme.name)
                assert isinstance(spec, SchemeSpec)
                extra = {
                    "data": dict(data_params),
                    "student": _described(builder, suite.student_of(scheme)),
                    "scheme": _component(builder, "schemes", scheme),
                    "taught by": "",
                }
                if spec.needs & {"unlabelled", "unlabelled_if_any"}:
                    extra["data"]["unlabelled"] = builder.unlabelled(budget)
                if is_taught(spec):
                    choice = builder.choices(scheme)[0]
                    extra["taught by"] = choice.teacher.architecture.title
                    # the suite's own teacher under the name that all cells of a suite share
                    own = choice.teacher is suite.teacher and not choice.pretraining
                    name = "teacher" if own else "taught_by"
                    extra[name] = _described(builder, choice.teacher)
                    if choice.pretraining:
                        extra[name]["pretraining"] = choice.pretraining
                        code = registry.code("schemes", choice.pretraining)
                        extra[name] |= {f"pretraining.@{k}": v for k, v in code.items()}
                add_cell(network, "student", scheme.title, budget, fold, metrics, extra)
    used = {s.reducer for cell in cells for s in cell.scores}
    runs_them = any("reducers" in registry.spec("metrics", m.name).needs for m in metrics)  # type: ignore[attr-defined]
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


def _described(builder: Builder, training: Teacher | Student) -> dict[str, Any]:
    params = builder.component("architectures", training.architecture)["params"]
    described = {
        "architecture": training.architecture.name,
        **{
            f"architecture.{k}": v
            for k, v in (params | _code(builder, "architectures", training.architecture)).items()
        },
    } | builder.recipe(training)
    if isinstance(training, _teacher_type()):
        described["mode"] = training.mode
        if training.source is not None:
            dataset = training.source.dataset
            described["source"] = {
                "dataset": dataset.title,
                **_dataset(builder.registry, dataset),
                "digest": builder.source_digest,
            } | builder.recipe(training.source)
    return described


def _component(builder: Builder, kind: str, ref: Component) -> dict[str, Any]:
    """Resolved parameters of a component, and which code it is."""
    return builder.registry.check(kind, ref.name, ref.params) | _code(builder, kind, ref)


def _code(builder: Builder, kind: str, ref: Component) -> dict[str, Any]:
    """What else enters a component's key: two cells of different code are two experiments."""
    return {f"@{name}": value for name, value in builder.registry.code(kind, ref.name).items()}


def _dataset(registry: Registry, ref: Component) -> dict[str, Any]:
    """Resolved parameters of a dataset but for those that name files: its digest says what is in them."""
    params = registry.check("datasets", ref.name, ref.params)
    return {
        f"dataset.{name}": value
        for name, value in params.items()
        if not (isinstance(value, str) and ("/" in value or "\\" in value))
    }


def _teacher_type() -> type[Teacher]:
    from kdbench.suite.schema import Teacher

    return Teacher


def _measured(builder: Builder, network: str, scores: Iterable[Score]) -> dict[str, Any]:
    """Resolved parameters of the reducers and metrics that a cell was measured with, by label, and the versions of
    the stages that it rests on."""
    suite = builder.suite
    reducers = {r.title: _component(builder, "reducers", r) for r in suite.reducers}
    metrics = {m.title: (m, builder.registry.spec("metrics", m.name)) for m in suite.metrics}
    used = {s.reducer for s in scores if s.reducer}
    trained = _stage_versions(builder, network)
    described = {}
    for score in {s.metric: s for s in scores}.values():
        metric, spec = metrics[score.metric]
        described[score.metric] = _component(builder, "metrics", metric)
        if isinstance(spec, MetricSpec) and "reducers" in spec.needs:  # it runs them itself
            described[score.metric] |= {"reducers": reducers}
        if isinstance(spec, MetricSpec) and spec.needs & BESIDE_TEACHER and suite.teacher is not None:
            described[score.metric] |= {"teacher": _described(builder, suite.teacher)}
        measured = _stage_versions(builder, score.key)
        if added := {kind: version for kind, version in measured.items() if kind not in trained}:
            described[score.metric] |= {"@stages": added}
    return {
        "reducers": {k: v for k, v in reducers.items() if k in used},
        "metrics": described,
        "stages": trained,
    }


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


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {
            k: v
            for name, inner in value.items()
            for k, v in _flat(f"{prefix}.{name}" if prefix else name, inner).items()
        }
    return {prefix: value}
