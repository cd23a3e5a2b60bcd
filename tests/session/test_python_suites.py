"""`kdbench.load_suite` and what can be done with it, against the command line's own path."""

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from flat_settings import changed

import kdbench
from kdbench.errors import CellsFailed, SuiteError, UsageError, WorkspaceError


@pytest.fixture(scope="module")
def here(cache_home, tmp_path_factory):
    """One core and the tests' own cache, as every run here."""
    with pytest.MonkeyPatch.context() as patch:
        import kdbench.api as api

        first = api.available_cores()[:1]
        patch.setattr(api, "available_cores", lambda: first)
        patch.setenv("XDG_CACHE_HOME", str(cache_home))
        for name in ("KDBENCH_HOME", "KDBENCH_DATA", "KDBENCH_PLUGINS", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        yield tmp_path_factory.mktemp("python")


@pytest.fixture(scope="module")
def suite(here, tiny_text):
    path = here / "tiny.toml"
    path.write_text(tiny_text)
    return kdbench.load_suite(path)


@pytest.fixture(scope="module")
def results(here, suite):
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # a teacher of one epoch is nearly uniform, and kdbench says so
        return suite.run(workspace=here / "work", tracking=False)


def test_a_run_from_python_measures_what_the_runner_measures(results, finished):
    _, _, report = finished
    ours = {c.key: c.results for c in results.cells}
    assert ours.keys() == {c.key for c in report.cells}
    for cell in report.cells:
        mine = {(r.metric, r.value_name, r.tap, r.reducer): r.value for r in ours[cell.key]}
        theirs = {(r.metric, r.value_name, r.tap, r.reducer): r.value for r in cell.results}
        timed = [k for k in mine if k[0] == "embedding-time"]
        assert {k: v for k, v in mine.items() if k not in timed} == {
            k: v for k, v in theirs.items() if k not in timed
        }


def test_it_is_done_once(here, suite, results):
    again = suite.run(workspace=here / "work", tracking=False)
    assert results.executed > 0
    assert (again.executed, again.cached) == (0, results.executed)
    assert again.frame().equals(results.frame())
    assert suite.results(workspace=here / "work").frame().equals(results.frame().loc[again.frame().index])


def test_a_plan_says_what_is_to_do(here, suite, results):
    done = suite.plan(workspace=here / "work")
    assert done.outstanding == 0
    assert set(done.frame()["state"]) == {"cached"}
    assert len(done.frame()) == results.executed
    more = suite.with_("reducers+=random-projection").plan(workspace=here / "work")
    assert set(more.frame().query("state == 'to run'")["kind"]) == {"embedding", "score"}
    assert more.seconds > 0
    assert any("loss history" in reason for reason in done.exclusions)


def test_the_frame_has_a_row_a_result_and_the_leaderboard_is_its_mean(results):
    frame = results.frame()
    assert " ".join(frame.columns) == (
        "suite scale dataset budget fold seed scheme student teacher tap reducer metric value_name value setting "
        "primary variant key status"
    )
    assert set(frame["variant"]) == {""}
    assert set(frame["key"]) == {c.key for c in results.cells}
    assert set(frame["status"]) == {"finished"}
    assert len(frame) == sum(len(c.results) for c in results.cells)
    board = results.leaderboard()
    row = board.query("metric == 'accuracy.accuracy' and scheme == 'distilled'").iloc[0]
    own = frame.query("metric == 'accuracy' and value_name == 'accuracy' and scheme == 'distilled'")
    assert row["mean"] == pytest.approx(own["value"].mean())
    assert row["n"] == own["fold"].nunique() == 1


def test_the_frame_tells_settings_apart_as_the_leaderboard_does(results, suite):
    """The suite's own setting is the older one, and of one cell the reducer alone was set otherwise."""
    longer = [
        changed(c, {"student.epochs": 3}, key=f"{c.key}-3", created=c.created + 1)
        for c in results.cells
        if c.student
    ]
    other = [
        changed(c, {"reducers.ivis-torch.k": 7}, key=f"{c.key}-k", created=c.created + 2)
        for c in results.cells
        if c.student
    ]
    both = replace(results, cells=[*results.cells, *longer, *other])
    frame, board = both.frame(), both.leaderboard()
    assert (
        set(frame["variant"]) == set(board["variant"]) == {"", "student.epochs=3", "reducers.ivis-torch.k=7"}
    )
    assert set(frame.query("key.str.endswith('-3')")["variant"]) == {"student.epochs=3"}
    assert set(frame.query("key.str.endswith('-k') and metric == 'ivis-loss'")["variant"]) == {
        "reducers.ivis-torch.k=7"
    }
    assert set(frame.query("key.str.endswith('-k') and metric == 'accuracy'")["variant"]) == {""}
    shown = both.compare("distilled", "undistilled", metrics=["accuracy"])
    assert set(shown["variant"]) == {"", "student.epochs=3"}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_dataset_is_loaded_once_a_run(here, suite, results, monkeypatch):
    loaded = []
    create = type(suite.registry).create

    def counting(registry, kind, name, *arguments, **options):
        if kind == "datasets":
            loaded.append(name)
        return create(registry, kind, name, *arguments, **options)

    monkeypatch.setattr(type(suite.registry), "create", counting)
    changed = suite.with_("student.batch_size=8", 'metrics=["accuracy"]', "reducers=[]")
    assert changed.run(workspace=here / "work", tracking=False).executed > 0
    datasets = 1 + (changed.suite.teacher.source is not None)
    assert len(loaded) == datasets


def test_leaderboard_and_report_are_written(results):
    assert {"leaderboard.csv", "report.html"} <= {p.name for p in results.files}
    assert all(Path(p).is_file() for p in results.files)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_report_knows_classes_that_no_metric_tells_it(here, suite):
    changed = suite.with_('metrics=["accuracy", "silhouette"]', 'reducers=["pca"]')
    files = changed.run(workspace=here / "classes", tracking=False).files
    page = next(Path(p) for p in files if Path(p).name == "report.html").read_text()
    assert "Colour and marker tell each superclass;" in page
    assert "<h2>silhouette</h2>" in page


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_report_is_of_the_cells_that_the_leaderboard_beside_it_is_of(here, suite):
    """The second setting was run between two runs of the first, which found all of theirs done."""
    work = here / "back-and-forth"
    page, board = (
        work / folder / "tiny/here" / name
        for folder, name in (("reports", "report.html"), ("leaderboards", "README.md"))
    )

    def run(changed):
        changed.run(workspace=work, tracking=False)
        return page.read_text(), board.read_text()

    quick = suite.with_('metrics=["accuracy"]', "reducers=[]")
    first = run(quick)
    assert "student.batch_size=16, not " in run(quick.with_("student.batch_size=16"))[0]
    assert run(quick) == first
    before = page.stat().st_mtime_ns
    assert run(quick) == first
    assert page.stat().st_mtime_ns == before, "nothing new: it is not drawn again"
    (page.parent / "report.input").write_text("of something else")
    assert run(quick) == first
    assert page.stat().st_mtime_ns != before


def test_results_are_compared_as_the_command_does(results):
    frame = results.compare("distilled", "undistilled", metrics=["accuracy"])
    value = {c.scheme: c.results[0].value for c in results.cells}
    assert frame["difference"].tolist() == pytest.approx([value["distilled"] - value["undistilled"]])


def test_what_is_changed_is_another_suite(suite):
    changed = suite.with_(
        "metrics-=class-area",
        student__epochs=3,
        reducers=["pca", {"name": "tsne", "perplexity": 5}],
    )
    assert changed.suite.student.epochs == 3
    assert [r.title for r in changed.suite.reducers] == ["pca", "tsne[perplexity=5]"]
    assert "class-area" not in [m.name for m in changed.suite.metrics]
    assert suite.suite.student.epochs == 1
    assert changed.with_(student__epochs=4).suite.student.epochs == 4


def test_what_is_wrong_is_said_before_anything_runs(suite, here):
    with pytest.raises(SuiteError, match="no key 'epoch'"):
        suite.with_(student__epoch=3)
    with pytest.raises(UsageError, match="no such suite file"):
        kdbench.load_suite("nowhere.toml")
    with pytest.raises(UsageError, match="jobs=0"):
        suite.run(workspace=here / "other", tracking=False, jobs=0)
    with pytest.raises(WorkspaceError, match="no cell"):
        suite.results(workspace=here / "nothing")


def test_a_cell_that_fails_raises_at_the_end_and_is_recorded(here, suite, tmp_path):
    plugin = tmp_path / "mine_broken.py"
    plugin.write_text(
        "from kdbench.api import MetricSpec, MetricResult, hookimpl\n"
        "class Broken:\n"
        "    def __call__(self, view): return MetricResult({'value': float('nan')})\n"
        "@hookimpl\n"
        "def kdbench_metrics():\n"
        "    return [MetricSpec(name='broken', target='mine_broken:Broken', summary='nan',\n"
        "                       needs=frozenset({'logits'}))]\n"
    )
    broken = kdbench.load_suite(
        suite.resolved.source, plugins=[plugin], overrides=['metrics=["accuracy", "broken"]']
    )
    with pytest.raises(CellsFailed, match="2 of 3 cells failed"):
        broken.run(workspace=here / "work", tracking=False)
    kept = broken.run(workspace=here / "work", tracking=False, allow_failures=True)
    assert {c.scheme for c in kept.failed} == {"undistilled", "distilled"}


def test_a_warning_stands_at_the_callers_line(here, suite, tmp_path):
    from kdbench.locations import python_warning

    broken = tmp_path / "raises.py"
    broken.write_text(
        "from kdbench.api import hookimpl\n@hookimpl\ndef kdbench_run_finished(run):\n    raise RuntimeError('no')\n"
    )
    watched = kdbench.load_suite(suite.resolved.source, plugins=[broken])
    with pytest.warns(UserWarning, match="kdbench_run_finished raised RuntimeError: no") as caught:
        watched.run(workspace=here / "work", tracking=False)
    assert {w.filename for w in caught} == {__file__}
    with pytest.warns(UserWarning, match="here") as caught:
        python_warning("here")
    assert caught[0].filename == __file__


def test_importing_kdbench_imports_nothing_heavy():
    code = (
        "import sys, kdbench; dir(kdbench)\n"
        "names = {'torch', 'pandas', 'sklearn', 'mlflow', 'pydantic', 'pluggy', 'numpy', 'numba'}\n"
        "heavy = names & set(sys.modules)\n"
        "inside = [m for m in sys.modules if m.startswith('kdbench.')]\n"
        "sys.exit(str((heavy, inside)) if heavy or inside else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_type_checkers_are_told_of_the_same_names():
    import ast

    stub = ast.parse((Path(kdbench.__file__).with_suffix(".pyi")).read_text())
    said = {
        (alias.asname, node.module)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert said == set(kdbench._HOMES.items())
    assert {name for name, _ in said} | {"__version__"} == set(kdbench.__all__)
    assert all(getattr(kdbench, name) is not None for name in kdbench.__all__)
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        kdbench.scores
