"""Figures that metrics bring, from the metric to artifact, record, report and tracking store; and metrics that
run the suite's reducers."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from kdbench.api import CellRecord
from kdbench.cli.main import invoke
from kdbench.plan import make_plan
from kdbench.registry import Registry
from kdbench.store import Store
from kdbench.suite import load_suite
from kdbench.tracking import Tracker

PLUGIN = '''
from kdbench.api import MetricResult, MetricSpec, hookimpl


class Curve:
    """Embeds a square with every reducer of the suite, twice, and draws the first."""

    def __init__(self, *, name: str = "square") -> None:
        self.name = name

    def __call__(self, view):
        import numpy as np
        from matplotlib.figure import Figure

        X = np.random.default_rng(0).normal(size=(40, 5))
        before = X.copy()
        first = {label: embed(X) for label, embed in view.reducers.items()}
        again = {label: embed(X) for label, embed in view.reducers.items()}
        assert (X == before).all()
        figure = Figure(figsize=(2, 2))
        ax = figure.subplots()
        for points in first.values():
            ax.plot(points[:, 0], points[:, 1], "k.")
        ax.set_title("a curious title")
        same = all((first[k] == again[k]).all() for k in first)
        arrays = {k.replace("[", "-").replace("]", ""): v for k, v in first.items()}
        return MetricResult({"same": float(same)}, arrays, figures={self.name: figure})


class Embedded:
    """Draws an embedding."""

    def __call__(self, view):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2, 2))
        figure.subplots().plot(*view.embedding.points.T, ".")
        return MetricResult({"n": float(len(view.labels))}, figures={"cloud": figure})


class NoFigure:
    """Says it has a figure and has none."""

    def __call__(self, view):
        return MetricResult({"value": 1.0}, figures={"words": "not a figure"})


class Peeks:
    """Asks for reducers that its spec does not need."""

    def __call__(self, view):
        return MetricResult({"value": float(len(view.reducers))})


@hookimpl
def kdbench_metrics():
    def spec(name, target, needs, primary="value"):
        return MetricSpec(
            name=name, target=f"figured:{target}", summary="x", needs=frozenset(needs), primary=primary
        )

    return [
        spec("curve", "Curve", {"reducers"}, "same"),
        spec("embedded", "Embedded", {"embedding"}, "n"),
        spec("no-figure", "NoFigure", {"logits"}),
        spec("peeks", "Peeks", {"logits"}),
    ]
'''
SUITE = """
name = "figured"
title = "Figures of metrics"
schemes = ["undistilled"]
taps = ["E"]
reducers = ["pca", "random-projection"]
metrics = ["accuracy", "curve", "embedded"]

[data]
dataset = "digits"
budgets = [20]
folds = 2
embedded = 50

[student]
architecture = { name = "wide-resnet", depth = 10, width = 1 }
epochs = 1
eval_every = 0
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    (folder / "figured.py").write_text(PLUGIN)
    (folder / "figured.toml").write_text(SUITE)
    return folder


def kdbench(files, workspace, *more, verb="run"):
    return invoke(
        [verb, str(files / "figured.toml"), "--plugin", str(files / "figured.py"), "--workspace", str(workspace),
         "--device", "cpu", "--json", *more]
    )  # fmt: skip


@pytest.fixture(scope="module")
def ran(files, tmp_path_factory):
    """The workspace of a finished run."""
    workspace = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert kdbench(files, workspace) == 0
    return workspace


def records(workspace):
    return Store(workspace).cells("figured")


def test_a_record_points_to_every_drawing(ran):
    cells = records(ran)
    assert len(cells) == 2
    for cell in cells:
        assert sorted(cell.figures) == [
            "E/pca/embedded.cloud",
            "E/random-projection/embedded.cloud",
            "curve.square",
        ]
        for path in cell.figures.values():
            svg, png = ran / path, (ran / path).with_suffix(".png")
            assert ElementTree.parse(svg).getroot().tag.endswith("svg")
            assert png.read_bytes().startswith(b"\x89PNG")
        assert CellRecord.from_json(json.loads(json.dumps(cell.to_json()))) == cell
    keys = Store(ran).verify()
    assert keys == []  # drawings are checksummed as arrays are


def test_the_reducers_of_a_metric_are_seeded_and_fresh(ran):
    first, second = records(ran)
    for cell in (first, second):
        assert [r.value for r in cell.results if r.metric == "curve"] == [1.0]
    points = [np.load(ran / c.arrays["curve.random-projection"]) for c in (first, second)]
    assert (points[0].dtype, points[0].shape) == (np.float32, (40, 2))
    assert not np.array_equal(*points)  # another fold, another seed
    pca = [np.load(ran / c.arrays["curve.pca"]) for c in (first, second)]
    np.testing.assert_allclose(np.abs(pca[0]), np.abs(pca[1]), rtol=1e-4, atol=1e-4)


def test_the_report_shows_the_first_fold_of_each(ran):
    page = (ran / "reports" / "figured" / "default" / "report.html").read_text()
    assert page.count("<h2>curve</h2>") == page.count("<h2>embedded</h2>") == 1
    assert page.count(">a curious title<") == 1
    assert "square · undistilled, 20 labels · fold 1 of 2." in page
    for reducer in ("pca", "random-projection"):
        assert (
            page.count(f"cloud · undistilled, 20 labels · layer E · {reducer} · fold 1 of 2.</figcaption>")
            == 1
        )
    ids = [part.split('"', 1)[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    drawn = {p.name for p in (ran / "reports" / "figured" / "default" / "figures").iterdir()}
    assert {"metric-curve-square-undistilled-20.svg", "metric-curve-square-undistilled-20.png"} <= drawn


def test_the_tracking_store_has_them_and_names_those_that_are_gone(ran, tmp_path):
    def artifacts(tracker, cell, folder):
        runs = tracker.client.search_runs(
            [tracker.client.get_experiment_by_name("kdbench/figured").experiment_id],
            f"tags.`kdbench.cell` = '{cell.key}'",
        )
        assert len(runs) == 1
        return runs[0].info.run_id, [
            f.path for f in tracker.client.list_artifacts(runs[0].info.run_id, folder)
        ]

    tracker = Tracker(None, ran)
    cell = records(ran)[0]
    assert artifacts(tracker, cell, "figures/curve")[1] == ["figures/curve/square.svg"]
    assert artifacts(tracker, cell, "figures/E/pca/embedded")[1] == ["figures/E/pca/embedded/cloud.svg"]

    elsewhere = Tracker(None, tmp_path)
    assert elsewhere.sync([cell]) == {"logged": 1, "found": 0}
    run, names = artifacts(elsewhere, cell, "figures")
    assert names == ["figures/missing.txt"]
    text = Path(elsewhere.client.download_artifacts(run, "figures/missing.txt", str(tmp_path))).read_text()
    assert all(path in text for path in cell.figures.values())


def test_a_figure_is_the_same_bytes_each_time(tmp_path):
    from matplotlib.figure import Figure

    kept = []
    for i in range(2):
        with Store(tmp_path / str(i)).write("0" * 32, {}) as draft:
            figure = Figure()
            figure.subplots().plot([1, 2], label="a", marker="o")
            figure.legend()
            draft.figure("line", figure)
        files = Store(tmp_path / str(i)).open("0" * 32).record["files"]
        assert set(files) == {"line.png", "line.svg"}
        kept.append(files)
    assert kept[0] == kept[1]


@pytest.mark.parametrize("name", ["", "../up", "a b", "a.b", "a/b"])
def test_a_figure_whose_name_is_no_file_name_is_refused(tmp_path, name):
    from matplotlib.figure import Figure

    with pytest.raises(ValueError, match="a name is letters"), Store(tmp_path).write("0" * 32, {}) as draft:
        draft.figure(name, Figure())
    assert not Store(tmp_path).has("0" * 32)


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ('["accuracy", "no-figure"]', "figure 'words' is a str"),
        ('["accuracy", "peeks"]', 'its spec must need "reducers"'),
    ],
)
def test_a_metric_that_breaks_the_contract_fails_its_cell(files, tmp_path, metrics, said):
    code = kdbench(
        files, tmp_path, "--set", f"metrics={metrics}", "--set", "data.folds=1", "--set", "teacher_metrics=[]"
    )
    [cell] = records(tmp_path)
    assert (code, cell.status) == (1, "failed")
    assert said in cell.error
    assert [r.metric for r in cell.results if r.primary] == ["accuracy"]  # what was measured stays


# -- keys


@pytest.fixture(scope="module")
def planned(files):
    registry = Registry.discover(files=(files / "figured.py",))
    data = None

    def plan(*overrides, seed=0):
        nonlocal data
        suite = load_suite(files / "figured.toml", overrides=overrides, registry=registry).suite
        if data is None:
            from kdbench.api import DataPlaces

            data = registry.create("datasets", "digits", {}).load(
                DataPlaces((), Path("unused"), download=False)
            )
        return make_plan(suite, registry, data, seed=seed)

    return plan


def keys(plan, metric):
    return [s.key for c in plan.cells for s in c.scores if s.metric == metric]


def test_only_a_metric_that_runs_reducers_is_keyed_by_them(planned):
    plain, other = planned(), planned('reducers=["pca"]')
    assert keys(plain, "accuracy") == keys(other, "accuracy")
    assert set(keys(other, "embedded")) < set(keys(plain, "embedded"))
    assert not set(keys(plain, "curve")) & set(keys(other, "curve"))
    scores = [s for s in plain.stages.values() if s.component == "metrics/accuracy"]
    assert all(set(s.identity) == {"dataset", "metric", "tap", "test"} for s in scores)


def test_a_parameter_a_label_and_the_order_of_reducers_count(planned):
    base = keys(planned(), "curve")
    assert keys(planned(), "curve") == base
    for changed in (
        'reducers=[{ name = "pca", label = "principal" }, "random-projection"]',
        'reducers=["random-projection", "pca"]',
        'reducers=["pca", "random-projection", "umap"]',
    ):
        assert not set(keys(planned(changed), "curve")) & set(base)


def test_a_suite_without_reducers_leaves_the_metric_out_with_a_reason(planned):
    plan = planned("reducers=[]", 'metrics=["accuracy", "curve"]')
    assert keys(plan, "curve") == []
    assert "metric curve: the suite has no reducers" in plan.exclusions


def test_keys_are_what_they_were(planned):
    """Stages of suites without such metrics; another key would throw away what people have computed."""
    plan = planned('metrics=["accuracy", "class-area"]')
    stage = {s.kind: s for s in reversed(plan.stages.values())}
    assert set(stage["embedding"].identity) == {"tap", "reducer", "seed"}
    assert set(stage["score"].identity) == {"dataset", "metric", "tap", "test"}
    assert set(stage["score"].options) == {"dataset", "metric"}
