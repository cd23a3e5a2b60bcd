"""Carrying out a plan: what is done once, what a failure takes down, what an interruption leaves."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdbench.api import CellRecord, available_cores
from kdbench.errors import VerificationError
from kdbench.registry import Registry
from kdbench.runner import Observer, RunReport, new_summary, run_plan
from kdbench.store import Store

PLUGIN = """
import os
import numpy as np
from kdbench.api import MetricResult, MetricSpec, ReducerSpec, hookimpl

class Raises:
    def __call__(self, view):
        raise RuntimeError("boom " + str(view.logits.shape))

class NotANumber:
    def __call__(self, view):
        return MetricResult({"value": float("nan")})

class Dies:
    def __call__(self, view):
        os._exit(9)

class Collapses:
    def __init__(self, *, random_state: int | None = None) -> None:
        self.random_state = random_state
    def fit_transform(self, X):
        return np.full((len(X), 2), np.nan)

class Loses:
    def __init__(self) -> None: ...
    def fit_transform(self, X):
        return X[1:, :2]

@hookimpl
def kdbench_metrics():
    logits = frozenset({"logits"})
    return [
        MetricSpec(name="raises", target="faulty:Raises", summary="s", needs=logits),
        MetricSpec(name="nan", target="faulty:NotANumber", summary="s", needs=logits),
        MetricSpec(name="dies", target="faulty:Dies", summary="s", needs=logits),
    ]

@hookimpl
def kdbench_reducers():
    return [
        ReducerSpec(name="collapses", target="faulty:Collapses", summary="s"),
        ReducerSpec(name="loses", target="faulty:Loses", summary="s"),
    ]
"""


class Diary(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Any]] = []

    def run_started(self, run):
        self.lines.append(("run started", run.status))

    def stage_started(self, stage):
        self.lines.append(("started", stage.key))

    def stage_finished(self, run, stage):
        self.lines.append((stage.status, stage.key))

    def cell_finished(self, run, cell):
        self.lines.append(("cell", cell.key))

    def run_finished(self, run):
        self.lines.append(("run finished", run.status))


def comparable(report: RunReport) -> dict[str, dict]:
    """Records by key, without what no two runs share: times, and the commit of a folder that is worked in."""
    return {c.key: without_times(c) for c in report.cells}


def without_times(cell: CellRecord) -> dict:
    left_out = {"seconds", "created", "hardware", "git_commit"}
    kept = {k: v for k, v in cell.to_json().items() if k not in left_out}
    return kept | {"results": [r for r in kept["results"] if r["metric"] != "embedding-time"]}


@pytest.fixture(scope="session")
def faulty(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("faulty") / "faulty.py"
    path.write_text(PLUGIN)
    return path


# -- a run


def test_a_run_leaves_a_record_of_every_cell(finished):
    plan, store, report = finished
    assert report.executed == len(plan.stages)
    assert report.cached == 0
    assert {c.key for c in report.cells} == {c.key for c in plan.cells}
    assert sorted(store.cells("tiny", "here"), key=lambda c: c.key) == sorted(
        report.cells, key=lambda c: c.key
    )
    assert store.verify() == []
    assert list((store.root / "partial").iterdir()) == []
    by_scheme = {c.scheme: c for c in report.cells}
    assert {r.metric for r in by_scheme["teacher"].results} == {"accuracy"}
    found = {(r.metric, r.tap, r.reducer) for r in by_scheme["distilled"].results if r.primary}
    assert found == {
        ("accuracy", None, None), ("superclass-correlation", None, None), ("ivis-loss", "E", "ivis-torch"),
        ("class-area", "E", "ivis-torch"), ("class-area", "E", "pca"),
    }  # fmt: skip
    distilled = by_scheme["distilled"]
    assert distilled.settings.student.recipe["epochs"] == 1
    assert distilled.settings.scheme.params["temperature"] == 4.0
    assert distilled.images_seen == 60  # 20 labelled, 40 unlabelled
    assert distilled.dataset_digest == plan.dataset_digest
    for path in distilled.arrays.values():
        assert (store.root / path).is_file()
    for key in distilled.stages.values():
        assert store.has(key)
    assert np.load(store.root / distilled.arrays["E/pca/embedding"]).shape == (30, 2)


def test_the_accuracy_of_a_record_is_that_of_its_logits(finished, tiny_data):
    plan, store, report = finished
    for cell in plan.cells:
        network = store.open(cell.network)
        labels = np.asarray(tiny_data.test.labels)[network.array("test_rows")]
        expected = (network.array("test_logits").argmax(1) == labels).mean()
        record = next(c for c in report.cells if c.key == cell.key)
        (value,) = [r.value for r in record.results if (r.metric, r.value_name) == ("accuracy", "accuracy")]
        assert value == pytest.approx(expected)
        assert record.history["test_accuracy"][-1] == pytest.approx(expected)


def test_the_same_run_again_does_nothing(finished, carry_out):
    plan, store, first = finished
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*") if p.is_file()}
    diary = Diary()
    report = carry_out(plan, store, diary)
    assert (report.executed, report.cached, report.failed) == (0, len(plan.stages), [])
    assert {line for line, _ in diary.lines} == {"run started", "cell", "run finished"}
    assert sorted(report.cells, key=lambda c: c.key) == sorted(first.cells, key=lambda c: c.key)
    objects = store.root / "objects"
    assert all(before[p] == p.stat().st_mtime_ns for p in before if objects in p.parents)


def test_another_run_on_another_store_is_the_same(finished, tiny_plan, carry_out, tmp_path):
    _, _, first = finished
    plan, diary = tiny_plan(), Diary()
    report = carry_out(plan, Store(tmp_path / "other"), diary)
    assert comparable(report) == comparable(first)
    assert diary.lines[0] == ("run started", "running")
    assert diary.lines[-1] == ("run finished", "finished")
    # a stage ends before what needs it begins, and a cell is reported as soon as it is done
    place = {line: i for i, line in enumerate(diary.lines)}
    for stage in plan.stages.values():
        assert place["started", stage.key] < place["finished", stage.key]
        assert all(place["finished", k] < place["started", stage.key] for k in stage.needs())
    for cell in plan.cells:
        assert place["cell", cell.key] == 1 + max(place["finished", k] for k in cell.stages())


def test_a_new_label_is_shown_though_nothing_is_done_again(finished, tiny_plan, carry_out, tmp_path):
    import shutil

    _, done, _ = finished
    shutil.copytree(done.root, tmp_path / "copy")
    store = Store(tmp_path / "copy")
    ivis = '{ name = "ivis-torch", k = 5, batch_size = 16, epochs = 1, label = "ivis-torch" }'
    renamed = 'reducers=[{ name = "pca", label = "principal" }, ' + ivis + "]"
    report = carry_out(tiny_plan(renamed, 'student.architecture.label="small"'), store)
    assert report.executed == 0
    distilled = next(c for c in report.cells if c.scheme == "distilled")
    assert {r.reducer for r in distilled.results if r.reducer} == {"principal", "ivis-torch"}
    assert distilled.student == "small"
    assert store.cells() == sorted(report.cells, key=lambda c: (c.created, c.key))


def test_a_number_has_the_machine_and_version_that_it_came_from(finished, tiny_plan, carry_out, tmp_path):
    """One embedding ran later, on another machine; its network's training and the other numbers did not."""
    from kdbench.leaderboard import collate
    from kdbench.tracking import tags as codec

    _, done, first = finished
    assert {tuple(c.origins) for c in first.cells} == {()}, "all on one machine: there is nothing to say"
    shutil.copytree(done.root, tmp_path / "copy")
    store, plan = Store(tmp_path / "copy"), tiny_plan()
    (cell,) = (c for c in plan.cells if c.scheme == "distilled")
    (record,) = (store.root / "objects").glob(f"*/{cell.embeddings['E/pca']}/record.json")
    data = json.loads(record.read_text())
    here = data["hardware"]["label"]
    data["hardware"]["label"], data["versions"]["kdbench"] = "NVIDIA H200", "9.9"
    del data["sha256"]
    data["sha256"] = hashlib.sha256(
        json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()
    record.write_text(json.dumps(data))
    report = carry_out(plan, store)
    assert report.executed == 0

    told = {r.metric: (r.hardware, r.kdbench_version) for r in collate(report.cells)
            if r.scheme == "distilled" and r.reducer in (None, "pca")}  # fmt: skip
    own = next(c for c in report.cells if c.scheme == "distilled").versions["kdbench"]
    assert told["embedding-time.seconds"] == ("NVIDIA H200", "9.9")
    assert told["class-area.median"] == (f"{here}; NVIDIA H200", f"{own}; 9.9")
    assert told["accuracy.accuracy"] == (here, own)
    others = [r for r in collate(report.cells) if (r.scheme, r.reducer) != ("distilled", "pca")]
    assert {(r.hardware, r.kdbench_version) for r in others} == {(here, own)}
    assert CellRecord.from_json(json.loads(json.dumps(report.cells[0].to_json()))) == report.cells[0]
    assert store.cells() == sorted(report.cells, key=lambda c: (c.created, c.key)), "the record was mended"
    (ours,) = (c for c in report.cells if c.scheme == "distilled")
    assert codec.from_tags(codec.to_tags(ours)).origins == ours.origins


def test_a_record_from_before_it_told_machines_apart_is_read(finished):
    _, _, report = finished
    data = report.cells[0].to_json()
    del data["origins"]
    old = CellRecord.from_json(data)
    assert old == report.cells[0]
    assert old.origin("embedding-time", "E", "pca")["hardware"] == old.hardware["label"]


# -- damage


@pytest.fixture
def copied(finished, tmp_path) -> Store:
    """The store of a finished run, to be damaged."""
    shutil.copytree(finished[1].root, tmp_path / "copy")
    return Store(tmp_path / "copy")


@pytest.mark.parametrize("damage", ["cut off", "edited"])
def test_the_record_of_a_cell_is_made_anew_where_it_is_damaged(finished, carry_out, copied, damage):
    plan, _, first = finished
    (path,) = copied.root.glob(f"cells/tiny/here/{plan.cells[0].key}.json")
    text = path.read_text()
    path.write_text(text[:200] if damage == "cut off" else text.replace('"fold": 0', '"fold": 1'))
    assert copied.verify() == [str(path)]
    report = carry_out(plan, copied)
    assert report.executed == 0
    assert [str(path) in sentence for sentence in report.warnings] == [True]
    assert copied.verify() == []
    assert copied.cells("tiny", "here") == sorted(first.cells, key=lambda c: (c.created, c.key))
    assert carry_out(plan, copied).warnings == []


def test_a_result_that_was_edited_in_its_stage_and_its_cell_is_not_shown(finished, carry_out, copied):
    """Not even where both say the same."""
    plan, _, _ = finished
    cell = next(c for c in plan.cells if c.scheme == "distilled")
    stage = next(s.key for s in cell.scores if s.metric == "accuracy")
    stored = copied.open(stage)
    value = json.dumps(stored.values["values"]["accuracy"])
    for path in (stored.folder / "record.json", copied.root / "cells" / "tiny" / "here" / f"{cell.key}.json"):
        text = path.read_text()
        assert f": {value}" in text
        path.write_text(text.replace(f": {value}", ": 0.99"))
    assert len(copied.verify()) == 2
    with pytest.raises(VerificationError, match="not what was written") as caught:
        carry_out(plan, copied)
    assert str(stored.folder) in caught.value.hint
    shutil.rmtree(stored.folder)  # as the hint says
    report = carry_out(plan, copied)
    assert report.executed == 1
    assert copied.verify() == []
    (read,) = [r.value for r in copied.cell("tiny", "here", cell.key).results if r.metric == "accuracy"][:1]
    assert read == float(value)


# -- failures


def test_what_fails_takes_down_its_cells_and_nothing_else(tiny_plan, carry_out, faulty, tmp_path):
    registry = Registry.discover(files=[faulty])
    plan = tiny_plan(
        'metrics=["accuracy", "class-area", { name = "raises", label = "boom" }]',
        'reducers=["pca", "collapses", "loses"]',
        registry=registry,
    )
    store, diary = Store(tmp_path / "ws"), Diary()
    report = carry_out(plan, store, diary, registry=registry)
    assert report.summary.status == "failed"
    cells = {c.scheme: c for c in report.cells}
    assert {s: c.status for s, c in cells.items()} == {
        "teacher": "finished", "undistilled": "failed", "distilled": "failed",
    }  # fmt: skip
    failed = {s.title.split(" · ")[0] for s in report.failed}
    assert failed == {"embedding collapses", "embedding loses", "score boom"}
    skipped = [key for line, key in diary.lines if line == "skipped"]
    assert {plan.stages[k].title.split(" · ")[2] for k in skipped} == {"collapses", "loses"}
    assert all(plan.stages[k].component == "metrics/class-area" for k in skipped)
    for scheme in ("undistilled", "distilled"):
        record = cells[scheme]
        assert "Traceback" in record.error
        # what was measured is there
        assert {(r.metric, r.reducer) for r in record.results if r.primary} == {
            ("accuracy", None), ("class-area", "pca"),
        }  # fmt: skip
    errors = " ".join(s.error for s in report.failed)
    assert "boom (50, 10)" in errors
    assert "values that are not finite" in errors
    assert "returned shape (29, 2)" in errors
    assert len(list((store.root / "failures").iterdir())) == len(report.failed)
    # again: what failed is tried again, what was done is not
    again = carry_out(plan, store, registry=registry)
    assert again.executed == 0
    assert {s.key for s in again.failed} == {s.key for s in report.failed}


def test_a_metric_that_is_not_a_number_fails_and_leaves_no_artifact(tiny_plan, carry_out, faulty, tmp_path):
    registry = Registry.discover(files=[faulty])
    plan = tiny_plan('metrics=["nan"]', 'schemes=["undistilled"]', "reducers=[]", registry=registry)
    store = Store(tmp_path / "ws")
    report = carry_out(plan, store, registry=registry)
    (stage,) = report.failed
    assert "metrics/nan returned {'value': nan}" in stage.error
    assert not store.has(stage.key)
    assert {c.scheme: c.status for c in report.cells} == {"teacher": "finished", "undistilled": "failed"}


def test_a_training_that_diverges_fails_its_cell(tiny_plan, carry_out, tmp_path):
    plan = tiny_plan("student.learning_rate=1e30", "student.epochs=3", 'metrics=["accuracy"]', "reducers=[]")
    report = carry_out(plan, Store(tmp_path / "ws"))
    cells = {c.scheme: c for c in report.cells}
    assert cells["teacher"].status == "finished"
    for scheme in ("undistilled", "distilled"):
        assert cells[scheme].status == "failed"
        assert "Diverged" in cells[scheme].error
        assert cells[scheme].results == ()


# -- interruptions


class Interrupts(Observer):
    """Ctrl-C at the n-th event."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.status = ""

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def stage_started(self, stage):
        self._count()

    def stage_progress(self, key, done, total, unit):
        self._count()

    def stage_finished(self, run, stage):
        self._count()

    def cell_finished(self, run, cell):
        self._count()

    def run_finished(self, run):
        self.status = run.status


def test_interrupted_again_and_again_a_run_ends_with_the_same_records(
    finished, tiny_plan, carry_out, tmp_path
):
    _, _, whole = finished
    plan, store = tiny_plan(), Store(tmp_path / "ws")
    interruptions = 0
    while True:
        observer = Interrupts(at=3 + 2 * interruptions)
        try:
            report = carry_out(plan, store, observer)
            break
        except KeyboardInterrupt:
            interruptions += 1
            assert observer.status == "interrupted"
            assert store.verify() == []
            assert list((store.root / "tmp").iterdir()) == []
            assert interruptions < 60
    assert interruptions >= 5
    assert observer.status == "finished"
    assert comparable(report) == comparable(whole)
    assert {c.key for c in store.cells()} == {c.key for c in whole.cells}


# -- several processes


@pytest.fixture
def carry_out_in_processes(places, plain_registry):
    from kdbench.executors import Context
    from kdbench_executors.processes import ProcessExecutor

    def run(plan: Any, store: Store, *observers: Any, files: tuple[Path, ...] = ()) -> RunReport:
        registry = Registry.discover(files=files) if files else plain_registry
        executor = ProcessExecutor(n_jobs=2)
        cores = available_cores()[:2]  # one each: threads show in last digits
        executor.start(Context(store.root, places, files, cores=cores, registry=registry, store=store))
        return run_plan(plan, store, executor, observers, new_summary(plan, store, device="cpu", threads=1))

    return run


@pytest.mark.slow
def test_two_workers_leave_the_records_of_one(finished, tiny_plan, carry_out_in_processes, tmp_path):
    _, _, whole = finished
    report = carry_out_in_processes(tiny_plan(), Store(tmp_path / "ws"))
    assert report.summary.status == "finished", report.failed
    assert comparable(report) == comparable(whole)
    # a worker is kept on some of the cores; the machine is that of the run
    assert {c.hardware["cores"] for c in report.cells} == {len(available_cores()[:2])}


@pytest.mark.slow
def test_a_worker_that_dies_takes_its_cell_down_and_the_others_finish(
    tiny_plan, carry_out_in_processes, faulty, tmp_path
):
    registry = Registry.discover(files=[faulty])
    plan = tiny_plan(
        'metrics=["accuracy", "dies"]', 'teacher_metrics=["accuracy"]', 'schemes=["undistilled"]', "reducers=[]",
        "data.folds=2", registry=registry,
    )  # fmt: skip
    store = Store(tmp_path / "ws")
    report = carry_out_in_processes(plan, store, files=(faulty,))
    cells = [(c.scheme, c.status) for c in report.cells]
    assert sorted(cells) == [("teacher", "finished")] * 2 + [("undistilled", "failed")] * 2
    assert {s.title.split(" · ")[0] for s in report.failed} == {"score dies"}
    assert all("died" in s.error for s in report.failed)
    assert all(r.metric == "accuracy" for c in report.cells for r in c.results)
    assert all(c.results for c in report.cells)
    assert store.verify() == []
