"""The observer that writes lines of JSON."""

import json

from kdbench.session.observers import Hooks
from kdbench.store import Store


def test_run_events_are_json_lines(tmp_path, monkeypatch, tiny_plan, carry_out, plain_registry):
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv("KDBENCH_EVENTS", str(events))
    plan = tiny_plan('metrics=["accuracy"]', "reducers=[]")
    report = carry_out(plan, Store(tmp_path / "work"), Hooks(plain_registry))
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    assert [lines[0]["event"], lines[-1]["event"]] == ["run_started", "run_finished"]
    assert lines[0]["cells"] == 3
    assert lines[-1]["status"] == "finished"
    assert {line["run"] for line in lines} == {report.summary.id}
    stages = [line for line in lines if line["event"] == "stage_finished"]
    assert {s["key"] for s in stages} == plan.stages.keys()
    assert {s["status"] for s in stages} == {"finished"}
    results = {line["key"]: line["results"] for line in lines if line["event"] == "cell_finished"}
    assert results == {c.key: {"accuracy": c.results[0].value} for c in report.cells}
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def test_nothing_is_written_without_events_file(tmp_path, monkeypatch, finished, plain_registry):
    monkeypatch.delenv("KDBENCH_EVENTS", raising=False)
    monkeypatch.chdir(tmp_path)
    _, _, report = finished
    assert plain_registry.notify("kdbench_run_finished", run=report.summary) == []
    assert list(tmp_path.iterdir()) == []


def test_unwritable_file_does_not_stop_the_run(tmp_path, monkeypatch, finished, plain_registry):
    monkeypatch.setenv("KDBENCH_EVENTS", str(tmp_path / "no" / "folder"))
    _, _, report = finished
    (failure,) = plain_registry.notify("kdbench_run_finished", run=report.summary)
    assert failure.plugin == "kdbench_observers"
    assert "FileNotFoundError" in failure.what
