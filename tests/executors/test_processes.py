"""The pool of workers, with real processes: who runs beside whom, where, and what a death takes along."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Sequence

import pytest
from executor_places import Here, alive, stage

from kdbench.api import Executor, Outcome, available_cores
from kdbench.executors import Context, ReadyQueue
from kdbench.plan import Stage
from kdbench.store import Store
from kdbench_executors.processes import ProcessExecutor
from kdbench_executors.serial import SerialExecutor

CORES = available_cores()
needs_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")


class Ears:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def progress(self, *about: object) -> None: ...

    def warning(self, sentence: str) -> None:
        self.heard.append(sentence)


def drive(
    executor: Executor, context: Here, stages: Sequence[Stage], ears: Ears | None = None
) -> list[Outcome]:
    """Execute stages as a run does; outcomes as they come."""
    queue, running, outcomes = ReadyQueue(stages), set(), []
    executor.start(context)
    try:
        while queue or running:
            while queue.under_way < executor.slots:
                bundle = queue.take_bundle(executor, idle=not running)
                if not bundle:
                    break
                running |= {s.key for s in bundle}
                executor.submit(bundle)
            outcomes.append(executor.wait(ears or Ears()))
            running.remove(outcomes[-1].key)
            queue.settled(outcomes[-1].key)
    finally:
        executor.stop()
    return outcomes


def together(a: dict, b: dict) -> bool:
    return a["began"] < b["ended"] and b["began"] < a["ended"]


def named(context: Here) -> dict[str, dict]:
    return {note["name"]: note for note in context.seen()}


@needs_two_cores
def test_shares_of_the_cores_do_not_overlap(tmp_path):
    context = Here(tmp_path, cores=CORES[:2])
    one_core = {"resources": {"threads": False}, "seconds": 0.4}
    stages = [stage("a", **one_core), stage("b", **one_core)]
    stages += [stage("whole", after=stages, seconds=0.1), stage("other", after=stages, seconds=0.1)]
    executor = ProcessExecutor(n_jobs=1)
    assert {o.status for o in drive(executor, context, stages)} == {"finished"}
    seen = named(context)
    # two that use one core each run beside each other, on a core each; those that use both, one after another
    assert together(seen["a"], seen["b"])
    assert sorted(seen["a"]["cores"] + seen["b"]["cores"]) == list(CORES[:2])
    assert seen["a"]["threads"] == seen["b"]["threads"] == 1
    assert seen["whole"]["cores"] == seen["other"]["cores"] == list(CORES[:2])
    assert seen["whole"]["threads"] == 2
    assert not together(seen["whole"], seen["other"])
    assert {note["wait_policy"] for note in seen.values()} == {"PASSIVE"}


def test_more_jobs_than_cores_share_them(tmp_path):
    context = Here(tmp_path, cores=CORES[:1])
    drive(ProcessExecutor(n_jobs=2), context, [stage("a", seconds=0.4), stage("b", seconds=0.4)])
    seen = named(context)
    assert together(seen["a"], seen["b"])
    assert all(note["cores"] == [CORES[0]] and note["threads"] == 1 for note in seen.values())


def test_without_pins_stages_may_use_all_cores(tmp_path):
    context = Here(tmp_path, cores=CORES)
    drive(ProcessExecutor(n_jobs=2, pin=False), context, [stage("a")])
    assert named(context)["a"]["cores"] == list(CORES)


def test_what_does_not_fit_into_the_memory_together_waits(tmp_path):
    context = Here(tmp_path, memory=5.0)
    big = {"resources": {"memory_gib": 3.0}, "seconds": 0.3}
    small = {"resources": {"memory_gib": 1.0}, "seconds": 0.3}
    huge = {"resources": {"memory_gib": 50.0}}
    stages = [stage("big", **big), stage("big too", **big), stage("small", **small), stage("huge", **huge)]
    drive(ProcessExecutor(n_jobs=2), context, stages)
    seen = named(context)
    assert not together(seen["big"], seen["big too"])
    assert together(seen["small"], seen["big"])
    # what does not fit at all is tried alone
    assert not any(together(seen["huge"], note) for name, note in seen.items() if name != "huge")


def test_what_needs_no_gpu_runs_beside_what_does(tmp_path):
    context = Here(tmp_path, device="cuda", cores=CORES[:2])
    on_gpu = [stage(f"gpu{i}", resources={"gpu": True}, seconds=0.3) for i in range(3)]
    beside = [stage(f"cpu{i}", seconds=0.2) for i in range(2)]
    drive(ProcessExecutor(n_jobs=2), context, on_gpu + beside)
    seen = named(context)
    assert together(seen["gpu0"], seen["gpu1"])
    assert seen["gpu2"]["began"] >= min(seen["gpu0"]["ended"], seen["gpu1"]["ended"])
    assert together(seen["cpu0"], seen["gpu0"])
    # a process that holds memory of the GPU is not kept from it by other work
    assert {seen[f"gpu{i}"]["pid"] for i in range(3)}.isdisjoint(seen[f"cpu{i}"]["pid"] for i in range(2))


def test_what_takes_long_to_warm_up_goes_to_a_warm_worker(tmp_path):
    context = Here(tmp_path)
    slow = {"resources": {"warm_up": 60.0}, "seconds": 0.1}
    stages = []
    for i in range(4):
        stages += [stage(f"umap{i}", "reducers/umap", **slow), stage(f"pca{i}", "reducers/pca", seconds=0.1)]
    drive(ProcessExecutor(n_jobs=2), context, stages)
    by_name = named(context)
    assert len({by_name[f"umap{i}"]["pid"] for i in range(4)}) == 1
    assert len({note["pid"] for note in by_name.values()}) == 2


def test_another_worker_is_warmed_up_where_much_waits(tmp_path):
    context = Here(tmp_path)
    stages = [stage(f"umap{i}", "reducers/umap", resources={"warm_up": 0.2}, seconds=0.15) for i in range(8)]
    drive(ProcessExecutor(n_jobs=2), context, stages)
    assert len({note["pid"] for note in context.seen()}) == 2


def test_a_bundle_is_executed_together_and_its_outcomes_come_one_by_one(tmp_path):
    context, ears = Here(tmp_path), Ears()
    stages = [stage(name, says=f"I am {name}") for name in "abc"]
    executor = ProcessExecutor(n_jobs=2)
    executor.start(context)
    try:
        executor.submit(stages)
        outcomes = [executor.wait(ears).key for _ in stages]
    finally:
        executor.stop()
    assert outcomes == [s.key for s in stages]
    assert ears.heard == ["I am a", "I am b", "I am c"]
    assert {note["together"] for note in context.seen()} == {3}
    assert len({note["pid"] for note in context.seen()}) == 1


def test_who_dies_alone_has_failed_and_nobody_else(tmp_path):
    context = Here(tmp_path)
    dies = stage("dies", dies="always", seconds=0.1)
    stages = [dies, stage("long", seconds=0.5), stage("after", seconds=0.05), stage("last", seconds=0.05)]
    outcomes = {o.key: o for o in drive(ProcessExecutor(n_jobs=2), context, stages)}
    assert {s.title: outcomes[s.key].status for s in stages} == {
        "dies": "failed", "long": "finished", "after": "finished", "last": "finished",
    }  # fmt: skip
    assert "SIGKILL (out of memory?)" in outcomes[dies.key].error
    attempts = [note for note in context.seen() if note["name"] == "dies"]
    assert len(attempts) == 2  # beside another one, and with the machine for itself
    others = [note for note in context.seen() if note["name"] != "dies"]
    assert not any(n["began"] < attempts[1]["began"] < n["ended"] for n in others)


def test_who_dies_in_company_is_tried_alone(tmp_path):
    context = Here(tmp_path)
    stages = [stage("big", dies="in company", seconds=0.2), stage("long", seconds=0.6), stage("more")]
    outcomes = drive(ProcessExecutor(n_jobs=2), context, stages)
    assert {o.status for o in outcomes} == {"finished"}
    assert Counter(note["name"] for note in context.seen()) == {"big": 2, "long": 1, "more": 1}


@pytest.mark.parametrize(("short", "status"), [("in company", "finished"), ("always", "failed")])
def test_who_runs_out_of_memory_in_company_is_tried_alone(tmp_path, short, status):
    context = Here(tmp_path)
    big = stage("big", seconds=0.2, **{"short of memory": short})
    stages = [big, stage("long", seconds=0.6), stage("more")]
    outcomes = {o.key: o for o in drive(ProcessExecutor(n_jobs=2), context, stages)}
    assert {s.title: outcomes[s.key].status for s in stages} == {
        "big": status, "long": "finished", "more": "finished"
    }  # fmt: skip
    assert Counter(note["name"] for note in context.seen()) == {"big": 2, "long": 1, "more": 1}


def test_of_a_bundle_whose_worker_dies_each_is_tried_alone(tmp_path):
    context = Here(tmp_path)
    stages = [stage("a"), stage("b", dies="always"), stage("c")]
    executor = ProcessExecutor(n_jobs=1)
    executor.start(context)
    try:
        executor.submit(stages)
        outcomes = {(o := executor.wait(Ears())).key: o.status for _ in stages}
    finally:
        executor.stop()
    assert [outcomes[s.key] for s in stages] == ["finished", "failed", "finished"]
    assert [n["name"] for n in context.seen()] == ["a", "b", "b", "c"]


def test_an_error_outside_of_a_stage_is_told(tmp_path):
    context = Here(tmp_path)
    (outcome,) = drive(ProcessExecutor(n_jobs=1), context, [stage("a", raises="no such plugin here")])
    assert outcome.status == "failed"
    assert "RuntimeError: no such plugin here" in outcome.error


def test_stopping_leaves_no_process_behind(tmp_path):
    context = Here(tmp_path)
    executor = ProcessExecutor(n_jobs=2)
    executor.start(context)
    executor.submit([stage("short")])
    executor.submit([stage("endless", seconds=600)])
    executor.wait(Ears())
    while len(context.seen()) < 2:
        time.sleep(0.02)
    pids = {note["pid"] for note in context.seen()}
    assert len(pids) == 2
    assert all(map(alive, pids))
    started = time.monotonic()
    executor.stop()
    assert time.monotonic() - started < 10
    assert not any(map(alive, pids))


def test_an_executor_of_no_jobs_is_refused():
    with pytest.raises(ValueError, match="n_jobs=0"):
        ProcessExecutor(n_jobs=0)


def test_the_contract_is_met():
    assert isinstance(ProcessExecutor(n_jobs=3), Executor)
    assert isinstance(SerialExecutor(), Executor)


def test_a_context_travels_without_what_belongs_to_its_process(places, plain_registry, tmp_path):
    context = Context(tmp_path, places, cores=(0,), registry=plain_registry, store=Store(tmp_path))
    there = pickle.loads(pickle.dumps(context))
    assert there == context
    assert (there.registry, there.store) == (None, None)
