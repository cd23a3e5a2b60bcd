"""The task of a stage, and its execution."""

from __future__ import annotations

import contextlib
import importlib
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from kdbench.api.data import DataPlaces, ImageData
from kdbench.api.records import Outcome
from kdbench.plan import Stage
from kdbench.plan.fields import Fields, Reference, key_json
from kdbench.store import Artifact, Store

if TYPE_CHECKING:
    from kdbench.registry import Registry

T = TypeVar("T", bound=Fields)

#: Called with (done, total, unit) now and then.
Progress = Callable[[float, float, str], None]


def _silent(done: float, total: float, unit: str) -> None:
    pass


def _unheard(sentence: str) -> None:
    pass


@dataclass
class Task:
    """A stage with everything it may use.

    Attributes
    ----------
    cores
        Of the run that the stage is part of; those that this process may use for None.
    data
        Datasets that this process has loaded, by name and parameters; shared by its tasks.
    warnings
        Sentences for the person; kept in the artifact and shown by the runner.
    shared
        What stages that take turns in a process make for one another: a live teacher, by name.
    """

    stage: Stage
    store: Store
    registry: Registry
    places: DataPlaces
    device: str = "cpu"
    threads: int = 1
    cores: int | None = None
    progress: Progress = _silent
    on_warning: Callable[[str], None] = _unheard
    data: dict[str, ImageData] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    shared: dict[str, Any] = field(default_factory=dict)

    def fields(self, kind: type[T]) -> T:
        """The fields of the stage, which are of this kind."""
        assert isinstance(self.stage.fields, kind)
        return self.stage.fields

    def reference(self, role: str) -> Reference:
        """How to create the component of a role ("dataset", "network", "metric"), which the stage has."""
        reference = getattr(self.stage.runtime, role)
        assert isinstance(reference, Reference)
        return reference

    def input(self, role: str) -> Artifact:
        """The artifact of an input. Raises KeyError if the stage has none of this role."""
        return self.store.open(self.stage.inputs.get(role) or self.stage.cached_inputs[role])

    def has(self, role: str) -> bool:
        """Whether there is an input of this role; a cached one may be missing from the store."""
        cached = self.stage.cached_inputs
        return role in self.stage.inputs or (role in cached and self.store.has(cached[role]))

    def dataset(self) -> ImageData:
        """The stage's dataset, loaded once a process."""
        reference = self.reference("dataset")
        name = dataset_key(reference.name, reference.params)
        if name not in self.data:
            component = self.registry.create("datasets", reference.name, reference.params)
            self.data[name] = component.load(self.places)
        return self.data[name]

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)
        self.on_warning(sentence)


def dataset_key(name: str, params: Mapping[str, Any]) -> str:
    """Return the key of a dataset in `Task.data`."""
    return f"{name} {sorted(params.items())}"


@contextlib.contextmanager
def _locked(task: Task) -> Iterator[None]:
    """Hold the stage's lock; say so when another process has it."""
    from filelock import Timeout

    lock = task.store.lock(task.stage.key)
    try:
        lock.acquire(timeout=2)
    except Timeout:
        task.on_warning(f"{task.stage.title}: another run is at work on it; waiting for that one")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def execute(task: Task) -> Outcome:
    """Carry out a stage: under its lock, into the store, whole or not at all.

    An exception of the stage is kept in the store as its failure and told in the outcome; an interruption
    passes through and leaves nothing behind but checkpoints.
    """
    return next(execute_in_turns([task]))


def execute_in_turns(tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Carry out several stages side by side in this process, a step of each in turn; outcomes as they end.

    They share what they make for one another (`Task.shared`): students in lockstep look at one teacher pass. Each
    is under its own lock and fails on its own; it comes out as it would have alone.
    """
    shared: dict[str, Any] = {}
    # in the order of their keys, so that two processes with the same stages do not wait for each other
    turns = deque(sorted(tasks, key=lambda t: t.stage.key) if len(tasks) > 1 else tasks)
    under_way: deque[Generator[None, None, Outcome]] = deque()
    for task in turns:
        task.shared = shared
        under_way.append(_execution(task))
    try:
        while under_way:
            one = under_way.popleft()
            try:
                next(one)
            except StopIteration as end:
                yield end.value
            else:
                under_way.append(one)
    finally:
        for one in under_way:  # an interruption: locks are given back, drafts removed
            one.close()


def _execution(task: Task) -> Generator[None, None, Outcome]:
    """`execute`, pausing where the stage does. Its seconds are those of its own turns."""
    from kdbench.stages.provenance import git_commit, hardware, versions

    stage, store = task.stage, task.store
    with _locked(task):
        if store.has(stage.key):  # another run finished it meanwhile
            return Outcome(stage.key, "cached")
        module = importlib.import_module(f"kdbench.stages.{stage.kind}")
        seconds, started = 0.0, time.perf_counter()
        description: dict[str, Any] = {
            "kind": stage.kind,
            "component": stage.component,
            "identity": key_json(stage.fields),
            "inputs": dict(stage.inputs),
            "title": stage.title,
            "work": stage.work,
            "unit": stage.unit,
            "hardware": hardware(task.device, task.threads, task.cores),
            "versions": {**versions(), **task.registry.versions()},
            "git_commit": git_commit(),
            "created": time.time(),
        }
        try:
            with store.write(stage.key, description) as draft:
                for _ in module.run(task, draft) or ():
                    seconds += time.perf_counter() - started
                    yield
                    started = time.perf_counter()
                if task.warnings:
                    draft.values["warnings"] = list(task.warnings)
                seconds = round(seconds + time.perf_counter() - started, 3)
                draft.description["seconds"] = seconds
        except Exception as error:
            text = "".join(traceback.format_exception(error))
            seconds += time.perf_counter() - started
            store.fail(
                stage.key, {"title": stage.title, "error": text, "seconds": seconds, "created": time.time()}
            )
            return Outcome(stage.key, "failed", seconds, text, tuple(task.warnings))
        return Outcome(stage.key, "finished", seconds, "", tuple(task.warnings))
