"""A workbench for executors: a plan of a dozen small stages, one of which fails, and runs of it."""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.api.cores import available_cores
from kdbench.api.data import DataPlaces
from kdbench.api.protocols import Listener, PlannedStage
from kdbench.api.records import Outcome
from kdbench.executors import Context
from kdbench.plan import Plan, make_plan
from kdbench.registry import Registry
from kdbench.runner import RunReport, new_summary, run_plan
from kdbench.store import Store
from kdbench.suite import load_suite
from kdbench.testing.manners import threads

if TYPE_CHECKING:
    from kdbench.registry import Component

SUITE = """
name = "bench"
title = "What executors are tried on"
default_scale = "here"
schemes = ["undistilled", "kl"]
taps = ["E"]
reducers = ["pca", "kdbench-bench-fails"]
metrics = ["accuracy", "silhouette"]

[data]
dataset = "digits"
budgets = [20]
folds = 1
train = 60
test = 50
embedded = 30

[teacher]
architecture = { name = "wide-resnet", depth = 10 }
epochs = 1
learning_rate = 0.05
precision = "float32"

[student]
architecture = { name = "wide-resnet", depth = 10 }
epochs = 1
learning_rate = 0.05
precision = "float32"

[scales.here]
"""

#: A one-file plugin, which an executor has to take along to wherever stages are executed.
FAILS = '''
"""A reducer that fails, for the checks of executors."""

from kdbench.api import ReducerSpec, hookimpl


class Fails:
    def fit_transform(self, X):
        raise RuntimeError("this reducer fails on purpose")


@hookimpl
def kdbench_reducers():
    return [ReducerSpec(name="kdbench-bench-fails", target="kdbench_bench_fails:Fails", summary="It fails.")]
'''


@dataclass(frozen=True)
class ExecutorBench:
    """One executor with one set of parameters, and a plan: digits, a teacher, two students, two reducers, scores.

    It gets one core, so that sums are rounded as in the serial executor, whose results are the reference.

    Args:
        name: of an executor of the registry. params: where the defaults do not do.
    """

    name: str
    registry: Registry
    params: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def component(self) -> Component:
        return self.registry.resolve("executors", self.name)

    def make(self) -> Any:
        """A new instance; `n_jobs` is 1 and `device` the CPU where it takes them."""
        given = {"n_jobs": 1, "device": "cpu"}
        known = {**self.component.parameters, **self.component.engine}
        params = {k: v for k, v in given.items() if k in known} | dict(self.params)
        return self.registry.create("executors", self.name, params)

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="kdbench-check-")

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The one-file plugin."""
        file = Path(self._folder.name) / "kdbench_bench_fails.py"
        file.write_text(FAILS, encoding="utf-8")
        return (file,)

    @cached_property
    def stage_registry(self) -> Registry:
        """What stages are made from: the installed plugins, and the one that fails."""
        return Registry.discover(files=self.files)

    @cached_property
    def places(self) -> DataPlaces:
        return DataPlaces((), Path(self._folder.name) / "cache", download=False)

    @cached_property
    def plan(self) -> Plan:
        file = Path(self._folder.name) / "bench.toml"
        file.write_text(SUITE, encoding="utf-8")
        suite = load_suite(file, registry=self.stage_registry)
        data = self.stage_registry.create("datasets", "digits").load(self.places)
        return make_plan(suite, self.stage_registry, data)

    @cached_property
    def serial(self) -> Carried:
        """The plan as the serial executor carries it out."""
        return self._carry_out(self.registry.create("executors", "serial"), "serial")

    @cached_property
    def carried(self) -> Carried:
        """The plan as this executor carries it out."""
        return self._carry_out(self.make(), "bench")

    def context(self, workspace: str) -> Context:
        """What an executor is started with."""
        store = Store(Path(self._folder.name) / workspace)
        return Context(
            store.root,
            self.places,
            plugin_files=self.files,
            cores=available_cores()[:1],
            registry=self.stage_registry,
            store=store,
        )

    def _carry_out(self, executor: Any, workspace: str) -> Carried:
        context = self.context(workspace)
        assert context.store is not None
        told = Told(executor)
        with threads(1), what_stays() as left:
            executor.start(context)
            told.slots = executor.slots
            summary = new_summary(self.plan, context.store, device="cpu", threads=1)
            report = run_plan(self.plan, context.store, told, (), summary)
        return Carried(report, context.store, told, left)


class Told:
    """An executor that notes what it is told and what it says."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self.slots: int = 1
        self.submitted: list[str] = []
        self.outcomes: list[Outcome] = []
        self.under_way: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def start(self, context: Any) -> None:
        self._executor.start(context)

    def submit(self, stages: Sequence[PlannedStage]) -> None:
        self.submitted += [stage.key for stage in stages]
        self._executor.submit(stages)

    def wait(self, listener: Listener) -> Outcome:
        self.under_way.append(len(self.submitted) - len(self.outcomes))
        outcome: Outcome = self._executor.wait(listener)
        self.outcomes.append(outcome)
        return outcome

    def stop(self) -> None:
        self._executor.stop()


@dataclass(frozen=True)
class Carried:
    """A plan that was carried out. `left`: threads and processes that are still there after `stop`."""

    report: RunReport
    store: Store
    told: Told
    left: list[str]

    def files(self) -> dict[str, dict[str, str]]:
        """Key of a stage to the SHA-256 of its files by name."""
        return {
            key: {name: f["sha256"] for name, f in self.store.open(key).record["files"].items()}
            for key in dict.fromkeys(self.told.submitted)
            if self.store.has(key)
        }


@contextmanager
def what_stays() -> Iterator[list[str]]:
    """Yields a list that has, afterwards, the threads and processes that began within and are still there."""
    import time

    def there() -> dict[Any, str]:
        found: dict[Any, str] = {p.pid: f"process {p.name}" for p in multiprocessing.active_children()}
        return found | {t.ident: f"thread {t.name}" for t in threading.enumerate() if not t.daemon}

    before = there()
    left: list[str] = []
    yield left
    deadline = time.monotonic() + 2.0  # what has been told to end may take a moment
    while (now := [name for i, name in there().items() if i not in before]) and time.monotonic() < deadline:
        time.sleep(0.05)
    left += now
