"""What the tests of the core share: a suite that runs in seconds, and one finished run of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("kdbench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kdbench")

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is first imported, whichever test that is

TINY = """
name = "tiny"
title = "A suite for tests"
default_scale = "here"
schemes = ["undistilled", { name = "kl", temperature = 4.0, label = "distilled" }]
taps = ["E"]
reducers = ["pca", { name = "ivis-torch", k = 5, batch_size = 16, epochs = 1, label = "ivis-torch" }]
metrics = [
  "accuracy", "superclass-correlation", "ivis-loss", { name = "class-area", grid = 32, label = "class-area" },
]

[data]
dataset = { name = "shapes", n_train = 200, n_test = 100, n_superclasses = 2, label = "shapes" }
budgets = [20]
folds = 1
train = 60
test = 50
embedded = 30

[teacher]
architecture = { name = "wide-resnet", depth = 10, label = "WRN-10-1" }
epochs = 1
learning_rate = 0.05
precision = "float32"

[student]
architecture = { name = "wide-resnet", depth = 10, label = "WRN-10-1" }
epochs = 1
learning_rate = 0.05
precision = "float32"

[scales.here]
"""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Every test starts with one thread: how sums are split among threads shows in their last digits, and what
    an earlier test of the same process left must not."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_text() -> str:
    """The suite file as text: 10 classes of generated shapes, one fold, seconds."""
    return TINY


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory) -> Path:
    """A user cache of the tests' own, where generated images are kept from test to test."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def places(cache_home):
    from kdbench.api import DataPlaces

    return DataPlaces(folders=(), cache=cache_home / "kdbench" / "decoded", download=False)


@pytest.fixture(scope="session")
def plain_registry():
    """The registry of the installed plugins."""
    from kdbench.registry import Registry

    return Registry.discover()


@pytest.fixture(scope="session")
def load_tiny(tmp_path_factory, plain_registry) -> Callable[..., Any]:
    """`load_tiny(*overrides, registry=None)`: the tiny suite with `--set` overrides."""
    from kdbench.suite import load_suite

    path = tmp_path_factory.mktemp("suite") / "tiny.toml"
    path.write_text(TINY)

    def load(*overrides: str, registry: Any = None) -> Any:
        return load_suite(path, overrides=overrides, registry=registry or plain_registry).suite

    return load


@pytest.fixture(scope="session")
def tiny_data(places, plain_registry, load_tiny):
    """The images of the tiny suite."""
    reference = load_tiny().data.dataset
    return plain_registry.create("datasets", reference.name, reference.params).load(places)


@pytest.fixture(scope="session")
def tiny_plan(plain_registry, load_tiny, tiny_data) -> Callable[..., Any]:
    """`tiny_plan(*overrides, seed=0, ...)`: a plan of the tiny suite."""
    from kdbench.plan import make_plan

    def make(*overrides: str, registry: Any = None, data: Any = None, **more: Any) -> Any:
        found = registry or plain_registry
        return make_plan(load_tiny(*overrides, registry=found), found, data or tiny_data, **more)

    return make


@pytest.fixture(scope="session")
def carry_out(plain_registry, places) -> Callable[..., Any]:
    """`carry_out(plan, store, *observers)`: a serial run in this process, without tracking."""
    from kdbench.executors import Context
    from kdbench.runner import new_summary, run_plan
    from kdbench_executors.serial import SerialExecutor

    def run(plan: Any, store: Any, *observers: Any, registry: Any = None) -> Any:
        found = registry or plain_registry
        executor = SerialExecutor()
        executor.start(Context(store.root, places, cores=(0,), registry=found, store=store))
        return run_plan(plan, store, executor, observers, new_summary(plan, store, device="cpu", threads=1))

    return run


@pytest.fixture(scope="session")
def finished(tiny_plan, carry_out, tmp_path_factory) -> Any:
    """(plan, store, report) of a finished run of the tiny suite. Not to be written to."""
    from kdbench.store import Store

    store = Store(tmp_path_factory.mktemp("finished"))
    plan = tiny_plan()
    report = carry_out(plan, store)
    assert report.summary.status == "finished", report.failed
    return plan, store, report


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory) -> Path:
    """An empty database with MLflow's tables: they take seconds to make, and a moment to copy."""
    from kdbench.tracking import Tracker

    workspace = tmp_path_factory.mktemp("migrated-database")
    Tracker(None, workspace).check()
    return workspace / "mlflow.db"


@pytest.fixture(scope="session")
def new_workspace(tmp_path_factory, migrated_database) -> Callable[[], Path]:
    """`new_workspace()`: an empty workspace whose database is ready."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("workspace")
        shutil.copy(migrated_database, folder / "mlflow.db")
        return folder

    return make


@pytest.fixture(scope="session")
def clean_environment(cache_home) -> dict[str, str]:
    """The environment without what would lead a run elsewhere."""
    strange = ("KDBENCH_HOME", "KDBENCH_DATA", "KDBENCH_PLUGINS", "KDBENCH_STRICT", "MLFLOW_TRACKING_URI")
    kept = {k: v for k, v in os.environ.items() if k not in strange}
    return kept | {"XDG_CACHE_HOME": str(cache_home), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.fixture(scope="session")
def start_kdbench(clean_environment) -> Callable[..., subprocess.Popen]:
    """`start_kdbench(*args)`: the command line in a process of its own, in a process group of its own.

    With one thread a stage, as every run here: how sums are split among threads shows in their last digits.
    """
    code = (
        "import kdbench.api as api; api.available_cores = lambda: api.cores.available_cores()[:1]\n"
        "from kdbench.cli.main import main; main()"
    )

    def start(*args: str | Path) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment,
            start_new_session=True,
            # a shell starts what it puts in the background with interruptions ignored, and children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return start


@pytest.fixture
def kdbench_here(clean_environment, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """`kdbench_here(*args)`: the command line in this process; (exit code, stdout, stderr)."""
    from kdbench.cli.main import invoke

    for name in [k for k in os.environ if k not in clean_environment]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", clean_environment["XDG_CACHE_HOME"])
    monkeypatch.setattr("kdbench.api.available_cores", lambda: (0,))

    def call(*args: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = invoke([str(a) for a in args])
        out, err = capsys.readouterr()
        return code, out, err

    return call
