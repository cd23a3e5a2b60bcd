"""What the harness itself costs: planning, the store, a finished run, collation, a leaderboard, the command line.

Whole commands are timed in processes of their own, imports included, as people meet them.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from harness_workspace import (
    SUITE,
    THOUSAND_STAGES,
    finish,
    kdbench,
    log_cells,
    many_cells,
    prepared,
)

CELLS = 2_000


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """A user cache of the benchmarks' own, so that they neither find nor leave anything."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The workspace of a finished suite of 1,009 stages: run once, so that it is tracked and reported too."""
    workspace = tmp_path_factory.mktemp("finished")
    session = prepared(workspace)
    assert len(session.plan.stages) >= 1_000
    finish(session.plan, session.store)
    kdbench("run", SUITE, "--workspace", workspace, "--set", *THOUSAND_STAGES)
    return workspace


@pytest.fixture
def timed(benchmark):
    """`timed(*args)`: times the command line in processes of its own. Their processor time is kept beside the wall
    time, for on a busy machine it alone says what the command costs."""

    def run(*args: str | Path) -> str:
        used: list[float] = []

        def once() -> str:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            said = kdbench(*args)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            return said

        said = benchmark.pedantic(once, rounds=5, warmup_rounds=1)
        benchmark.extra_info["processor_seconds"] = round(statistics.median(used[1:]), 3)
        return said

    return run


@pytest.fixture(scope="module")
def cells() -> list:
    return list(many_cells(CELLS))


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, cells) -> str:
    """The URI of a tracking store of 2,000 cell runs."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('tracked') / 'mlflow.db'}"
    log_cells(uri, cells)
    return uri


# -- whole commands


@pytest.mark.benchmark(group="kdbench run, 1,009 stages done")
def test_a_finished_run(timed, finished) -> None:
    said = timed("run", SUITE, "--workspace", finished, "--set", *THOUSAND_STAGES)
    assert "0 run" in said


@pytest.mark.benchmark(group=f"kdbench leaderboard build, {CELLS:,} runs")
def test_leaderboard_build(timed, tracked, tmp_path) -> None:
    timed(
        "leaderboard", "build", SUITE, "--tracking-uri", tracked, "--out", tmp_path, "--workspace", tmp_path
    )
    assert (tmp_path / SUITE / "quick" / "leaderboard.csv").read_text().count("\n") > CELLS


@pytest.mark.benchmark(group="start of the command line")
@pytest.mark.parametrize("command", ["--help", "list", "plan --help"])
def test_start(timed, command: str) -> None:
    assert timed(*command.split())


# -- parts, in this process


@pytest.mark.benchmark(group="plan")
@pytest.mark.parametrize("remembered", [True, False], ids=["kept-answers", "asking"])
def test_planning_the_paper(benchmark, remembered: bool) -> None:
    """`paper` scale, 1,300 stages, over labels and images of CIFAR-100's shape; libraries are imported already."""
    from kdbench.plan import make_plan
    from kdbench.registry import Registry
    from kdbench.suite import load_suite

    registry = Registry.discover()
    suite = load_suite(SUITE, scale="paper", registry=registry).suite
    data = _of_cifars_shape()

    def fresh() -> tuple:
        return (suite, registry if remembered else Registry.discover(), data), {}

    plan = benchmark.pedantic(make_plan, setup=fresh, rounds=5, warmup_rounds=1)
    assert len(plan.stages) > 1_000


def _of_cifars_shape():
    from kdbench.api.data import ImageData, Split

    def split(n: int) -> Split:
        return Split(np.zeros((n, 32, 32, 3), np.uint8), np.arange(n) % 100)

    return ImageData(
        train=split(50_000),
        test=split(10_000),
        class_names=tuple(f"class {i}" for i in range(100)),
        superclass_of=np.arange(100) // 5,
        superclass_names=tuple(f"superclass {i}" for i in range(20)),
        digest="0" * 64,
    )


@pytest.mark.benchmark(group="store, 1,000 artifacts of one small array")
@pytest.mark.parametrize("what", ["commit", "open", "has", "verify"])
def test_store(benchmark, what: str, tmp_path) -> None:
    from kdbench.store import Store

    keys = [f"{i:032x}"[::-1] for i in range(1_000)]
    array = np.zeros(100, np.float32)

    def commit(store: Store) -> None:
        for key in keys:
            with store.write(key, {"kind": "score"}) as draft:
                draft.array("points", array)

    def fresh() -> tuple:
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        return (Store(tmp_path / "store"),), {}

    if what == "commit":
        benchmark.pedantic(commit, setup=fresh, rounds=3)
        return
    (store,), _ = fresh()
    commit(store)
    call = {
        "open": lambda: [store.open(k).values for k in keys],
        "has": lambda: [store.has(k) for k in keys],
        "verify": store.verify,
    }[what]
    benchmark.pedantic(call, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group=f"{CELLS:,} cells in this process")
@pytest.mark.parametrize("what", ["collate", "fetch-sqlite", "fetch-through-mlflow"])
def test_cells(benchmark, what: str, cells, tracked) -> None:
    from kdbench.leaderboard import collate
    from kdbench.tracking import tags as codec
    from kdbench.tracking.tracker import client_cell_runs, fetch_cells

    if what == "collate":
        rows = benchmark.pedantic(collate, (cells,), rounds=3, warmup_rounds=1)
        assert len(rows) > CELLS
    elif what == "fetch-sqlite":
        assert len(benchmark.pedantic(fetch_cells, (tracked, SUITE), rounds=3, warmup_rounds=1)) == CELLS
    else:
        arguments = (tracked, SUITE, None, codec.RECORD_TAG)
        assert len(benchmark.pedantic(client_cell_runs, arguments, rounds=3, warmup_rounds=1)) == CELLS
