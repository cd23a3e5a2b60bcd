"""Executors of plugins: named, checked, and doing the work of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdbench.store import Store

#: An executor as someone else writes it, with kdbench.api alone: threads that hold places of work of their own.
PLUGIN = """
import pickle, queue, threading
from pathlib import Path
from kdbench.api import ExecutorSpec, Outcome, hookimpl

class Threads:
    def __init__(self, *, diary: str, n_jobs: int = 1) -> None:
        self.diary, self.slots = Path(diary), n_jobs

    def start(self, context):
        self.orders, self.said = queue.Queue(), queue.Queue()
        sent = pickle.dumps(context)  # as one that sends it to another machine
        self.threads = [threading.Thread(target=self.serve, args=(sent,)) for _ in range(self.slots)]
        for thread in self.threads:
            thread.start()

    def serve(self, sent):
        place = pickle.loads(sent).workplace()
        while (order := self.orders.get()) is not None:
            for outcome in place.execute(pickle.loads(order), self, threads=1):
                self.said.put(outcome)

    def progress(self, *about): ...
    def warning(self, sentence): ...

    def submit(self, stages):
        with self.diary.open("a") as diary:
            diary.writelines(stage.title + chr(10) for stage in stages)
        self.orders.put(pickle.dumps(stages))

    def wait(self, listener):
        return self.said.get()

    def stop(self):
        for thread in self.threads:
            self.orders.put(None)
        for thread in self.threads:
            thread.join()

class Lacks:
    def start(self, context): ...
    def submit(self, stages): ...
    def stop(self): ...

@hookimpl
def kdbench_executors():
    return [
        ExecutorSpec(name="threads", target="strange:Threads", summary="s"),
        ExecutorSpec(name="lacks", target="strange:Lacks", summary="s"),
    ]
"""

SMALL = (
    "--set", 'schemes=["undistilled"]', "--set", 'metrics=["accuracy"]', "--set", "reducers=[]",
    "--set", 'teacher_metrics=["accuracy"]',
)  # fmt: skip


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("strange") / "strange.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture(scope="module")
def suite(tmp_path_factory, tiny_text) -> Path:
    path = tmp_path_factory.mktemp("suite") / "tiny.toml"
    path.write_text(tiny_text)
    return path


def test_a_plugin_s_executor_carries_out_a_run(
    suite, plugin, new_workspace, kdbench_here, finished, tmp_path
):
    diary, workspace = tmp_path / "diary", new_workspace()
    named = f'{{ name = "threads", diary = "{diary}" }}'
    code, out, err = kdbench_here(
        "run", suite, "--workspace", workspace, "--plugin", plugin, "--executor", named, "--json", *SMALL
    )
    assert code == 0, err
    titles = diary.read_text().splitlines()
    assert json.loads(out)["stages"] == {"executed": len(titles), "cached": 0, "failed": 0}
    assert {t.split()[0] for t in titles} == {"teacher", "student", "score"}
    # what it wrote is what the serial executor writes
    _, serial, _ = finished
    for cell in Store(workspace).cells():
        key = next(key for title, key in cell.stages.items() if title.startswith(("student", "teacher")))
        a, b = Store(workspace).open(key), serial.open(key)
        assert {n: f["sha256"] for n, f in a.record["files"].items()} == {
            n: f["sha256"] for n, f in b.record["files"].items()
        }


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--executor", "proceses"), 2, ["no 'proceses' among the executors", "did you mean 'processes'"]),
        (("--executor", "serial", "--jobs", "2"), 2, ["'serial' does not take a number of jobs"]),
        (("--executor", "serial", "--jobs", "auto"), 2, ["'serial' does not take a number of jobs"]),
        (("--executor", '{ name = "processes", pins = true }'), 2, ["no parameter 'pins'", "'pin'"]),
        (("--executor", '{ name = "processes"'), 2, ["not a TOML inline table"]),
        (("--executor", "{ pin = false }"), 2, ["has no name"]),
        (("--executor", "lacks"), 3, ["Lacks has no method wait", "strange.py:"]),
        (("--jobs", "0"), 2, ["at least 1"]),
        (("--jobs", "many"), 2, ["neither a number nor 'auto'"]),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(
    suite, plugin, new_workspace, kdbench_here, arguments, code, words
):
    workspace = new_workspace()
    found, _, err = kdbench_here("run", suite, "--workspace", workspace, "--plugin", plugin, *arguments)
    assert found == code, err
    for word in words:
        assert word in " ".join(err.split())
    assert not (workspace / "objects").exists() or not list((workspace / "objects").iterdir())
