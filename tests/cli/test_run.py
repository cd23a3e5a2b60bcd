"""`kdbench run` and `plan` from end to end."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdbench.store import Store

#: The columns that a reader of `leaderboard.csv` may rely on, first and in this order.
COLUMNS = [
    "suite", "scale", "dataset", "budget", "scheme", "student", "teacher", "tap", "reducer", "metric", "n", "mean",
    "ci_low", "ci_high", "difference", "difference_low", "difference_high", "published", "published_source",
    "hardware", "kdbench_version",
]  # fmt: skip

PLUGIN = """
import numpy as np
from kdbench.api import MetricResult, MetricSpec, ReducerSpec, hookimpl

class First:
    '''The first two columns, scaled.'''
    def __init__(self, *, factor: float = 2.0) -> None:
        self.factor = factor
    def fit_transform(self, X):
        return self.factor * X[:, :2] + 1e-3 * np.arange(len(X))[:, None] ** [1.0, 0.5]

class Broken:
    def __call__(self, view):
        return MetricResult({"value": float("nan")})

@hookimpl
def kdbench_reducers():
    return [ReducerSpec(name="first", target="mine:First", summary="s")]

@hookimpl
def kdbench_metrics():
    return [MetricSpec(name="broken", target="mine:Broken", summary="s", needs=frozenset({"logits"}))]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory, tiny_text) -> Path:
    path = tmp_path_factory.mktemp("suite") / "tiny.toml"
    path.write_text(tiny_text)
    return path


@pytest.fixture(scope="module")
def uninterrupted(suite, new_workspace, start_kdbench) -> tuple[Path, str, str, dict]:
    """(workspace, stdout, stderr, records) of a run in a process of its own."""
    workspace = new_workspace()
    child = start_kdbench("run", suite, "--workspace", workspace)
    out, err = child.communicate(timeout=240)
    assert child.returncode == 0, err
    return workspace, out, err, records(workspace)


@pytest.fixture(scope="module")
def done(uninterrupted) -> tuple[Path, str, str]:
    """(workspace, stdout, stderr) of that run. Tests may add to the workspace, in whatever order they come."""
    return uninterrupted[:3]


def records(workspace: Path) -> dict[str, dict]:
    """Records by key, without what no two runs share: times, and the commit of a folder that is worked in."""
    left_out = {"seconds", "created", "hardware", "git_commit"}
    found = {}
    for cell in Store(workspace).cells("tiny", "here"):
        kept = {k: v for k, v in cell.to_json().items() if k not in left_out}
        kept["results"] = [r for r in kept["results"] if r["metric"] != "embedding-time"]
        found[cell.key] = kept
    return found


def assert_clean(workspace: Path) -> None:
    """Whole artifacts alone."""
    store = Store(workspace)
    assert store.verify() == []
    for record in (store.root / "objects").glob("*/*"):
        assert (record / "record.json").is_file()


@pytest.fixture(scope="module")
def whole(uninterrupted) -> dict:
    """The records of the uninterrupted run, as they were before any test added to them."""
    return uninterrupted[3]


# -- a run


def test_a_run_shows_its_plan_its_leaderboard_and_where_things_are(done, whole):
    assert len(whole) == 3
    workspace, out, err = done
    assert "tiny  scale here · shapes · cpu" in out
    assert "3 results: 1 teacher, 1 undistilled, 1 distilled" in out
    assert "excluded: metric ivis-loss of reducer pca: it has no loss history" in out
    assert "accuracy (ranked by the last epoch) [%]" in " ".join(out.split())
    stages = len([*Store(workspace).records()])
    assert f"{stages} stages: {stages} run, 0 cached, " in out
    assert "nearly uniform" in " ".join(out.split())
    # plain lines, one a stage, where there is no terminal
    assert err.count(": finished in ") == len([*Store(workspace).records()])
    assert "\x1b[" not in err
    for name in ("leaderboard.csv", "leaderboard.json", "README.md"):
        assert (workspace / "leaderboards" / "tiny" / "here" / name).is_file()
    assert (workspace / "reports" / "tiny" / "here" / "report.html").is_file()
    assert_clean(workspace)
    assert list((workspace / "tmp").iterdir()) == []


def test_the_leaderboard_is_tidy(done):
    workspace, _, _ = done
    with (workspace / "leaderboards" / "tiny" / "here" / "leaderboard.csv").open(newline="") as f:
        reader = csv.DictReader(f)
        rows = list(reader)
    assert list(reader.fieldnames or ())[: len(COLUMNS)] == COLUMNS
    assert {r["scheme"] for r in rows} == {"teacher", "undistilled", "distilled"}
    found = records(workspace)
    for row in rows:
        assert (row["suite"], row["scale"], row["dataset"], row["budget"]) == ("tiny", "here", "shapes", "20")
        assert float(row["mean"]) == float(row["mean"])
        if row["metric"] == "accuracy.accuracy":
            cell = next(c for c in found.values() if c["scheme"] == row["scheme"])
            value = next(r["value"] for r in cell["results"] if r["metric"] == r["value_name"] == "accuracy")
            assert float(row["mean"]) == pytest.approx(value)


def test_the_same_command_again_does_nothing(done, suite, kdbench_here):
    workspace, _, _ = done
    before = {p: p.stat().st_mtime_ns for p in (workspace / "objects").rglob("*") if p.is_file()}
    code, out, err = kdbench_here("run", suite, "--workspace", workspace)
    assert code == 0, err
    assert "nothing to run: every stage is cached" in out
    stages = len(list(Store(workspace).records()))
    assert f"{stages} stages: 0 run, {stages} cached, 0 s" in out
    assert before == {p: p.stat().st_mtime_ns for p in (workspace / "objects").rglob("*") if p.is_file()}


def test_a_run_with_nothing_to_do_imports_neither_torch_nor_mlflow(done, suite, clean_environment):
    """That keeps it quick."""
    workspace, _, _ = done
    code = (
        "import sys; from kdbench.cli.main import invoke\n"
        "code = invoke(sys.argv[1:])\n"
        "names = {'torch', 'mlflow', 'sqlalchemy', 'matplotlib'}\n"
        "heavy = sorted(names & set(sys.modules))\n"
        "sys.exit(code or (f'{heavy} imported' if heavy else 0))"
    )
    command = [sys.executable, "-c", code, "run", str(suite), "--workspace", str(workspace)]
    again = subprocess.run(command, capture_output=True, text=True, env=clean_environment, check=False)
    assert again.returncode == 0, again.stderr


def test_json_is_data_alone(done, suite, kdbench_here):
    workspace, _, _ = done
    code, out, _ = kdbench_here("run", suite, "--workspace", workspace, "--json")
    assert code == 0
    data = json.loads(out)
    assert data["stages"] == {"executed": 0, "cached": len(list(Store(workspace).records())), "failed": 0}
    assert data["status"] == "finished"
    assert {r["scheme"] for r in data["leaderboard"]} == {"teacher", "undistilled", "distilled"}
    assert all(Path(p).is_file() for p in data["files"])
    code, out, _ = kdbench_here("plan", suite, "--workspace", workspace, "--json")
    assert code == 0
    plan = json.loads(out)
    assert (plan["to_run"], plan["results"], plan["problem"]) == (0, 3, None)
    assert {s["state"] for s in plan["stages"]} == {"cached"}


def test_a_plan_executes_nothing(suite, kdbench_here, tmp_path):
    code, out, _ = kdbench_here("plan", suite, "--workspace", tmp_path / "ws", "--json")
    assert code == 0
    plan = json.loads(out)
    assert plan["to_run"] == len(plan["stages"]) > 0
    assert plan["estimate"]["from_records"] is False
    assert list(Store(tmp_path / "ws").records()) == []


def test_a_plan_projects_from_what_was_measured_and_marks_what_it_guesses(done, suite, kdbench_here):
    """Two more folds cost per image what the first did; a kind of stage that nobody ran is guessed."""
    workspace, _, _ = done
    more = ("plan", suite, "--workspace", workspace, "--set", "data.folds=3", "--set", "reducers+=umap")
    code, out, _ = kdbench_here(*more, "--json")
    assert code == 0
    estimate = json.loads(out)["estimate"]
    work = {(w["kind"], w["component"]): w for w in estimate["work"]}
    students = [r for r in Store(workspace).records() if r["kind"] == "student"]
    for component in {r["component"] for r in students}:
        own = [r for r in students if r["component"] == component]
        found = work["student", component]
        assert found["measured"]
        assert found["stages"] == 2 * len(own)
        assert found["work"] == 2 * sum(r["work"] for r in own)
        assert found["seconds"] == pytest.approx(2 * sum(r["seconds"] for r in own))
    guessed = {name for name, w in work.items() if not w["measured"]}
    assert ("embedding", "reducers/umap") in guessed
    assert not any(kind == "student" for kind, _ in guessed)
    assert estimate["from_records"] is False
    assert estimate["seconds"] == pytest.approx(sum(w["seconds"] for w in estimate["work"]), abs=1)
    shown = kdbench_here(*more)[1]
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "?" not in lines["student"]
    assert "images" in lines["student"]
    assert "?" in lines["embedding"]
    assert "? is partly or fully a rough guess" in " ".join(shown.split())


def test_a_plan_without_unlabelled_images_has_targets_of_none(suite, kdbench_here, tmp_path):
    """Targets are of what the labelled draw leaves: of nothing, where every image has a label."""
    all_labelled = ("plan", suite, "--workspace", tmp_path / "ws", "--set", "data.budgets=[60]",
                    "--set", 'schemes=["undistilled", "hinton"]')  # fmt: skip
    code, out, err = kdbench_here(*all_labelled)
    assert code == 0, err
    assert "targets" in out
    code, out, _ = kdbench_here(*all_labelled, "--json")
    work = {w["kind"]: w for w in json.loads(out)["estimate"]["work"]}
    assert (work["targets"]["work"], work["targets"]["seconds"]) == (0, 0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12, "12 s"), (123, "123 s"), (0.3, "0.3 s"), (0.0033, "3.3 ms"), (0.0997, "0.1 s"), (7.1e-5, "71 µs"),
     (1.4e-8, "14 ns"), (0.00996, "10 ms")],
)  # fmt: skip
def test_a_unit_s_cost_has_two_digits(seconds, text):
    from kdbench.cli.plan import seconds_of

    assert seconds_of(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(950, "950"), (12_500, "12.5 k"), (287_900_000, "288 M"), (999_900, "1 M"), (2.5e10, "25 G")],
)
def test_an_amount_of_work_has_three_digits(number, text):
    from kdbench.cli.plan import amount_of

    assert amount_of(number) == text


def test_no_taps_are_all_of_the_students(suite, kdbench_here, tmp_path):
    code, out, _ = kdbench_here("plan", suite, "--workspace", tmp_path / "ws", "--set", "taps=[]", "--json")
    assert code == 0
    taps = {s["title"].split(" · ")[1] for s in json.loads(out)["stages"] if s["kind"] == "embedding"}
    assert taps == set("ABCDE")


def test_scikit_learns_reducers_and_ones_own_plug_in(done, suite, kdbench_here, tmp_path):
    workspace, _, _ = done
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    code, out, err = kdbench_here(
        "run", suite, "--workspace", workspace, "--plugin", plugin, "--json",
        "--set", 'reducers=["pca", "sklearn.manifold:Isomap"]', "--set", "reducers+=first",
        "--set", 'metrics=["accuracy", { name = "class-area", grid = 32, label = "class-area" }]',
    )  # fmt: skip
    assert code == 0, err
    data = json.loads(out)
    new = {"sklearn.manifold:Isomap", "first"}
    rows = [r for r in data["leaderboard"] if r["metric"] == "class-area.median"]
    assert {r["reducer"] for r in rows} == new | {"pca"}
    # networks, features and pca's embeddings were there: two embeddings and their scores a student were not
    assert data["stages"]["executed"] == 2 * 2 * 2


def test_a_cell_that_fails_is_told_and_the_exit_code_says_so(done, suite, kdbench_here, tmp_path):
    workspace, _, _ = done
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    code, out, err = kdbench_here(
        "run", suite, "--workspace", workspace, "--plugin", plugin, "--set", 'metrics=["accuracy", "broken"]'
    )
    assert code == 1
    assert "2 of 3 cells failed" in err
    assert "score broken · undistilled" in err
    assert "accuracy (ranked by the last epoch) [%]" in " ".join(out.split())  # what was measured is shown
    failed = [c for c in Store(workspace).cells() if c.status == "failed"]
    assert {c.scheme for c in failed} == {"undistilled", "distilled"}
    assert all("Traceback" in c.error and "nan" in c.error for c in failed)


def test_a_run_of_which_nothing_succeeds_still_ends_well(done, suite, kdbench_here, tmp_path):
    workspace, _, _ = done
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    code, out, err = kdbench_here(
        "run", suite, "--workspace", workspace, "--plugin", plugin, "--json",
        "--set", 'metrics=["broken"]', "--set", 'teacher_metrics=["broken"]',
    )  # fmt: skip
    assert code == 1, err
    assert "3 of 3 cells failed" in err
    data = json.loads(out)
    assert data["status"] == "failed"
    assert data["stages"]["failed"] == 3


# -- interruptions


def interrupted_run(start, suite: Path, workspace: Path, how: signal.Signals, after: int, *more: str) -> int:
    """Start a run, signal it when `after` stages are finished; its exit code."""
    child = start("run", suite, "--workspace", workspace, *more)
    for _ in range(after):
        line = ""
        while ": finished in " not in line:
            line = child.stderr.readline()
            if not line:
                break
    if more:  # the workers too, as a terminal does
        os.killpg(child.pid, how)
    else:
        child.send_signal(how)
    out, err = child.communicate(timeout=120)
    if child.returncode == 130:
        assert "Traceback" not in out + err
    return child.returncode


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_interrupted_and_started_again_a_run_ends_with_the_same_records(
    whole, suite, new_workspace, start_kdbench, kdbench_here, how, code
):
    workspace = new_workspace()
    for after in (2, 7):
        assert interrupted_run(start_kdbench, suite, workspace, how, after) == code
        assert_clean(workspace)
        if how == signal.SIGINT:
            assert list((workspace / "tmp").glob("*")) == []
    finished = len(list(Store(workspace).records()))
    assert finished >= 2 + 7
    done_now, out, err = kdbench_here("run", suite, "--workspace", workspace, "--json")
    assert done_now == 0, err
    assert json.loads(out)["stages"]["cached"] == finished
    assert records(workspace) == whole
    assert_clean(workspace)


@pytest.mark.slow
def test_two_jobs_interrupted_leave_what_one_can_finish(
    whole, suite, new_workspace, start_kdbench, kdbench_here
):
    workspace = new_workspace()
    assert interrupted_run(start_kdbench, suite, workspace, signal.SIGINT, 3, "--jobs", "2") == 130
    assert_clean(workspace)
    code, out, err = kdbench_here("run", suite, "--workspace", workspace, "--json")
    assert code == 0, err
    assert json.loads(out)["stages"]["cached"] >= 3
    assert records(workspace) == whole
