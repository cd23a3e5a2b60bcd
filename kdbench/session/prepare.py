"""Prepare a run: suite, data, plan and stores, all checked before anything is executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdbench.errors import DataError, PluginError, UsageError
from kdbench.locations import Warn, python_warning

if TYPE_CHECKING:
    from kdbench.api.data import DataPlaces, ImageData
    from kdbench.api.records import CellRecord
    from kdbench.plan import Plan, Stage
    from kdbench.registry import Registry
    from kdbench.session.observers import Tracking
    from kdbench.store import Store
    from kdbench.suite import Component, ResolvedSuite

#: Name and parameters of an executor.
Executor = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Session:
    """A suite planned over its data, with the stores that a run reads and writes.

    Attributes
    ----------
    registry
        Registry of the plugins.
    resolved
        The suite, with and without overrides; the taps of the student are filled in.
    places
        Where datasets are looked for.
    data
        The dataset of the suite.
    datasets
        All loaded datasets, by the key under which stages look them up.
    plan
        Stages, cells and exclusions.
    store
        Results in the workspace.
    device
        Device that networks run on: "cpu", "cuda", ...
    cached
        Keys of the stages whose results are in the store.
    outstanding
        Stages to execute, in a possible order.
    problem
        What would stop a run, if the session is for planning only.
    executor
        Name and parameters of the executor; None for serial with one job, else processes.
    jobs
        Number of stages at once; None to choose it (`kdbench.session.execute.chosen_jobs`).
    tracking
        Observer that logs to the tracking store; None without tracking.
    warn
        Called with each warning, one sentence.
    """

    registry: Registry
    resolved: ResolvedSuite
    places: DataPlaces
    data: ImageData = field(repr=False)
    datasets: Mapping[str, ImageData] = field(repr=False)
    plan: Plan = field(repr=False)
    store: Store
    device: str
    cached: frozenset[str] = field(repr=False)
    outstanding: tuple[Stage, ...] = field(repr=False)
    problem: DataError | None = None
    executor: Executor | None = None
    jobs: int | None = 1
    tracking: Tracking | None = None
    warn: Warn = python_warning

    def states(self) -> dict[str, str]:
        """Map the key of each stage of the plan to "cached", "to run" or "not needed"."""
        to_run = {stage.key for stage in self.outstanding}
        return {
            key: "cached" if key in self.cached else "to run" if key in to_run else "not needed"
            for key in self.plan.stages
        }


def prepare(
    resolved: ResolvedSuite,
    registry: Registry,
    *,
    workspace: Path,
    places: DataPlaces,
    seed: int = 0,
    device: str | None = None,
    tracking: str | Literal[False] | None = None,
    executor: Executor | None = None,
    jobs: int | None = 1,
    plan_only: bool = False,
    warn: Warn = python_warning,
) -> Session:
    """Load the data of a suite, plan it, and check everything that a run depends on.

    Parameters
    ----------
    resolved
        The suite, from `kdbench.suite.load_suite`.
    registry
        Registry that the suite was loaded with.
    workspace
        Folder of results; created if missing.
    places
        Where datasets are looked for.
    seed
        Seed that every other seed is derived from.
    device
        "cpu", "cuda", ...; None for a GPU if there is one.
    tracking
        MLflow tracking URI; None for `$MLFLOW_TRACKING_URI` or else SQLite in the workspace, False for no
        tracking.
    executor
        Name and parameters of the executor; None for serial with one job, else processes.
    jobs
        Number of stages at once; None to choose it (`kdbench.session.execute.chosen_jobs`).
    plan_only
        Prepare for showing the plan. Weights or source images that can't be found are stored as the session's
        `problem` instead of raised, and there is no tracking.
    warn
        Called with each warning, one sentence.

    Returns
    -------
    Session
        The session, ready for `kdbench.session.execute.execute`.

    Raises
    ------
    UsageError, SuiteError, DataError, WorkspaceError, PluginError
        Something is wrong; nothing was executed.
    """
    from kdbench.plan import make_plan
    from kdbench.session.networks import check_networks, with_taps
    from kdbench.stages.task import dataset_key
    from kdbench.store import Store
    from kdbench.training.precision import resolve_device, resolve_precision

    store = Store(workspace)
    device = resolve_device(device)
    data = load_data(registry, resolved.suite.data.dataset, places)
    suite = with_taps(registry, resolved.suite, data)
    resolved = replace(
        resolved, suite=suite, base=suite if resolved.base is resolved.suite else resolved.base
    )
    datasets = {dataset_key(suite.data.dataset.name, suite.data.dataset.params): data}
    source = None
    if suite.teacher is not None and suite.teacher.source is not None:
        reference = suite.teacher.source.dataset
        source = load_data(registry, reference, places)
        datasets[dataset_key(reference.name, reference.params)] = source
    precision = resolve_precision("auto", device)
    plan = make_plan(suite, registry, data, source=source, seed=seed, auto_precision=precision)
    cached = frozenset(key for key in plan.stages if store.has(key))
    outstanding = tuple(plan.outstanding(cached))
    problem = None
    try:
        check_networks(registry, plan, data, outstanding)
        if any(stage.kind == "student" for stage in outstanding):  # it imports torch
            from kdbench.stages.check import check_schemes

            check_schemes(outstanding, registry, data)
    except DataError as error:
        if not plan_only:
            raise
        problem = error
    session = Session(
        registry, resolved, places, data, datasets, plan, store, device, cached, outstanding,
        problem=problem, executor=executor, jobs=jobs, warn=warn,
    )  # fmt: skip
    if plan_only:
        return session
    store.sweep()
    if executor is not None:
        _check_executor(registry, *executor, parallel=jobs != 1)
    return session if tracking is False else _tracked(session, tracking)


def _tracked(session: Session, uri: str | None) -> Session:
    from kdbench.session.observers import Tracking
    from kdbench.tracking import Tracker

    tracker, idle = Tracker(uri, session.store.root), not session.outstanding
    logged: dict[str, CellRecord] = {}
    database = session.store.root / "mlflow.db"
    if idle and tracker.uri == f"sqlite:///{database.resolve()}" and database.is_file():
        suite = session.resolved.suite  # records in the workspace were logged by the runs that wrote them
        logged = {cell.key: cell for cell in session.store.cells(suite.name, suite.scale, damaged=[])}
    else:
        tracker.check()
    return replace(session, tracking=Tracking(tracker, idle=idle, logged=logged, warn=session.warn))


def _check_executor(registry: Registry, name: str, params: Mapping[str, Any], *, parallel: bool) -> None:
    """Check that an executor exists and can be used, before anything is executed."""
    executor = registry.create("executors", name, params)
    where = f"executors/{name} ({registry.origin('executors', name)})"
    if missing := [
        m for m in ("start", "submit", "wait", "stop") if not callable(getattr(executor, m, None))
    ]:
        raise PluginError(
            f"{type(executor).__name__} has no method {missing[0]}",
            where=where,
            hint="see kdbench.api.Executor",
        )
    if parallel and "n_jobs" not in registry.parameters("executors", name):
        raise UsageError(
            f"the executor {name!r} does not take a number of jobs", where="--jobs", hint="omit --jobs"
        )


def load_data(registry: Registry, reference: Component, places: DataPlaces) -> ImageData:
    """Load a dataset; decoding it for the first time may take a while.

    Parameters
    ----------
    registry
        Registry of the datasets.
    reference
        Name and parameters of the dataset.
    places
        Where datasets are looked for.

    Returns
    -------
    ImageData
        Images and labels.

    Raises
    ------
    DataError
        The dataset can't be found, or has a single class.
    """
    data: ImageData = registry.create("datasets", reference.name, reference.params).load(places)
    if len(data.class_names) < 2:
        raise DataError(
            f"dataset {reference.name!r} has {len(data.class_names)} class; at least 2 are needed"
        )
    return data
