"""The SQLite file read directly gives what MLflow's client gives."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_cells import cell, cells

from kdbench.errors import WorkspaceError
from kdbench.tracking import sqlite_reader
from kdbench.tracking import tags as codec
from kdbench.tracking.sqlite_reader import UnknownLayout, cell_runs, database_file
from kdbench.tracking.tracker import Tracker, client_cell_runs, fetch_cells


@pytest.fixture(scope="module")
def several(migrated, tmp_path_factory) -> Tracker:
    """A store of two suites, two scales, a failed, a deleted, a half-written and a twice-logged cell. Not to be
    written to."""
    workspace = tmp_path_factory.mktemp("several")
    shutil.copy(migrated, workspace / "mlflow.db")
    tracker = Tracker(None, workspace)
    one, two, three, *_ = cells(1)
    tracker.sync([one, two, replace(two, scale="paper", seed=1, results=two.results[:1])])
    tracker.sync([replace(one, suite="other")])
    tracker.sync([replace(one, results=one.results[:1])])
    tracker.sync([replace(cell("kl", fold=7), status="failed", results=(), error="Traceback\nValueError: x")])
    tracker.sync([three])
    client = tracker.client
    experiment = client.get_experiment_by_name("kdbench/demo").experiment_id
    runs = client.search_runs([experiment], f"tags.`kdbench.cell` = '{three.key}'")
    client.delete_run(runs[0].info.run_id)
    half = client.create_run(experiment, tags={**codec.describing_tags(three)}).info.run_id
    client.set_tag(half, "kdbench.record.000", "{")
    return tracker


@pytest.mark.parametrize("tags", [codec.RECORD_TAG, "kdbench.digest", "no such tag"])
@pytest.mark.parametrize(
    ("suite", "scale", "n"),
    [
        ("demo", None, 5),
        ("demo", "quick", 4),
        ("demo", "paper", 1),
        ("demo", "none", 0),
        ("other", None, 1),
        ("nothing", None, 0),
    ],
)
def test_it_reads_what_the_client_reads(several, suite, scale, n, tags):
    found = cell_runs(database_file(several.uri), f"kdbench/{suite}", tags, scale)
    assert found == client_cell_runs(several.uri, suite, scale, tags)
    assert len(found) == n
    assert all(bool(run.tags) == (tags != "no such tag") for run in found)


@pytest.mark.parametrize("key", ["kl-400-7", "undistilled-400-0", "no-such-cell"])
def test_it_reads_the_runs_of_one_cell_that_the_client_reads(several, key):
    asked = ("demo", None, codec.RECORD_TAG, key)
    found = cell_runs(database_file(several.uri), "kdbench/demo", codec.RECORD_TAG, cell=key)
    assert found == client_cell_runs(several.uri, *asked)
    assert found == client_cell_runs(several.uri, *asked, lambda: several.client)
    assert {codec.from_tags(run.tags).key for run in found} == ({key} if found else set())
    assert len(found) == {"kl-400-7": 1, "undistilled-400-0": 2, "no-such-cell": 0}[key]


def test_what_it_holds_is_what_it_holds_by_the_client(several, monkeypatch):
    one, two, three, *rest = cells(1)
    failed = replace(cell("kl", fold=7), status="failed", results=(), error="Traceback\nValueError: x")
    records = (one, two, three, failed, replace(one, suite="other"), replace(one, seed=1), *rest)
    direct = [several._find_finished(record) for record in records]
    assert [several.holds(record) for record in records] == [run is not None for run in direct]
    monkeypatch.setattr("kdbench.tracking.tracker._readable", lambda uri: None)
    assert [several._find_finished(record) for record in records] == direct
    # with fewer of its results it was logged once more, which changes nothing of the first
    assert [run is not None for run in direct][:6] == [True, True, False, False, True, False]


def test_records_come_back_the_same_without_the_client(several, monkeypatch):
    direct = fetch_cells(several.uri, "demo")
    monkeypatch.setattr("kdbench.tracking.tracker._readable", lambda uri: None)
    assert fetch_cells(several.uri, "demo") == direct
    assert {c.key for c in direct} == {"teacher-400-0", "undistilled-400-0", "kl-400-7"}


def test_reading_imports_no_mlflow(several):
    code = (
        "import sys; from pathlib import Path; from kdbench.tracking import Tracker, fetch_cells\n"
        "tracker = Tracker(None, Path(sys.argv[1])); tracker.check(idle=True)\n"
        "(cell, *_) = fetch_cells(tracker.uri, 'demo'); tracker.holds(cell)\n"
        "sys.exit('mlflow was imported' if 'mlflow' in sys.modules else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(several.workspace)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///b.db", "b.db"),
        ("sqlite:///b.db?timeout=5", None),
        ("sqlite://", None),
        ("sqlite+pysqlite:///b.db", None),
        ("http://host:5000", None),
        ("postgresql://host/db", None),
    ],
)
def test_which_stores_are_files(uri, path):
    assert database_file(uri) == (Path(path) if path else None)


def test_another_layout_is_left_to_the_client(workspace, tmp_path, monkeypatch):
    (tmp_path / "text.db").write_text("this is a letter, not a database")
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE experiments (experiment_id INTEGER, title TEXT)")
    for name in ("text.db", "other.db", "absent.db"):
        with pytest.raises(UnknownLayout):
            sqlite_reader.check(tmp_path / name)
    assert not (tmp_path / "absent.db").exists()
    tracker = Tracker(None, workspace)
    tracker.sync([cell()])
    monkeypatch.setitem(sqlite_reader._LAYOUT, "runs", {"no_such_column"})
    with pytest.raises(UnknownLayout, match="no_such_column"):
        cell_runs(database_file(tracker.uri), "kdbench/demo", codec.RECORD_TAG)
    assert len(fetch_cells(tracker.uri, "demo")) == 1
    assert tracker.holds(cell())


def test_two_experiments_of_one_name_are_left_to_the_client(workspace):
    tracker = Tracker(None, workspace)
    tracker.sync([cell()])
    path = database_file(tracker.uri)
    with sqlite3.connect(path) as db:
        db.execute(
            "INSERT INTO experiments (experiment_id, name, lifecycle_stage, workspace) "
            "VALUES (77, 'kdbench/demo', 'active', 'another')"
        )
    with pytest.raises(UnknownLayout, match="2 experiments"):
        cell_runs(path, "kdbench/demo", codec.RECORD_TAG)
    with pytest.raises(WorkspaceError, match="Multiple rows"):
        fetch_cells(tracker.uri, "demo")
