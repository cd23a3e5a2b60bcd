"""Metrics in plans and runs: their inputs from a student, its teacher and an independent teacher."""

from __future__ import annotations

import numpy as np
import pytest

from kdbench.errors import SuiteError
from kdbench.evaluation.view import MetricView
from kdbench.stages.artifacts import StoredNetwork
from kdbench.store import Store
from kdbench_metrics.cka import Cka
from kdbench_metrics.fidelity import agreement_and_kl

#: Every metric of the plugin beside accuracy.
ALL = """metrics=[
  "accuracy", "fidelity", "calibration", "superclass-confusion", "linear-probe", "cka", "effective-rank",
  "intrinsic-dimension", "neural-collapse", "silhouette", { name = "knn-accuracy", k = 3 },
  { name = "trustworthiness", k = 4 }, { name = "continuity", k = 4 }, { name = "neighbourhood-hit", k = 4 },
]"""
SMALL = ('taps=["D", "E"]', 'reducers=["pca"]', "data.folds=2")
FIDELITY = 'metrics=["fidelity"]'


@pytest.fixture(scope="module")
def measured(tiny_plan, carry_out, tmp_path_factory):
    """(plan, store, cells) of a run of every metric, two folds."""
    store = Store(tmp_path_factory.mktemp("measured"))
    plan = tiny_plan(
        ALL, *SMALL, 'schemes=["undistilled"]', 'teacher_metrics=["accuracy", "calibration", "fidelity"]'
    )
    report = carry_out(plan, store)
    assert report.summary.status == "finished", report.failed
    return plan, store, report.cells


def found(cell, metric, tap=None, reducer=None):
    return {
        r.value_name: r.value
        for r in cell.results
        if r.metric.split("[")[0] == metric and (r.tap, r.reducer) == (tap, reducer)
    }


def cell_of(plan, scheme, fold):
    return next(c for c in plan.cells if (c.scheme, c.fold) == (scheme, fold))


def logits_of(plan, store, scheme, fold):
    return np.asarray(store.open(cell_of(plan, scheme, fold).network).array("test_logits"), np.float64)


def features_of(plan, store, scheme, fold):
    network = cell_of(plan, scheme, fold).network
    stage = next(s for s in plan.stages.values() if s.kind == "features" and s.inputs["network"] == network)
    return store.open(stage.key)


def students(plan):
    return [c for c in plan.cells if c.student]


def test_every_metric_measures_every_student(measured, plain_registry):
    plan, _, cells = measured
    specs = {m.name: plain_registry.spec("metrics", m.name) for m in plan.suite.metrics}
    for cell in cells:
        if not cell.student:
            assert {r.metric for r in cell.results} == {"accuracy", "calibration"}
            continue
        for metric, spec in specs.items():
            per_embedding, per_tap = (
                "embedding" in spec.needs,
                "features" in spec.needs or "neighbours" in spec.needs,
            )
            taps = ["E"] if "head" in spec.needs else ["D", "E"] if per_embedding or per_tap else [None]
            for tap in taps:
                values = found(cell, metric, tap, "pca" if per_embedding else None)
                assert spec.primary in values, (metric, tap)
                low, high = spec.bounds
                assert low is None or values[spec.primary] >= low
                assert high is None or values[spec.primary] <= high
        assert not found(cell, "neural-collapse", "D")
    (why,) = [e for e in plan.exclusions if e.startswith("metric fidelity of teachers: ")]
    assert why.endswith("it compares a student with its teacher, and this is the teacher")


def test_fidelity_uses_teacher_of_fold_and_control_of_another_fold(measured):
    plan, store, cells = measured
    teachers = [logits_of(plan, store, "teacher", fold) for fold in (0, 1)]
    assert not np.array_equal(*teachers)
    for cell in cells:
        if cell.student:
            student = logits_of(plan, store, cell.scheme, cell.fold)
            own, other = (agreement_and_kl(teachers[f], student) for f in (cell.fold, 1 - cell.fold))
            values = found(cell, "fidelity")
            assert (values["agreement"], values["kl"]) == pytest.approx(own)
            assert (values["agreement_independent"], values["kl_independent"]) == pytest.approx(other)


def test_cka_uses_teacher_of_the_fold(measured):
    plan, store, cells = measured
    cell = next(c for c in cells if (c.scheme, c.fold) == ("undistilled", 1))
    teacher, student = (features_of(plan, store, s, 1) for s in ("teacher", "undistilled"))
    for tap in ("D", "E"):
        X = np.asarray(student.array(tap), np.float32)
        others = [np.asarray(teacher.array(t), np.float32) for t in ("D", "E")]
        expected = Cka().alignments(X, others)
        values = found(cell, "cka", tap)
        assert [values["teacher_D"], values["teacher_E"]] == pytest.approx(list(expected))
        assert values["cka"] == values[f"teacher_{tap}"]


def test_head_maps_last_tap_to_logits(measured, tiny_data, plain_registry, places):
    """So neural collapse compares the classifier with the activations that it reads."""
    from kdbench.stages.score import last_layer
    from kdbench.stages.task import Task

    plan, store, _ = measured
    stage = next(s for s in plan.stages.values() if s.component == "metrics/neural-collapse")
    task = Task(stage, store, plain_registry, places)
    weight, bias = last_layer(task, tiny_data)
    X = np.asarray(task.input("features").array("E"), np.float64)
    rows = stage.fields.test.test(tiny_data)
    view = MetricView(tiny_data, rows, StoredNetwork(task.input("network")))
    np.testing.assert_allclose(X @ weight.T + bias, view.logits, atol=5e-2)  # of half-precision activations
    assert weight.shape == (10, 64)


def test_record_has_the_compared_teacher(measured):
    _, _, cells = measured
    settings = next(c for c in cells if c.scheme == "undistilled").settings
    assert settings.metrics["fidelity"].teacher.architecture.name == "wide-resnet"
    assert settings.metrics["fidelity"].teacher.recipe["epochs"] == 1
    assert settings.metrics["accuracy"].teacher is None
    assert settings.teacher is None  # it was trained without one


def test_figures_and_arrays_are_stored(measured):
    _, store, cells = measured
    cell = next(c for c in cells if c.student)
    assert {"superclass-confusion.confusion", "D/cka.cka", "E/cka.cka"} <= set(cell.figures)
    confusion = np.load(store.root / cell.arrays["superclass-confusion.confusion"])
    assert confusion.shape == (2, 2)
    assert confusion.sum() == 50


# -- plans


def score_keys(plan, metric):
    return {s.key for c in plan.cells for s in c.scores if s.metric.split("[")[0] == metric}


def test_teacher_metrics_change_no_other_keys(tiny_plan):
    plain, more = tiny_plan(*SMALL), tiny_plan(*SMALL, 'metrics+="fidelity"', 'metrics+="cka"')
    assert set(plain.stages) < set(more.stages)
    added = [s for k, s in more.stages.items() if k not in plain.stages]
    assert {s.kind for s in added} == {"features", "score"}  # the teachers' own features, for cka
    assert {s.component for s in added if s.kind == "score"} == {"metrics/fidelity", "metrics/cka"}


def test_teacher_change_changes_comparison_keys(tiny_plan):
    before, after = (tiny_plan(FIDELITY, "data.folds=2", f"teacher.epochs={n}") for n in (1, 2))
    assert not score_keys(before, "fidelity") & score_keys(after, "fidelity")
    assert len(score_keys(before, "fidelity")) == 4


def test_more_folds_do_not_change_earlier_comparisons(tiny_plan):
    two, three = (tiny_plan(FIDELITY, f"data.folds={n}") for n in (2, 3))
    assert score_keys(two, "fidelity") < score_keys(three, "fidelity")
    for plan in (two, three):
        for stage in plan.stages.values():
            if stage.kind == "score":
                assert stage.inputs["teacher"] != stage.inputs["independent_teacher"]


def test_one_fold_has_no_independent_teacher(tiny_plan, carry_out, tmp_path):
    plan = tiny_plan(FIDELITY, "data.folds=1", 'schemes=["undistilled"]', "teacher_metrics=[]", "reducers=[]")
    assert plan.exclusions == ("metric fidelity against an independent teacher: the suite has one fold",)
    report = carry_out(plan, Store(tmp_path))
    (values,) = [found(c, "fidelity") for c in report.cells if c.student]
    assert set(values) == {"agreement", "kl"}


def test_suite_without_teacher_excludes_them_with_reason(load_tiny, plain_registry, tiny_data):
    from kdbench.plan import make_plan

    suite = load_tiny('schemes=["undistilled"]', 'metrics=["accuracy", "fidelity", "cka"]', "reducers=[]")
    plan = make_plan(suite.model_copy(update={"teacher": None}), plain_registry, tiny_data)
    assert plan.exclusions == (
        "metric fidelity: there is no teacher to compare with", "metric cka: there is no teacher to compare with",
    )  # fmt: skip
    assert not score_keys(plan, "fidelity") | score_keys(plan, "cka")


def test_neural_collapse_is_measured_at_last_tap(tiny_plan):
    plan = tiny_plan('taps=["A", "C"]', 'metrics=["neural-collapse"]')
    assert {s.tap for c in students(plan) for s in c.scores} == {"C"}


def test_best_validation_without_split_is_rejected(tiny_plan):
    rule = 'metrics=[{ name = "accuracy", selection = "best-validation" }]'
    with pytest.raises(SuiteError, match=r"data\.validation is 0") as error:
        tiny_plan(rule, "reducers=[]")
    assert "data.validation" in error.value.hint
    assert tiny_plan(rule, "reducers=[]", "data.validation=10").cells


@pytest.mark.parametrize("metric", ["trustworthiness", "continuity", "neighbourhood-hit"])
def test_k_beyond_embedded_images_is_rejected_by_plan(tiny_plan, metric):
    with pytest.raises(SuiteError, match="k=30: below") as error:
        tiny_plan(f'metrics=[{{ name = "{metric}", k = 30 }}]', 'reducers=["pca"]')
    assert metric in error.value.where


# -- the view


def test_view_error_names_required_need(measured, tiny_data):
    plan, store, _ = measured
    network = store.open(cell_of(plan, "undistilled", 0).network)
    view = MetricView(tiny_data, np.arange(5), StoredNetwork(network))
    for read in ("teacher", "independent_teacher", "head", "taps", "features"):
        with pytest.raises(RuntimeError, match="its spec must need"):
            getattr(view, read)
    other = MetricView(
        tiny_data,
        np.arange(5),
        StoredNetwork(network, features_of(plan, store, "undistilled", 0)),
        tap="D",
    )
    assert other.taps == ("D", "E")
    np.testing.assert_array_equal(other.features, other.features_at("D"))
    with pytest.raises(ValueError, match="there are D, E"):
        other.features_at("A")
