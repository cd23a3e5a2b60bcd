from dataclasses import replace

import numpy as np
import pytest
from flat_settings import changed
from scipy import stats
from suite_calls import collate
from synthetic_cells import cell, cells, suite, with_params

from kdbench.api.records import Result
from kdbench.leaderboard import COLUMNS
from kdbench.leaderboard.samples import failures


def rows_of(rows, **fields):
    return [r for r in rows if all(getattr(r, k) == v for k, v in fields.items())]


def row_of(rows, **fields):
    (row,) = rows_of(rows, **fields)
    return row


def value(c, metric="accuracy", name="accuracy", tap=None):
    (v,) = [r.value for r in c.results if (r.metric, r.value_name, r.tap) == (metric, name, tap)]
    return v


def test_a_row_is_the_mean_over_folds_and_the_paired_difference():
    all_cells = cells()
    row = row_of(collate(all_cells, suite()), budget=400, scheme="kl", metric="accuracy.accuracy")
    kl, ud = (
        [value(c) for c in all_cells if (c.scheme, c.budget) == (s, 400)] for s in ("kl", "undistilled")
    )
    own = stats.t.interval(0.95, 4, loc=np.mean(kl), scale=stats.sem(kl))
    apart = stats.ttest_rel(kl, ud).confidence_interval(0.95)
    assert (row.n, row.mean, row.ci_low, row.ci_high) == pytest.approx((5, np.mean(kl), *own))
    assert row.difference == pytest.approx(np.mean(kl) - np.mean(ud))
    assert (row.difference_low, row.difference_high) == pytest.approx((apart.low, apart.high))
    assert (row.published, row.published_source) == (0.2375, "Table 1")
    assert (row.hardware, row.kdbench_version, row.variant) == ("2 cores", "0.1.0", "")


def test_one_row_a_result_and_every_column():
    rows = collate(cells(), suite())
    assert all(tuple(r.to_dict()) == COLUMNS for r in rows)
    per_budget = 2 * (2 + 3) + 2
    assert len(rows) == 2 * per_budget
    assert {r.scheme for r in rows_of(rows, student="")} == {"teacher"}


def test_rows_do_not_depend_on_the_order_of_cells():
    all_cells = cells()
    assert collate(all_cells, suite()) == collate(all_cells[::-1], suite())


def test_schemes_stand_in_the_suites_order_with_the_teacher_last():
    extra = [replace(cell("kl", fold=f), scheme="aaa", key=f"aaa-{f}") for f in range(5)]
    rows = rows_of(collate(extra + cells(), suite()), metric="accuracy.accuracy", budget=400)
    assert [r.scheme for r in rows] == ["undistilled", "kl", "aaa", "teacher"]


def test_differences_are_of_like_with_like_only():
    rows = collate(cells(), suite())
    assert all(r.difference is None for r in rows if r.scheme in ("undistilled", "teacher"))
    longer = [with_params(c, "long", {"student.epochs": 40}) for c in cells() if c.scheme == "kl"]
    rows = collate(cells() + longer, suite())
    (row,) = rows_of(rows, scheme="kl", budget=400, metric="accuracy.accuracy", variant="student.epochs=40")
    assert row.difference is None  # no undistilled student was trained for 40 epochs


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("student.epochs", 40),
        ("teacher.epochs", 99),
        ("scheme.temperature", 2.0),
        ("data.test", 100),
        ("data.unlabelled", 7),
    ],
)
def test_other_parameters_are_never_merged(name, changed):
    plain = [c for c in cells() if c.scheme == "kl"]
    others = [with_params(c, "x", {name: changed}) for c in plain if c.fold < 3]
    rows = rows_of(collate(plain + others, suite()), budget=400, metric="accuracy.accuracy")
    assert sorted((r.variant, r.n) for r in rows) == [("", 5), (f"{name}={changed}", 3)]


@pytest.mark.parametrize(
    "changes",
    [
        {"data.digest": "f" * 64},
        {"student.precision": "bfloat16"},
        {"student": "wide-resnet[depth=40]"},
        {"teacher": "resnet50"},
        {"dataset": "digits"},
        {"scale": "small"},
    ],
)
def test_other_data_precision_networks_and_scales_are_never_merged(changes):
    plain = [c for c in cells() if c.scheme == "kl"]
    settings = {name: value for name, value in changes.items() if "." in name}
    fields = {name: value for name, value in changes.items() if "." not in name}
    others = [changed(c, settings, key=c.key + "x", **fields) for c in plain]
    rows = rows_of(collate(plain + others, suite()), budget=400, metric="accuracy.accuracy")
    assert [r.n for r in rows] == [5, 5]
    shown = [tuple(getattr(r, k) for k in (*COLUMNS[:10], "variant")) for r in rows]
    assert shown[0] != shown[1]


def test_folds_budgets_and_machines_do_not_make_variants():
    plain = [with_params(c, "a", {"data.folds": 3, "seed": c.fold, "n_jobs": 1}) for c in cells(3)]
    more = [
        with_params(c, "b", {"data.folds": 5, "seed": c.fold, "n_jobs": 2}) for c in cells(5) if c.fold > 2
    ]
    more = [replace(c, hardware={"label": "a GPU", "precision": "float32"}) for c in more]
    row = row_of(collate(plain + more, suite()), scheme="kl", budget=400, metric="accuracy.accuracy")
    assert (row.n, row.variant, row.hardware) == (5, "", "2 cores + a GPU")


def test_unlabelled_images_that_follow_from_the_budget_make_no_variant():
    rows = rows_of(collate(cells(), suite()), scheme="kl", metric="accuracy.accuracy")
    assert [(r.budget, r.variant, r.difference is not None) for r in rows] == [
        (400, "", True),
        (2500, "", True),
    ]


def test_the_suite_says_which_experiment_is_the_main_one():
    odd = [with_params(c, "x", {"student.epochs": 1}) for c in cells(5)]
    rows = collate(cells(3) + odd, suite())  # the odd one has more cells and is newer
    row = row_of(rows, scheme="kl", budget=400, metric="accuracy.accuracy", variant="")
    assert row.n == 3


def test_of_two_records_of_one_fold_the_newer_counts_and_old_results_stay():
    old = cell("kl")
    new = replace(old, key="new", results=(Result("accuracy", "accuracy", 0.9, primary=True),))
    rows = collate([old, new])
    assert row_of(rows, metric="accuracy.accuracy").mean == 0.9
    assert row_of(rows, metric="accuracy.accuracy").n == 1
    assert len(rows_of(rows, metric="ivis-loss.last")) == 3


def test_two_seeds_are_more_replicates():
    both = cells(3) + [replace(c, seed=1, key=c.key + "-1") for c in cells(3)]
    row = row_of(collate(both), scheme="kl", budget=400, metric="accuracy.accuracy")
    assert (row.n, row.difference_n) == (6, 6)


def test_metric_parameters_are_told_apart():
    a = with_params(cell("kl"), "a", {"metrics.ivis-loss.tail": 20})
    b = with_params(cell("kl"), "b", {"metrics.ivis-loss.tail": 5})
    rows = rows_of(collate([a, b]), metric="ivis-loss.last", tap="A")
    assert len(rows) == 2
    assert sum(r.variant == "" for r in rows) == 1
    assert len(rows_of(collate([a, b]), metric="accuracy.accuracy")) == 1


def test_failed_cells_are_counted_until_made_good():
    failed = replace(cell("kl", fold=5), status="failed", results=(), error="Traceback\nValueError: NaN loss")
    row = row_of(collate([*cells(), failed]), scheme="kl", budget=400, metric="accuracy.accuracy")
    assert (row.n, row.failed) == (5, 1)
    row = row_of(collate([failed, *cells(6)]), scheme="kl", budget=400, metric="accuracy.accuracy")
    assert (row.n, row.failed) == (6, 0)


def test_what_a_failed_cell_measured_beside_its_failure_counts():
    """A reducer that breaks must not take the accuracies with it."""
    broken = [replace(c, status="failed", error="embedding boom\nValueError") for c in cells(3)]
    rows = collate(broken)
    assert rows == collate(cells(3))
    assert {(r.n, r.failed) for r in rows} == {(3, 0)}
    less = replace(broken[0], results=broken[0].results[:1])  # of this one the embeddings were not made
    rows = collate([less, *broken[1:]])
    kept = broken[0].results[0]
    for row in rows_of(rows, scheme=less.scheme, budget=less.budget):
        whole = row.metric == f"{kept.metric}.{kept.value_name}"
        assert (row.n, row.failed) == ((3, 0) if whole else (2, 1))


@pytest.mark.parametrize("age", [-1.0, 1.0])
def test_beside_a_whole_cell_a_failed_one_adds_what_it_alone_has(age):
    whole = [replace(c, created=10.0, network=c.key) for c in cells(3)]
    more = (Result("accuracy", "accuracy", 0.99, primary=True), Result("extra", "value", 1.0))
    broken = [
        replace(c, key=c.key + "x", status="failed", error="e", created=10.0 + age, results=more)
        for c in whole
    ]
    rows = collate([*whole, *broken])
    added = [r for r in rows if r.metric == "extra.value"]
    assert {(r.n, r.mean) for r in added} == {(3, 1.0)}
    assert [r for r in rows if r not in added] == collate(whole)


def test_what_failed_after_a_whole_cell_is_told_until_it_is_made_good():
    whole = [replace(c, created=10.0, stages={"student x": c.key, "score a": c.key + "a"}) for c in cells(1)]
    wanted = [{**c.stages, "score b": c.key + "b"} for c in whole]
    broken = [
        replace(c, status="failed", error="boom", created=11.0, stages=stages)
        for c, stages in zip(whole, wanted, strict=True)
    ]
    assert {c.error for c in failures([*whole, *broken])} == {"boom"}
    assert len(failures([*whole, *broken])) == len(whole)
    # nothing more was wanted than there is; or it was done since; or done otherwise, later
    assert not failures([*whole, *(replace(c, stages=w.stages) for c, w in zip(broken, whole, strict=True))])
    assert not failures([*whole, *broken, *(replace(c, status="finished", created=12.0) for c in broken)])
    assert not failures([*broken, *(replace(c, created=12.0) for c in whole)])


@pytest.mark.parametrize("age", [-1.0, 1.0])
def test_beside_a_whole_cell_a_failed_one_of_another_network_tells_nothing(age):
    """Older or newer: two networks would be mixed in one sample."""
    whole = [replace(c, created=10.0) for c in cells(3)]
    broken = [
        replace(c, key=c.key + "x", status="failed", error="e", created=10.0 + age,
                results=(Result("accuracy", "accuracy", 0.99, primary=True), Result("extra", "value", 1.0)))
        for c in whole
    ]  # fmt: skip
    assert collate([*whole, *broken]) == collate(whole)


def test_few_folds_are_marked_descriptive():
    assert {r.descriptive for r in collate(cells(4))} == {True}
    assert {r.descriptive for r in collate(cells(5))} == {False}
    single = row_of(collate(cells(1)), scheme="kl", budget=400, metric="accuracy.accuracy")
    assert single.ci_low is None
    assert single.difference is not None
    assert single.difference_low is None


def test_the_most_specific_published_number_is_quoted():
    numbers = [
        {"where": "any", "metric": "accuracy", "value_name": "accuracy", "value": 0.1},
        {"where": "budget", "budget": 400, "metric": "accuracy", "value_name": "accuracy", "value": 0.2},
        {
            "where": "no",
            "budget": 400,
            "tap": "A",
            "metric": "accuracy",
            "value_name": "accuracy",
            "value": 0.3,
        },
    ]
    rows = collate(cells(), suite(published=numbers))
    assert row_of(rows, scheme="kl", budget=400, metric="accuracy.accuracy").published_source == "budget"
    assert row_of(rows, scheme="kl", budget=2500, metric="accuracy.accuracy").published_source == "any"


def test_no_cells_are_no_rows():
    assert collate([]) == []


def test_every_row_is_compared_with_the_one_undistilled_row_like_it():
    both = ("undistilled", "kl")
    elsewhere = {"dataset": "other"}
    longer = {"student.epochs": 40}
    made = [
        *cells(3),
        *(cell(s, b, f, **elsewhere) for s in both for b in (400, 2500) for f in range(2)),
        *(with_params(cell(s, 400, f), "longer", longer) for s in both for f in range(3)),
        *(replace(cell("hint", 400, f), student="another") for f in range(3)),
    ]
    rows = collate(made, suite())
    place = (
        "suite",
        "scale",
        "dataset",
        "budget",
        "student",
        "tap",
        "reducer",
        "metric",
        "setting",
        "variant",
    )
    compared = 0
    for row in rows:
        undistilled = [r for r in rows if r.scheme == "undistilled"]
        alike = [r for r in undistilled if all(getattr(r, c) == getattr(row, c) for c in place)]
        if row.scheme in ("teacher", "undistilled") or not alike:
            assert row.difference is None
            continue
        (reference,) = alike
        assert row.difference == pytest.approx(row.mean - reference.mean)
        compared += 1
    assert compared > 20
