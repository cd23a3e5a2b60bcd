"""Cores, memory, and what stages ask of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kdbench.api import Resources, available_cores, environment_for, thread_environment
from kdbench.executors.resources import _left_of_limit, available_memory_gib, resources_of
from kdbench_executors._lanes import lanes_of

GIB = 2**30


@pytest.mark.skipif(len(available_cores()) < 2, reason="needs two cores")
def test_every_thread_of_a_process_is_confined():
    code = """
import os, threading
from pathlib import Path
from kdbench.api import available_cores, confine
for _ in range(2):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
core = available_cores()[-1]
assert confine([core])
threads = [int(entry.name) for entry in Path("/proc/self/task").iterdir()]
assert len(threads) >= 3, threads
assert all(os.sched_getaffinity(t) == {core} for t in threads)
assert available_cores() == (core,)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_the_environment_sets_already_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with environment_for(3):
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert os.environ["MKL_NUM_THREADS"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
    assert thread_environment(3)["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize(
    ("cores", "jobs", "gpu", "expected"),
    [
        (16, 4, False, {"cpu": (16, 4)}),
        (2, 2, False, {"cpu": (2, 1)}),
        (7, 3, False, {"cpu": (7, 2)}),
        (2, 5, False, {"cpu": (5, 1)}),
        (16, 4, True, {"gpu": (4, 1), "cpu": (12, 3)}),
        (2, 4, True, {"gpu": (4, 1), "cpu": (2, 1)}),
    ],
)
def test_lanes_of_machines(cores, jobs, gpu, expected):
    lanes = lanes_of(tuple(range(cores)), jobs, gpu=gpu)
    assert {name: (lane.slots, lane.share) for name, lane in lanes.items()} == expected
    for lane in lanes.values():
        taken = [lane.allocate(Resources(threads=False)) for _ in range(lane.slots)]
        assert not lane.has_room(Resources(threads=False))
        counts = [sum(core in t for t in taken) for core in range(cores)]
        used = [n for n in counts if n]
        assert max(used) - min(used) <= 1  # no core is shared by more than need be
        for t in taken:
            lane.release(t)
        assert len(lane.free) == lane.slots


def test_the_limit_of_a_control_group(tmp_path):
    assert _left_of_limit(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("max\n")
    assert _left_of_limit(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text(f"{8 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{5 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {2 * GIB}\ninactive_file {3 * GIB}\n")
    assert _left_of_limit(tmp_path) == 6 * GIB  # a cache of files is given up when memory is wanted
    old = tmp_path / "old" / "memory"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text(f"{4 * GIB}\n")
    (old / "memory.usage_in_bytes").write_text(f"{1 * GIB}\n")
    (old / "memory.stat").write_text(f"total_inactive_file {GIB // 2}\n")
    assert _left_of_limit(tmp_path / "old") == 3.5 * GIB
    assert 0 < available_memory_gib() < 1e5


def test_a_stage_asks_for_its_components_resources_and_the_layer_that_it_reads(finished, plain_registry):
    plan, store, _ = finished
    by_kind: dict[str, list] = {}
    for stage in plan.stages.values():
        by_kind.setdefault(stage.kind, []).append(stage)

    def asked(stage):
        return resources_of(stage, plain_registry, store)

    for kind in ("teacher", "targets", "student", "features"):
        assert all(asked(stage).gpu for stage in by_kind[kind])
    for stage in by_kind["embedding"]:
        own = plain_registry.spec(*stage.component.split("/")).resources
        X = store.open(stage.inputs["features"]).array(stage.fields.tap)
        layer = X.shape[0] * X.shape[1] * 4 / GIB
        assert layer > 0
        assert asked(stage).memory_gib == pytest.approx(own.memory_gib + 2 * layer)
        assert (asked(stage).gpu, asked(stage).threads) == (own.gpu, own.threads)
    accuracy = next(s for s in by_kind["score"] if s.component == "metrics/accuracy")
    assert asked(accuracy) == plain_registry.spec("metrics", "accuracy").resources


def test_a_metric_that_runs_reducers_asks_for_what_they_do(tiny_plan, plain_registry, tmp_path):
    from kdbench.store import Store

    plan = tiny_plan('metrics=["noise-demonstration"]', 'reducers=["pca", "umap", "ivis-torch"]')
    stage = next(s for s in plan.stages.values() if s.component == "metrics/noise-demonstration")
    umap = plain_registry.spec("reducers", "umap").resources
    asked = resources_of(stage, plain_registry, Store(tmp_path))
    assert umap.warm_up > 0
    assert asked == Resources(gpu=True, threads=True, memory_gib=2.0, warm_up=umap.warm_up)
