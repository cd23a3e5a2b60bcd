"""Students side by side against one after another, through real executors and in turns: a job a core against one
job with all cores. Starting the workers is left out, as a run starts them once.
"""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from statistics import median

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
    from kdbench.locations import data_places
    from kdbench.suite import load_suite

    path = tmp_path_factory.mktemp("suite") / "packing.toml"
    path.write_text(SUITE)
    registry, places = Registry.discover(), data_places()
    suite = load_suite(path, registry=registry).suite
    reference = suite.data.dataset
    data = registry.create("datasets", reference.name, reference.params).load(places)
    return registry, places, lambda seed: make_plan(suite, registry, data, seed=seed)


def _students(plan) -> list:
    return [stage for stage in plan.stages.values() if stage.kind == "student"]


def test_four_students(benchmark, planned, tmp_path: Path):
    """Times a job a core. `extra_info` has how many times as long one job with all cores took, in turns with it."""
    registry, places, plan = planned
    context = Context(tmp_path, places, registry=registry, store=Store(tmp_path))
    cores, seeds = len(available_cores()), count()
    alone, packed = (registry.create("executors", "processes", n_jobs=n) for n in (1, cores))
    seconds = []

    def four(executor) -> None:
        stages = _students(plan(next(seeds)))
        for stage in stages:
            executor.submit([stage])
        for _ in stages:
            assert executor.wait(Ears()).status == "finished"

    def before() -> None:
        started = time.perf_counter()
        four(alone)
        seconds.append(time.perf_counter() - started)

    for executor in (alone, packed):
        executor.start(context)
    try:
        four(packed)  # workers start, datasets are loaded
        four(alone)
        benchmark.pedantic(four, args=(packed,), setup=before, rounds=3)
    finally:
        for executor in (alone, packed):
            executor.stop()
    ratio = median(seconds) / benchmark.stats.stats.median
    benchmark.extra_info |= {"jobs": cores, "one job with all cores takes": round(ratio, 2)}
