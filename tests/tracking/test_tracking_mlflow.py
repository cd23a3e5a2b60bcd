import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from flat_settings import settings_from
from suite_calls import collate
from synthetic_cells import cell, cells, suite

from kdbench.api.records import RunSummary, StageSummary
from kdbench.errors import VerificationError, WorkspaceError
from kdbench.tracking import Tracker, fetch_cells, tracking_uri

RUN = RunSummary(
    id="20261121-101500-ab12cd", suite="demo", scale="quick", seed=0, stages=3, cells=2, workspace="w",
    suite_config={"student": {"epochs": 20}, "schemes": ["undistilled", "kl"]},
    versions={"kdbench": "0.1.0"}, hardware={"label": "2 cores"},
)  # fmt: skip


def runs_of(tracker, suite_name="demo", query=""):
    experiment = tracker.client.get_experiment_by_name(f"kdbench/{suite_name}")
    return tracker.client.search_runs([experiment.experiment_id], query)


def children(tracker):
    return runs_of(tracker, query="tags.`kdbench.kind` = 'cell'")


def invocation(tracker, records, run=RUN):
    tracker.run_started(run)
    for record in records:
        tracker.stage_finished(run, StageSummary("s", "student", "t", "finished"))
        tracker.cell_finished(run, record)
    tracker.run_finished(replace(run, status="finished"))


def parent_of(tracker, run=RUN):
    (parent,) = runs_of(tracker, query=f"tags.`kdbench.run` = '{run.id}'")
    return parent


def test_a_person_finds_their_way(workspace):
    tracker = Tracker(None, workspace)
    invocation(tracker, [cell("undistilled"), cell("kl")])
    parent = parent_of(tracker)
    assert parent.info.run_name == "demo quick 2026-11-21 10:15"
    assert parent.info.status == "FINISHED"
    assert parent.data.params["student.epochs"] == "20"
    assert parent.data.metrics["cells/finished"] == 2
    assert parent.data.metrics["stages/student.finished"] == 2
    found = {r.info.run_name: r for r in children(tracker)}
    assert set(found) == {"400 labels · fold 1 · undistilled", "400 labels · fold 1 · kl"}
    run = found["400 labels · fold 1 · kl"]
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    expected = {"suite": "demo", "scale": "quick", "dataset": "shapes", "budget": "400", "fold": "0",
                "scheme": "kl", "student": "wide-resnet[depth=28]", "teacher": "resnet18", "cell": "kl-400-0",
                "status": "finished", "hardware": "2 cores", "version": "0.1.0"}  # fmt: skip
    assert expected.items() <= {k.removeprefix("kdbench."): v for k, v in run.data.tags.items()}.items()
    assert run.data.params["scheme.temperature"] == "4.0"
    assert run.data.metrics["score/A/ivis-torch k:15/ivis-loss.last"] == cell("kl").results[2].value
    curve = tracker.client.get_metric_history(run.info.run_id, "epoch/test_accuracy")
    assert [(m.step, m.value) for m in curve] == list(enumerate(cell("kl").history["test_accuracy"], start=1))
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("shapes", cell().dataset_digest[:36])
    assert [a.path for a in tracker.client.list_artifacts(run.info.run_id)] == ["record.json"]
    place = workspace / "mlartifacts"
    assert list(place.rglob("record.json"))


def test_a_finished_cell_is_logged_once_and_later_parents_refer_to_it(workspace):
    tracker = Tracker(None, workspace)
    invocation(tracker, [cell("kl")])
    later = replace(RUN, id="20261122-101500-ffffff")
    invocation(tracker, [cell("kl"), cell("undistilled")], later)
    assert len(children(tracker)) == 2
    parent = parent_of(tracker, later)
    assert parent.data.tags["kdbench.cells_found"] == "1"
    local = tracker.client.download_artifacts(parent.info.run_id, "cells.json")
    assert '"logged": "found"' in Path(local).read_text()


def test_a_cell_with_more_results_is_logged_again_and_both_are_read(workspace):
    tracker = Tracker(None, workspace)
    full = cell("kl")
    invocation(tracker, [replace(full, results=full.results[:1])])
    invocation(tracker, [full], replace(RUN, id="20261122-101500-ffffff"))
    (read,) = fetch_cells(tracker.uri, "demo")
    assert set(read.results) == set(full.results)


def test_a_failed_cell_keeps_its_traceback_and_gives_way_to_a_finished_one(workspace):
    tracker = Tracker(None, workspace)
    failed = replace(cell("kl"), status="failed", results=(), error="Traceback\nValueError: NaN loss")
    invocation(tracker, [failed])
    (run,) = children(tracker)
    assert run.info.status == "FAILED"
    assert {a.path for a in tracker.client.list_artifacts(run.info.run_id)} == {"record.json", "error.txt"}
    assert fetch_cells(tracker.uri, "demo") == [replace(failed, history={})]
    invocation(tracker, [cell("kl")], replace(RUN, id="20261122-101500-ffffff"))
    assert [c.status for c in fetch_cells(tracker.uri, "demo")] == ["finished"]


def test_cells_come_back_as_they_were_but_for_their_curves(workspace):
    tracker = Tracker(None, workspace)
    records = cells(2)
    invocation(tracker, records)
    assert fetch_cells(tracker.uri, "demo") == [replace(c, history={}) for c in records]
    assert fetch_cells(tracker.uri, "demo", "quick") == fetch_cells(tracker.uri, "demo")
    assert fetch_cells(tracker.uri, "demo", "paper") == []
    assert fetch_cells(tracker.uri, "nothing") == []


def test_limits_of_a_batch(workspace):
    tracker = Tracker(None, workspace)
    big = replace(
        cell("kl"),
        settings=settings_from({f"student.p{i}": "x" * 7_000 if i == 0 else i for i in range(250)}),
        history={f"curve {i}": [0.5] * 400 for i in range(4)} | {"nan": [float("nan"), 1.0]},
    )
    invocation(tracker, [big])
    (run,) = children(tracker)
    assert sum(name.startswith("student.p") for name in run.data.params) == 250
    assert len(tracker.client.get_metric_history(run.info.run_id, "epoch/curve 3")) == 400


def test_sync_replays_once(workspace):
    tracker = Tracker(None, workspace)
    invocation(tracker, [cell("kl")])
    records = cells(1, budgets=(400,))
    assert tracker.sync(records) == {"logged": 2, "found": 1}
    assert Tracker(None, workspace).sync(records) == {"logged": 0, "found": 3}
    assert {c.key for c in fetch_cells(tracker.uri, "demo")} == {c.key for c in records}


def at(scale, fold, **changes):
    """A cell whose key says nothing of the scale, as where scales differ in their folds alone."""
    return replace(cell("kl", fold=fold), scale=scale, **changes)


@pytest.mark.parametrize("how", ["runs", "sync"])
def test_scales_that_share_work_keep_all_their_folds(workspace, how):
    tracker = Tracker(None, workspace)
    a, b = [at("a", fold) for fold in range(2)], [at("b", fold) for fold in range(3)]
    if how == "sync":
        assert tracker.sync(a) == {"logged": 2, "found": 0}
        assert tracker.sync([*a, *b]) == {"logged": 3, "found": 2}
    else:
        invocation(tracker, a, replace(RUN, scale="a"))
        invocation(tracker, b, replace(RUN, id="20261122-101500-ffffff", scale="b"))
    for scale, folds in (("a", 2), ("b", 3)):
        read = fetch_cells(tracker.uri, "demo", scale)
        assert [(c.scale, c.fold) for c in read] == [(scale, fold) for fold in range(folds)]
    assert len(fetch_cells(tracker.uri, "demo")) == 5
    assert tracker.sync([*a, *b]) == {"logged": 0, "found": 5}
    assert all(tracker.holds(c) for c in (*a, *b))


@pytest.mark.parametrize("labels", [{"student": "small"}, {"scheme": "soft"}, {"teacher": "big"}])
def test_the_label_of_the_last_run_is_the_one_that_is_shown(workspace, labels):
    """Also where it was shown before, and another one in between."""
    tracker = Tracker(None, workspace)
    old = cell("kl", created=5.0)
    new = replace(old, **labels)
    for number, record in enumerate((old, new, old)):
        assert not tracker.holds(record)
        invocation(tracker, [record], replace(RUN, id=f"2026112{number}-101500-ffffff"))
        assert fetch_cells(tracker.uri, "demo") == [replace(record, history={})]
        assert tracker.holds(record)
    assert tracker.sync([new]) == {"logged": 1, "found": 0}
    assert fetch_cells(tracker.uri, "demo") == [replace(new, history={})]


@pytest.mark.parametrize("through_the_client", [False, True])
def test_a_value_that_was_edited_is_refused_until_it_is_logged_again(
    workspace, through_the_client, monkeypatch
):
    tracker = Tracker(None, workspace)
    record = cell("kl")
    tracker.sync([record, cell("undistilled")])
    (run,) = [r for r in children(tracker) if r.data.tags["kdbench.scheme"] == "kl"]
    value = str(record.results[0].value)
    text = run.data.tags["kdbench.record.000"]
    assert value in text
    tracker.client.set_tag(run.info.run_id, "kdbench.record.000", text.replace(value, "0.99"))
    if through_the_client:
        monkeypatch.setattr("kdbench.tracking.tracker._readable", lambda uri: None)
    with pytest.raises(VerificationError, match="not what was logged") as caught:
        fetch_cells(tracker.uri, "demo")
    assert run.info.run_id in str(caught.value)
    assert "kdbench track sync" in caught.value.hint
    assert not tracker.holds(record)
    assert tracker.holds(cell("undistilled"))
    assert tracker.sync([record, cell("undistilled")]) == {"logged": 1, "found": 1}
    assert {c.scheme: c for c in fetch_cells(tracker.uri, "demo")}["kl"] == replace(record, history={})


def test_a_run_cut_off_half_way_is_no_record(workspace, monkeypatch):
    tracker = Tracker(None, workspace)
    tracker.run_started(RUN)
    with monkeypatch.context() as patch:
        patch.setattr(type(tracker.client), "log_inputs", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tracker.cell_finished(RUN, cell("kl"))
    assert fetch_cells(tracker.uri, "demo") == []
    tracker.cell_finished(RUN, cell("kl"))
    assert len(fetch_cells(tracker.uri, "demo")) == 1


def test_files_are_attached_to_the_parent(workspace, tmp_path):
    tracker = Tracker(None, workspace)
    tracker.run_started(RUN)
    folder = tmp_path / "figures"
    folder.mkdir()
    for path in (tmp_path / "report.html", folder / "a.svg"):
        path.write_text("x")
    tracker.log_files(RUN, [tmp_path / "report.html", folder])
    parent = parent_of(tracker).info.run_id
    names = {a.path for a in tracker.client.list_artifacts(parent, "report")}
    assert names == {"report/report.html", "report/figures"}


def test_a_leaderboard_from_the_store_is_that_of_the_records(workspace):
    tracker = Tracker(None, workspace)
    tracker.sync(cells(2))
    assert collate(fetch_cells(tracker.uri, "demo"), suite()) == collate(cells(2), suite())


def test_an_interrupted_run_is_killed(workspace):
    tracker = Tracker(None, workspace)
    tracker.run_started(RUN)
    tracker.run_finished(replace(RUN, status="interrupted"))
    assert parent_of(tracker).info.status == "KILLED"


def test_a_run_that_was_not_started(workspace):
    with pytest.raises(WorkspaceError, match="never started"):
        Tracker(None, workspace).cell_finished(RUN, cell())


def test_a_deleted_experiment_is_told(workspace):
    tracker = Tracker(None, workspace)
    tracker.run_started(RUN)
    client = tracker.client
    client.delete_experiment(client.get_experiment_by_name("kdbench/demo").experiment_id)
    with pytest.raises(WorkspaceError, match="was deleted"):
        Tracker(None, workspace).run_started(RUN)


# -- opening


def test_where_it_tracks(monkeypatch, tmp_path):
    assert tracking_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example:5000")
    assert tracking_uri(None, tmp_path) == "http://example:5000"
    assert tracking_uri("sqlite:////x.db", tmp_path) == "sqlite:////x.db"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("file:///tmp/mlruns", "sqlite:///"),
        ("./mlruns", "sqlite:///"),
        ("sqlite://", "names no file"),
        ("http://127.0.0.1:9", "kdbench track sync"),
        ("postgresql://me:secret@127.0.0.1:9/db", "nobody answers at port 9"),
    ],
)
def test_a_store_that_is_not_there(uri, said, tmp_path):
    started = time.monotonic()
    with pytest.raises(WorkspaceError) as caught:
        Tracker(uri, tmp_path).check()
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 60  # MLflow alone goes on for minutes
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is a letter, not a database")
    with pytest.raises(WorkspaceError, match="not an SQLite file"):
        Tracker(None, tmp_path).check()


def test_a_folder_that_cant_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="can't be opened"):
        Tracker(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path).check()


def test_reading_does_not_make_a_database(tmp_path):
    with pytest.raises(WorkspaceError, match="no tracking database"):
        fetch_cells(tracking_uri(None, tmp_path), "demo")
    assert not list(tmp_path.iterdir())


def python(code, *args, **env):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | env
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_several_processes_may_open_a_fresh_database_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from kdbench.tracking import Tracker\n"
        "Tracker(None, Path(sys.argv[1])).check()"
    )
    processes = [python(code, tmp_path) for _ in range(4)]
    said = [p.communicate(timeout=200)[0] for p in processes]
    assert [p.returncode for p in processes] == [0] * 4, said
    assert said == [""] * 4  # and MLflow's chatter is silenced
    assert fetch_cells(tracking_uri(None, tmp_path), "demo") == []


@pytest.mark.slow
def test_telemetry_is_off_unless_the_user_decided(tmp_path):
    code = (
        "import os; from kdbench.tracking.tracker import talking\n"
        "with talking('x'): print(os.environ.get('MLFLOW_DISABLE_TELEMETRY'))"
    )
    ours, theirs = python(code), python(code, MLFLOW_DISABLE_TELEMETRY="false")
    assert ours.communicate(timeout=100)[0].split()[-1] == "true"
    assert theirs.communicate(timeout=100)[0].split()[-1] == "false"
