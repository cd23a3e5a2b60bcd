"""Experiments out of records as the runner writes them."""

import json
from dataclasses import replace

import pytest
from flat_settings import changed
from recorded_cells import BUDGETS, POOL, SCHEMES, all_recorded, recorded, recorded_suite
from suite_calls import board_of, collate, departures, evaluate

from kdbench.api.records import Result
from kdbench.api.settings import text_of
from kdbench.leaderboard.samples import failures
from kdbench.rendering.export import to_json
from kdbench.rendering.html import to_html
from kdbench.rendering.markdown import to_markdown
from kdbench.suite.schema import Component


def rows_of(rows, **fields):
    return [r for r in rows if all(getattr(r, k) == v for k, v in fields.items())]


def accuracies(cells, suite=None, **fields):
    return rows_of(collate(cells, suite or recorded_suite()), metric="accuracy.accuracy", **fields)


def test_steps_that_follow_from_the_budget_make_no_variant():
    rows = accuracies(all_recorded())
    assert sorted((r.budget, r.scheme) for r in rows) == sorted((b, s) for b in BUDGETS for s in SCHEMES)
    assert {(r.variant, r.n) for r in rows} == {("", 3)}
    shown = {(r.budget, r.scheme): r.published for r in rows if r.published is not None}
    assert shown == {(400, "distilled"): 0.24, (2500, "distilled"): 0.44, (2500, "teacher"): 0.5}
    assert all(r.difference_n == 3 for r in rows if r.scheme == "distilled")
    (claim,) = evaluate(all_recorded(folds=5), recorded_suite())
    assert (claim.verdict, len(claim.comparisons)) == ("supported", 2)


def test_other_steps_within_a_budget_are_another_experiment():
    longer = [recorded(fold=f, set_={"steps": 7}, key=f"longer-{f}") for f in range(2)]
    rows = accuracies(all_recorded() + longer, scheme="distilled")
    assert [(r.budget, r.variant, r.n) for r in rows] == [
        (400, "", 3), (2500, "", 3), (400, "steps=7", 2),
    ]  # fmt: skip


def test_a_cell_whose_network_failed_belongs_to_its_siblings():
    broken = [
        recorded("distilled", 2500, 3, network_failed=True),
        recorded("teacher", 400, 4, network_failed=True),
    ]
    cells = all_recorded() + broken
    rows = accuracies(cells)
    assert {r.variant for r in rows} == {""}
    counts = {(r.budget, r.scheme): r.failed for r in rows if r.failed}
    assert counts == {(2500, "distilled"): 1, (400, "teacher"): 1}
    assert [c.scheme for c in failures(cells)] == ["teacher", "distilled"]


def test_a_failed_cell_is_made_good_by_one_with_steps():
    broken = recorded("distilled", 400, 1, network_failed=True, key="broken")
    for cells in ([broken, *all_recorded()], [*all_recorded(), broken]):
        assert failures(cells) == []
        assert {r.failed for r in accuracies(cells)} == {0}


def test_of_two_experiments_a_failed_cell_counts_to_one():
    few = [recorded(fold=f, set_={"steps": 7}, key=f"few-{f}") for f in range(2)]
    rows = accuracies(
        [*few, *all_recorded(), recorded(fold=9, network_failed=True)], scheme="distilled", budget=400
    )
    assert [(r.variant, r.failed) for r in rows] == [("", 1), ("steps=7", 0)]


def test_cells_of_a_network_that_never_worked_are_failures_alone():
    cells = [recorded(s, 400, f, network_failed=True) for f in range(2) for s in SCHEMES]
    assert len(failures(cells)) == 6
    assert collate(cells, recorded_suite()) == []


OVERRIDES = {
    "scheme.t2_scaling": True,
    "scheme.temperature": 2.0,
    "student.architecture.depth": 40,
    "student.epochs": 9,
    "teacher.mode": "all",
    "teacher.source.dataset": "digits",
    "teacher.source.epochs": 50,
    "data.embedded": 100,
    "data.validation": 200,
    "data.train": 5000,
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_the_suites_own_setting_stays_the_main_one(name):
    """The override has more folds and is newer."""
    schemes = [s for s in SCHEMES if name in recorded(s).settings.flat()]
    odd = [
        recorded(s, b, f, set_={name: OVERRIDES[name]}, key=f"odd-{s}-{b}-{f}", created=9.0)
        for s in schemes
        for b in BUDGETS
        for f in range(5)
    ]
    rows = accuracies(all_recorded() + odd, scheme="distilled")
    value = text_of(OVERRIDES[name])
    assert sorted((r.variant, r.n) for r in rows) == [("", 3)] * 2 + [(f"{name}={value}", 5)] * 2
    assert all((r.published is None) == bool(r.variant) for r in rows)


@pytest.mark.parametrize("name", OVERRIDES)
def test_where_all_cells_depart_from_the_suite_the_board_says_so(name):
    cells = all_recorded()
    told = board_of(cells, recorded_suite())
    assert told.changes == []
    pool = {"data.validation": POOL - 200, "data.train": 5000}.get(name, POOL)  # what the budget leaves of
    odd = []
    for c in cells:
        flat = c.settings.flat()
        params = {name: OVERRIDES[name]} if name in flat else {}
        if "data.unlabelled" in flat:
            params["data.unlabelled"] = pool - c.budget
        odd.append(changed(c, params))
    told = board_of(odd, recorded_suite())
    (change,) = told.changes
    shown = name.replace("scheme.", "distilled: ")
    assert change.startswith(f"{shown}={text_of(OVERRIDES[name])}, not ")
    assert f"| overrides | `{change}` |" in to_markdown(told)
    assert change in to_html(told)


def test_folds_of_several_seeds_are_told_and_made_again():
    cells = all_recorded()
    assert "seeds" not in to_markdown(board_of(cells, recorded_suite()))
    cells += [replace(c, seed=7, key=f"{c.key}-7") for c in cells]
    board = board_of(cells, recorded_suite(), given="own.toml --plugin nets.py")
    assert {r.n for r in board.rows} == {6}
    text = to_markdown(board)
    assert "| seeds | 0, 7 |" in text
    assert json.loads(to_json(board))["seeds"] == [0, 7]
    given = "own.toml --plugin nets.py --scale quick"
    for line in (f"run {given}", f"run {given} --seed 7", f"leaderboard build {given}"):
        assert f"\nkdbench {line}\n" in text


def test_a_suite_with_overrides_is_held_to_the_one_without():
    suite = recorded_suite()
    longer = suite.model_copy(update={"student": suite.student.model_copy(update={"epochs": 9})})
    cells = all_recorded(set_={"student.epochs": 9})
    told = board_of(cells, longer, base=suite)
    assert told.changes == ["student.epochs=9, not 6"]
    assert json.loads(to_json(told))["changes"] == told.changes
    assert {r.variant for r in told.rows} == {""}


def test_fewer_unlabelled_images_and_files_of_weights_in_departures():
    suite = recorded_suite()
    assert departures([recorded(set_={"data.unlabelled": 1000})], suite) == ["data.unlabelled=1000, not 9600"]
    network = Component(name="resnet18", params={"weights": "/x/y.safetensors"})
    teacher = suite.teacher.model_copy(update={"architecture": network})
    filed = suite.model_copy(update={"teacher": teacher})
    assert departures([recorded(set_={"teacher.architecture.weights": "sha256:ab"})], filed) == []


def test_schemes_whose_students_the_suite_trains_otherwise_are_no_variants():
    """As in fixmatch-comparison at its published settings."""
    suite = recorded_suite()
    own = suite.schemes[1].model_copy(update={"student": {"epochs": 9}})
    suite = suite.model_copy(update={"schemes": (suite.schemes[0], own)})
    cells = [
        recorded(s, b, f, set_={"student.epochs": 9} if s == "distilled" else None)
        for s in SCHEMES for b in BUDGETS for f in range(3)
    ]  # fmt: skip
    rows = accuracies(cells, suite)
    assert {r.variant for r in rows} == {""}
    assert departures(cells, suite) == []
    assert all(r.published for r in rows if r.scheme == "distilled")


def test_fewer_unlabelled_images_than_the_rest_are_the_variant():
    fewer = [
        recorded(fold=f, set_={"data.unlabelled": 1000}, key=f"fewer-{f}", created=9.0) for f in range(5)
    ]
    rows = accuracies(all_recorded() + fewer, scheme="distilled", budget=400)
    assert [(r.variant, r.n) for r in rows] == [("", 3), ("data.unlabelled=1000", 5)]
    told = recorded_suite()
    told = told.model_copy(update={"data": told.data.model_copy(update={"unlabelled": 1000})})
    rows = accuracies(all_recorded() + fewer, told, scheme="distilled", budget=400)
    assert [(r.variant, r.n) for r in rows] == [("", 5), ("data.unlabelled=9600", 3)]


def test_a_variant_names_all_that_it_differs_in():
    """The scheme's own difference, too, where its students share a difference with others."""
    shorter = {"student.epochs": 2}
    odd = [
        recorded(
            s,
            400,
            f,
            set_=shorter | ({"scheme.temperature": 1.0} if s == "distilled" else {}),
            key=f"o{s}{f}",
        )
        for s in SCHEMES[:2]
        for f in range(2)
    ]
    rows = accuracies(all_recorded() + odd, budget=400)
    assert {(r.scheme, r.variant) for r in rows if r.variant} == {
        ("undistilled", "student.epochs=2"),
        ("distilled", "student.epochs=2, scheme.temperature=1.0"),
    }


def test_a_variant_is_held_to_the_undistilled_students_trained_like_its_own():
    """Of two such, to the one that has no setting of its own besides."""
    odd = [recorded("distilled", 400, f, set_={"student.epochs": 2, "scheme.temperature": 1.0}, key=f"d{f}",
                    accuracy=0.5) for f in range(3)]  # fmt: skip
    for passes, accuracy in ((6, 0.3), (1, 0.4)):
        odd += [
            recorded("undistilled", 400, f, set_={"student.epochs": 2, "scheme.passes": passes},
                     key=f"u{passes}{f}", accuracy=accuracy)
            for f in range(3)
        ]  # fmt: skip
    rows = accuracies(all_recorded() + odd, budget=400, scheme="distilled")
    (variant,) = (r for r in rows if r.variant)
    assert variant.difference == pytest.approx(0.2)


def test_what_a_metric_sees_beside_is_held_to_the_suite():
    """A student's agreement with another teacher is another measurement, though it is of the same student."""

    def measured(epochs, created):
        settings = {
            f"metrics.fidelity.teacher.{n}": v for n, v in recorded().settings.teacher.flat("t").items()
        }
        settings = {name.replace(".t.", "."): value for name, value in settings.items()}
        settings["metrics.fidelity.teacher.epochs"] = epochs
        cells = [
            recorded("undistilled", 400, f, set_=settings, key=f"e{epochs}{f}", created=created)
            for f in range(3)
        ]
        value = Result("fidelity", "agreement", epochs / 100, primary=True)
        return [replace(c, results=(value,)) for c in cells]

    suite = recorded_suite(metrics=["accuracy", "ivis-loss", "fidelity"])
    rows = collate([*all_recorded(), *measured(60, 0.0), *measured(2, 9.0)], suite)
    labels = {r.variant: r.mean for r in rows if r.metric == "fidelity.agreement"}
    assert labels == {"": pytest.approx(0.6), "metrics.fidelity.teacher.epochs=2": pytest.approx(0.02)}


@pytest.mark.parametrize("role", ["data", "teacher.source"])
def test_the_seed_of_a_dataset_is_no_seed_of_a_run(role):
    def of(seed, created, digest):
        given = {f"{role}.dataset.seed": seed, f"{role}.digest": digest}
        return [
            recorded("distilled", 400, f, set_=given, key=f"{seed}-{f}", created=created) for f in range(3)
        ]

    suite = recorded_suite()
    dataset = suite.data.dataset.model_copy(update={"params": {"n_train": POOL, "seed": 0}})
    source = suite.teacher.source
    if role == "data":
        suite = suite.model_copy(update={"data": suite.data.model_copy(update={"dataset": dataset})})
    else:
        source = source.model_copy(
            update={"dataset": source.dataset.model_copy(update={"params": {"seed": 0}})}
        )
        suite = suite.model_copy(update={"teacher": suite.teacher.model_copy(update={"source": source})})
    both = [*of(0, 0.0, "a" * 64), *of(5, 9.0, "b" * 64)]
    rows = accuracies(both, suite, scheme="distilled")
    assert sorted((r.variant, r.n) for r in rows) == [("", 3), (f"{role}.dataset.seed=5", 3)]
    assert board_of(of(5, 9.0, "b" * 64), suite).changes == [f"{role}.dataset.seed=5, not 0"]


def test_values_that_begin_alike_are_written_out():
    files = ["resnet18.tv_in1k.safetensors.first", "resnet18.tv_in1k.safetensors.second"]
    cells = all_recorded()
    for file in files:
        cells += [
            recorded(
                "distilled",
                400,
                f,
                set_={"teacher.architecture.weights": file},
                key=f"{file}{f}",
                accuracy=0.7,
            )
            for f in range(2)
        ]
        cells += [recorded(fold=f, set_={"reducers.ivis.init": file}, key=f"r{file}{f}") for f in range(2)]
    board = board_of(cells, recorded_suite())
    labels = [(r.scheme, r.budget, r.metric, r.tap, r.variant) for r in board.rows]
    assert len(set(labels)) == len(labels)
    markdown = to_markdown(board)
    for file in files:
        assert markdown.count(f"weights={file}") >= 1
        assert markdown.count(f"init={file}") >= 1


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scheme.version", "distilled: version=97, not {}"),
        ("reducers.ivis.version", "reducers.ivis.version=97, not {}"),
        ("reducers.ivis.epochs", "reducers.ivis.epochs=97, not {}"),
        ("metrics.accuracy.last_k", "metrics.accuracy.last_k=97, not {}"),
        ("data.dataset.n_train", "data.dataset.n_train=97, not {}"),
    ],
)
def test_departures_in_code_in_measuring_and_in_images(name, change):
    usual = all_recorded()
    assert board_of(usual, recorded_suite()).changes == []
    default = text_of(recorded().settings.flat()[name])
    affected = [c for c in usual if c.scheme == "distilled" or not name.startswith("scheme.")]
    odd = [changed(c, {name: 97}) if c in affected else c for c in usual]
    assert board_of(odd, recorded_suite()).changes == [change.format(default)]
    # next to usual ones they are a variant, and the board is of the usual ones
    both = board_of([*usual, *(replace(c, key=c.key + "x") for c in odd)], recorded_suite())
    assert both.changes == []
    assert any(name in r.variant for r in both.rows)


def test_a_teacher_without_a_source_task_is_the_main_one_where_the_suite_has_none():
    suite = recorded_suite()
    bare = suite.model_copy(update={"teacher": suite.teacher.model_copy(update={"source": None})})
    full = [recorded("teacher", 400, f, key=f"bare-{f}") for f in range(2)]
    without = [
        replace(c, settings=replace(c.settings, teacher=replace(c.settings.teacher, source=None)))
        for c in full
    ]
    rows = accuracies(all_recorded() + without, bare, scheme="teacher", budget=400)
    (main, other) = sorted(rows, key=lambda r: r.variant)
    assert (main.variant, main.n, other.n) == ("", 2, 3)
    assert "teacher.source.epochs=5" in other.variant


def test_defaults_that_a_suite_does_not_write_can_be_overridden_too():
    silent = recorded_suite(schemes=["undistilled", {"name": "kl", "temperature": 4, "label": "distilled"}])
    odd = [
        recorded("distilled", 400, f, set_={"scheme.direction": "backward"}, key=f"o{f}", created=9.0)
        for f in range(5)
    ]
    rows = accuracies(all_recorded() + odd, silent, scheme="distilled", budget=400)
    assert sorted((r.variant, r.n) for r in rows) == [("", 3), ("scheme.direction=backward", 5)]


def ages():
    """Two cells of one replicate: the newer one comes first by key, and is given and logged first."""
    new = recorded(key="a-new", created=200.0, accuracy=0.9)
    old = recorded(key="b-old", created=100.0, accuracy=0.1)
    return new, replace(old, versions={"kdbench": "0.0.1"}, hardware={"label": "an old machine"})


@pytest.mark.parametrize("order", [1, -1])
def test_the_newest_cell_of_a_replicate_counts_in_whatever_order_they_come(order):
    (row,) = accuracies(ages()[::order])
    assert (row.n, row.mean, row.kdbench_version, row.hardware) == (1, 0.9, "0.1.0", "2 cores")


def test_stored_cells_come_oldest_first(tmp_path):
    from kdbench.store import Store

    store = Store(tmp_path)
    third, first = ages()
    second = recorded(key="0-middle", fold=1, created=150.0)
    for cell in (third, first, second, replace(first, key="a-old", fold=2)):
        store.save_cell(cell)
    assert [c.key for c in store.cells()] == ["a-old", "b-old", "0-middle", "a-new"]
    assert [c.key for c in store.cells("demo", "quick")] == ["a-old", "b-old", "0-middle", "a-new"]
    assert store.cells("demo", "other") == []


def test_a_tracking_store_gives_cells_by_age_and_not_by_when_they_were_logged(tmp_path, monkeypatch):
    from kdbench.tracking import Tracker, fetch_cells

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    new, old = ages()
    tracker = Tracker(None, tmp_path)
    tracker.sync([new])
    tracker.sync([old])
    found = fetch_cells(tracker.uri, "demo")
    assert [c.key for c in found] == ["b-old", "a-new"]
    (row,) = accuracies(found)
    assert row.mean == 0.9


def of_tap(cells, metric, suite=None):
    rows = rows_of(collate(cells, suite or recorded_suite()), metric=metric, scheme="distilled", budget=400)
    return sorted((r.variant, r.n) for r in rows)


@pytest.mark.parametrize(
    ("name", "changed", "apart"),
    [
        ("reducers.ivis.k", 99, {"ivis-loss.last", "embedding-time.seconds"}),
        ("reducers.ivis.epochs", 7, {"ivis-loss.last", "embedding-time.seconds"}),
        ("metrics.ivis-loss.tail", 5, {"ivis-loss.last"}),
        ("metrics.ivis-loss.seed", 5, {"ivis-loss.last"}),
        ("metrics.accuracy.best_on_validation", True, {"accuracy.accuracy"}),
    ],
)
def test_results_of_other_components_under_one_label_are_never_merged(name, changed, apart):
    """The others have more folds and are newer; what does not depend on the component is one sample."""
    odd = [recorded(fold=f, set_={name: changed}, key=f"odd-{f}", created=9.0) for f in range(5)]
    cells = all_recorded() + odd
    for metric in ("accuracy.accuracy", "ivis-loss.last", "embedding-time.seconds"):
        rows = of_tap(cells, metric)
        if metric in apart:
            assert sorted(n for _, n in rows) == [3, 5]
            assert [variant.split("=")[0] for variant, _ in rows] == ["", name]
        else:
            assert rows == [("", 5)]


def test_of_one_label_the_suites_own_reducer_is_the_main_one():
    odd = [recorded(fold=f, set_={"reducers.ivis.k": 99}, key=f"odd-{f}", created=9.0) for f in range(5)]
    assert of_tap(all_recorded() + odd, "ivis-loss.last") == [("", 3), ("reducers.ivis.k=99", 5)]
    assert of_tap(all_recorded() + odd, "ivis-loss.last", recorded_suite(reducers=[])) == [
        ("", 5), ("reducers.ivis.k=15", 3),
    ]  # fmt: skip


def test_another_reducers_parameters_do_not_touch_a_result():
    """Neither of another label, nor of the component that a label is of when the label has its own."""
    beside = {"reducers.pca.whiten": True, "reducers.ivis[k=15].k": 15}
    cells = [
        recorded(fold=f, set_=beside | {"reducers.ivis.k": 15 + f}, key=f"x{f}") for f in range(2)
    ]  # fmt: skip
    named = [
        replace(c, results=tuple(replace(r, reducer=r.reducer and "ivis[k=15]") for r in c.results))
        for c in cells
    ]
    assert of_tap(named, "ivis-loss.last") == [("", 2)]


def test_a_frame_has_what_two_cells_measured_of_one_fold_once(plain_registry):
    """As a leaderboard counts it: a mean over the frame's main rows is the row's."""
    from kdbench.session.suites import Results
    from kdbench.suite import ResolvedSuite, SuiteFile

    cells = all_recorded()
    again = [replace(c, key=c.key + "-again", created=9.0, results=c.results[:1]) for c in cells]
    suite = recorded_suite()
    resolved = ResolvedSuite("demo", SuiteFile("demo.toml", {}, {}, ""), suite, suite)
    results = Results(resolved, [*cells, *again], plain_registry)
    frame = results.frame().query("metric == 'accuracy' and variant == ''")
    assert len(frame) == len(cells)
    assert set(frame["key"]) == {c.key for c in again}  # the newest
    rows = {(r.scheme, r.budget): r.mean for r in accuracies(cells)}
    means = frame.groupby(["scheme", "budget"])["value"].mean().to_dict()
    assert means == pytest.approx(rows)


def test_a_change_in_a_long_value_is_told_whole():
    """Shortened, both would read alike."""
    suite = recorded_suite()
    names = [f"resnet18.tv_in1k.safetensors.{n}" for n in ("first", "second")]
    network = Component(name="resnet18", params={"weights": names[0]})
    suite = suite.model_copy(update={"teacher": suite.teacher.model_copy(update={"architecture": network})})
    found = departures([recorded(set_={"teacher.architecture.weights": names[1]})], suite)
    assert found == [f"teacher.architecture.weights={names[1]}, not {names[0]}"]


def test_a_suite_as_commands_take_it_names_files_alone(tmp_path):
    from kdbench.registry import Registry
    from kdbench.session.leaderboards import command_arguments

    (tmp_path / "nets.py").write_text("")
    plain, mine = Registry.discover(), Registry.discover(files=[tmp_path / "nets.py"], broken_files=True)
    assert command_arguments("paper-reference", plain) == "paper-reference"
    assert command_arguments(tmp_path / "own.toml", plain) == "own.toml"
    assert command_arguments(str(tmp_path / "own.toml"), mine) == "own.toml --plugin nets.py"
