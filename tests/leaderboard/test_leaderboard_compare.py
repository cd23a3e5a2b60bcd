"""Two sides paired by fold, against SciPy on the pairs taken by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from flat_settings import changed
from rich.console import Console
from scipy import stats
from suite_calls import reference
from synthetic_cells import cell, cells, suite

from kdbench.cli.compare import comparison_table
from kdbench.errors import UsageError, WorkspaceError
from kdbench.leaderboard.compare import Side, compare, side
from kdbench.tracking.query import fetch_run


def both(a: str, b: str, known=None, **options):
    known = cells() if known is None else known
    return compare(
        side(a, known), side(b, known), directions={"accuracy": True, "ivis-loss": False}, **options
    )


def accuracies(scheme: str, budget: int = 400) -> np.ndarray:
    return np.array([cell(scheme, budget, fold).results[0].value for fold in range(5)])


def test_a_difference_is_paired_by_fold_with_the_interval_of_a_paired_t_test():
    row = both("kl", "undistilled", metrics=["accuracy"]).rows[0]
    difference = accuracies("kl") - accuracies("undistilled")
    oracle = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert (row.budget, row.n, row.metric) == (400, 5, "accuracy.accuracy")
    assert row.difference == pytest.approx(difference.mean())
    assert (row.low, row.high) == pytest.approx((oracle.low, oracle.high))
    assert (row.left, row.right) == pytest.approx((accuracies("kl").mean(), accuracies("undistilled").mean()))


def test_swapping_the_sides_swaps_everything():
    forward, back = both("kl", "undistilled"), both("undistilled", "kl")
    assert len(forward.rows) == 2 * (1 + 3)  # budgets x (accuracy, a loss at three taps)
    for one, other in zip(forward.rows, back.rows, strict=True):
        assert one.difference == pytest.approx(-other.difference)
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
        assert (one.verdict, other.verdict) == ("A", "B")  # more accuracy, less loss


def test_the_suites_own_setting_is_the_main_one_though_another_is_newer():
    newer = [changed(c, {"student.epochs": 5}, key=c.key + "-5", created=1.0) for c in cells()]
    known = [*cells(), *newer]
    other = [replace(c, suite="other", key=c.key + "-o") for c in known]  # of a suite that nobody knows
    found = both(
        "kl",
        "undistilled",
        [*known, *other],
        metrics=["accuracy"],
        suites={("demo", "quick"): reference(suite())},
    )
    assert {(r.suite, r.variant) for r in found.rows} == {
        ("demo", ""), ("demo", "student.epochs=5"), ("other", ""), ("other", "student.epochs=20"),
    }  # fmt: skip


def test_only_common_folds_count():
    known = [c for c in cells() if (c.scheme, c.fold) != ("kl", 4)]
    row = both("kl", "undistilled", known, metrics=["accuracy"]).rows[0]
    assert row.n == 4
    assert row.right == pytest.approx(accuracies("undistilled")[:4].mean())
    assert row.verdict == "undecided"  # four folds do not conclude


def test_primary_values_alone_unless_all_or_one_by_name():
    assert {r.metric for r in both("kl", "undistilled").rows} == {"accuracy.accuracy", "ivis-loss.last"}
    assert "accuracy.top5" in {r.metric for r in both("kl", "undistilled", every=True).rows}
    assert {r.metric for r in both("kl", "undistilled", metrics=["accuracy.top5"]).rows} == {"accuracy.top5"}


def test_other_settings_of_the_student_do_not_pair():
    known = [changed(c, {"student.epochs": 5}) if c.scheme == "kl" else c for c in cells()]
    with pytest.raises(WorkspaceError, match="nothing pairs"):
        both("kl", "undistilled", known)


def test_pairs_of_several_settings_are_told_apart(capsys):
    others = [changed(c, {"student.epochs": 5}) for c in cells()]
    found = both("kl", "undistilled", [*cells(), *others], metrics=["accuracy"])
    at_400 = {r.variant for r in found.rows if r.budget == 400}
    assert len(at_400) == 2
    assert "" in at_400
    (variant,) = at_400 - {""}
    assert variant.startswith("student.epochs=")
    Console(width=200).print(comparison_table(found))
    assert variant in capsys.readouterr().out


def test_a_student_pairs_with_its_teacher_and_says_what_else_differs():
    rows = both("kl", "teacher").rows
    assert {r.metric for r in rows} == {"accuracy.accuracy"}  # the teacher's taps were not measured
    assert rows[0].student == "wide-resnet[depth=28] | -"


def test_students_pair_within_a_scheme():
    other = [
        changed(c, {"student.architecture.depth": 18}, key=c.key + "-b", student="resnet18")
        for c in cells()
        if c.scheme != "teacher"
    ]
    found = both("wide-resnet", "resnet18", [*cells(), *other])
    assert found.kind == "student"
    assert {r.scheme for r in found.rows} == {"kl", "undistilled"}
    assert all(r.difference == pytest.approx(0) and r.verdict == "undecided" for r in found.rows)
    assert "student.architecture.depth=18" in found.rows[0].notes


def test_runs_pair_by_name_and_say_what_was_set_otherwise():
    others = [
        changed(c, {"student.epochs": 5}, results=tuple(replace(r, value=0.0) for r in c.results))
        for c in cells()
    ]
    found = compare(Side("run", "one", cells()), Side("run", "two", others), directions={"accuracy": True})
    kl = next(r for r in found.rows if (r.scheme, r.metric, r.budget) == ("kl", "accuracy.accuracy", 400))
    assert kl.difference == pytest.approx(accuracies("kl").mean())
    assert kl.verdict == "A"
    assert kl.notes == "A: student.epochs=20; B: student.epochs=5"


def test_runs_say_what_was_set_otherwise_of_schemes_and_teachers_too(capsys):
    """As `--set` names it; what the training came to goes without saying."""

    def other(c):
        of_teacher = {"teacher.epochs": 1} if c.teacher else {}
        of_scheme = {"scheme.temperature": 2.0, "steps": 7} if c.scheme == "kl" else {}
        return changed(c, {**of_teacher, **of_scheme})

    one = [changed(c, {"steps": 3}) if c.scheme == "kl" else c for c in cells()]
    found = compare(Side("run", "one", one), Side("run", "two", [other(c) for c in one]))
    notes = {r.scheme: r.notes for r in found.rows}
    assert notes == {
        "undistilled": "",
        "teacher": "A: teacher.epochs=10; B: teacher.epochs=1",
        "kl": "A: schemes.kl.temperature=4.0, teacher.epochs=10; B: schemes.kl.temperature=2.0, teacher.epochs=1",
    }
    Console(width=200).print(comparison_table(found))
    shown = capsys.readouterr().out
    assert f"other differences (kl): {notes['kl']}" in shown
    assert f"other differences (teacher): {notes['teacher']}" in shown
    stopped = [changed(c, {"steps": 4}) if c.scheme == "kl" else c for c in one]
    found = compare(Side("run", "one", one), Side("run", "two", stopped))
    assert {r.notes for r in found.rows if r.scheme == "kl"} == {"A: steps=3; B: steps=4"}


def test_schemes_with_other_teachers_say_so():
    other = [
        changed(c, {"teacher.epochs": 40}, scheme="dkd", key=c.key + "-d")
        for c in cells()
        if c.scheme == "kl"
    ]
    assert {r.notes for r in both("kl", "dkd", [*cells(), *other]).rows} == {
        "A: teacher.epochs=10; B: teacher.epochs=40"
    }
    assert {r.notes for r in both("kl", "undistilled").rows} == {""}


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ("kl", "kl", {}, "compared with itself"),
        ("kll", "undistilled", {}, "there is no scheme"),
        ("kl", "wide-resnet", {}, "'kl' is a scheme and"),
        ("student:kl", "undistilled", {}, "there is no student"),
        ("kl", "undistilled", {"metrics": ["acuracy"]}, "neither has a metric"),
    ],
)
def test_what_can_not_be_compared_is_said(a, b, options, message):
    with pytest.raises(UsageError, match=message):
        both(a, b, **options)


def test_a_component_name_that_several_labels_share_is_not_guessed():
    known = [replace(c, scheme=f"kl[temperature={t}]") for t in (2, 4) for c in cells() if c.scheme == "kl"]
    with pytest.raises(UsageError, match="several schemes") as caught:
        side("kl", known)
    assert "kl[temperature=2]" in caught.value.hint


@pytest.fixture(scope="module")
def workspace(new_workspace):
    """A workspace with the synthetic cells, logged as two runs: one with half of the folds, one with all."""
    from kdbench.api.records import RunSummary
    from kdbench.store import Store
    from kdbench.tracking import Tracker

    folder = new_workspace()
    store, tracker = Store(folder), Tracker(None, folder)
    for run_id, folds in (("20261121-101500-ab12cd", 1), ("20261121-101600-ab12ce", 2)):
        run = RunSummary(run_id, "demo", "quick", 0, 3, 2, str(folder))
        tracker.run_started(run)
        for record in cells(folds, (400,)):
            store.save_cell(record)
            tracker.cell_finished(run, record)
        tracker.run_finished(replace(run, status="finished"))
    return folder


def test_a_run_is_what_it_executed_and_what_it_found(workspace):
    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    assert len(fetch_run(uri, "20261121-101500-ab12cd")) == 3
    assert {c.key for c in fetch_run(uri, "20261121-101600-ab12ce")} == {c.key for c in cells(2, (400,))}
    with pytest.raises(WorkspaceError, match="there is no run"):
        fetch_run(uri, "20261121-101700-ab12cd")


def test_the_command_knows_a_suite_by_its_file(new_workspace, tmp_path, capsys):
    """One that no plugin has: the newest setting goes without a label until the file is named."""
    from kdbench.cli.main import invoke
    from kdbench.store import Store

    (tmp_path / "mine.toml").write_text(
        'name = "demo"\ntitle = "x"\ndefault_scale = "quick"\nschemes = ["undistilled", "kl"]\n'
        '[data]\ndataset = "digits"\nbudgets = [400]\n'
        '[teacher]\narchitecture = "wide-resnet"\n'
        '[student]\narchitecture = "wide-resnet"\nepochs = 20\n[scales.quick]\n'
    )
    store = Store(new_workspace())
    for c in cells(2, (400,)):
        store.save_cell(c)
        key = f"{c.key}-5"
        store.save_cell(changed(c, {"student.epochs": 5}, key=key, created=1.0))

    def variants(*arguments):
        given = ["compare", "kl", "undistilled", "--metric", "accuracy", "--workspace", str(store.root)]
        assert invoke([*given, "--json", *arguments]) == 0
        found = {r["variant"] for r in json.loads(capsys.readouterr().out)["rows"]}
        assert invoke([*given, *arguments]) == 0
        return found, capsys.readouterr().err

    found, warned = variants()
    assert found == {"", "student.epochs=20"}
    assert "the suite 'demo' is not known here" in warned
    found, warned = variants("--suite", str(tmp_path / "mine.toml"))
    assert found == {"", "student.epochs=5"}
    assert "not known" not in warned


def test_the_command_prints_a_table_and_json(workspace, capsys, monkeypatch):
    from kdbench.cli.main import invoke

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    where = ["--workspace", str(workspace)]
    assert invoke(["compare", "kl", "undistilled", *where]) == 0
    shown = capsys.readouterr().out
    assert "A = kl   B = undistilled" in shown
    assert "descriptive only (fewer than 5 folds)" in shown
    assert invoke(["compare", "kl", "undistilled", "--json", "--metric", "accuracy", *where]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["difference"] == pytest.approx(
        (accuracies("kl")[:2] - accuracies("undistilled")[:2]).mean(), rel=1e-5
    )
    runs = ["20261121-101500-ab12cd", "20261121-101600-ab12ce"]
    assert invoke(["compare", *runs, "--json", *where]) == 0
    assert {r["difference"] for r in json.loads(capsys.readouterr().out)["rows"]} == {0.0}
    store = ["--tracking-uri", f"sqlite:///{workspace / 'mlflow.db'}"]
    assert (
        invoke(["compare", "kl", "undistilled", "--json", "--suite", "demo", "--metric", "accuracy", *store])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["rows"] == [row]
    assert invoke(["compare", "kl", "undistilled", *store]) == 2
    assert "--suite" in capsys.readouterr().err
    assert invoke(["compare", "kl", str(workspace), *where]) == 2
    assert invoke(["compare", "kl", "nothing", *where]) == 2


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ("schemes", "hint: kdbench run schemes, then compare"),
        ("schemez", "did you mean 'schemes'?"),
    ],
)
def test_a_suite_that_was_not_run_is_told(workspace, capsys, suite, words):
    from kdbench.cli.main import invoke

    given = ["compare", "kl", "undistilled", "--suite", suite, "--workspace", str(workspace)]
    assert invoke(given) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"no cell of '{suite}'" in said
    assert words in said


def test_tables_by_tap_fit_80_characters(workspace, capsys, monkeypatch):
    from kdbench.cli.main import invoke

    monkeypatch.setenv("COLUMNS", "80")
    assert invoke(["compare", "kl", "undistilled", "--all", "--workspace", str(workspace)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (head,) = {" ".join(line.split()) for line in lines if " tap " in line and "student" not in line}
    assert head == "labels tap A B A - B 95 % folds better"
