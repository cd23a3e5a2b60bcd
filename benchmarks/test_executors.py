"""Students side by side against one after another, through real executors: one job with all cores, then a job a
core, in one run. Compare the two rows with each other: on a shared machine absolute times mean little.

Starting the workers is left out, as a run starts them once.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kdbench.api import available_cores
from kdbench.executors import Context
from kdbench.plan import make_plan
from kdbench.registry import Registry
from kdbench.store import Store

SUITE = """
name = "packing"
title = "Students of the paper's size on generated images"
default_scale = "here"
schemes = ["undistilled"]
taps = []
reducers = []
metrics = ["accuracy"]

[data]
dataset = { name = "shapes", n_train = 600, n_test = 100 }
budgets = [200]
folds = 4
train = 300
test = 100
embedded = 100

[student]
architecture = { name = "wide-resnet", depth = 28 }
epochs = 1
learning_rate = 0.05

[scales.here]
"""


class Ears:
    def progress(self, *about: object) -> None: ...

    def warning(self, sentence: str) -> None: ...


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """(registry, places, plans of four students each; seeds differ, so that each has its own keys)"""
    from kdbench.cli.options import data_places
    from kdbench.suite import load_suite

    path = tmp_path_factory.mktemp("suite") / "packing.toml"
    path.write_text(SUITE)
    registry, places = Registry.discover(), data_places()
    suite = load_suite(path, registry=registry)
    reference = suite.data.dataset
    data = registry.create("datasets", reference.name, reference.params).load(places)
    return registry, places, lambda seed: make_plan(suite, registry, data, seed=seed)


def _students(plan) -> list:
    return [stage for stage in plan.stages.values() if stage.kind == "student"]


@pytest.mark.parametrize("jobs", [1, len(available_cores())])
def test_four_students(benchmark, planned, tmp_path: Path, jobs: int):
    registry, places, plan = planned
    context = Context(tmp_path, places, registry=registry, store=Store(tmp_path))
    executor = registry.create("executors", "processes", n_jobs=jobs)
    executor.start(context)
    seed = 0

    def four() -> list:
        nonlocal seed
        seed += 1
        stages = _students(plan(seed))
        for stage in stages:
            executor.submit([stage])
        return [executor.wait(Ears()) for _ in stages]

    try:
        outcomes = benchmark.pedantic(four, rounds=3, warmup_rounds=1)
    finally:
        executor.stop()
    assert [o.status for o in outcomes] == ["finished"] * 4
    benchmark.extra_info |= {"jobs": jobs, "threads": len(available_cores()) // jobs}
