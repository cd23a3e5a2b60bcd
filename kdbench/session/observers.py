"""Observers that every run has: the tracking store, and the hooks of plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdbench.api.records import CellRecord, RunSummary, StageSummary
from kdbench.errors import WorkspaceError
from kdbench.locations import Warn, warn_in_python
from kdbench.runner import Observer

if TYPE_CHECKING:
    from kdbench.plan import Stage
    from kdbench.registry import Registry
    from kdbench.tracking import Tracker


class Tracking(Observer):
    """Tells the tracker. A store that is lost on the way does not stop the work: results are in the workspace,
    and `failure` is raised at the end of the run.

    Args:
        idle: nothing is left to execute. Then an invocation that finds every cell logged as it is leaves no run
            of its own, as it has nothing to log; with the first cell that is not there it begins one.
        warn: told of the loss when it happens.
    """

    def __init__(self, tracker: Tracker, *, idle: bool = False, warn: Warn = warn_in_python) -> None:
        self.tracker = tracker
        self.failure: WorkspaceError | None = None
        self._idle, self._warn = idle, warn
        self._run: RunSummary | None = None
        self._found: list[CellRecord] = []

    def _tell(self, event: str, *arguments: Any) -> Any:
        if self.failure is not None:
            return None
        try:
            return getattr(self.tracker, event)(*arguments)
        except WorkspaceError as error:
            self.failure = WorkspaceError(
                f"the tracking store was lost during the run: {error.what}",
                where=error.where,
                hint="every result is in the workspace; `kdbench track sync` replays them once the store is back",
            )
            self._warn(f"{self.failure.what}; going on without it")
            return None

    def _begin(self) -> None:
        """Start the run that was held back, with the cells that were found so far."""
        self._idle = False
        self._tell("run_started", self._run)
        for cell in self._found:
            self._tell("cell_finished", self._run, cell)

    def run_started(self, run: RunSummary) -> None:
        self._run = run
        if not self._idle:
            self._tell("run_started", run)

    def stage_started(self, stage: Stage) -> None:
        if self._idle:  # an artifact was removed since
            self._begin()

    def stage_finished(self, run: RunSummary, stage: StageSummary) -> None:
        self._tell("stage_finished", run, stage)

    def cell_finished(self, run: RunSummary, cell: CellRecord) -> None:
        if self._idle and cell.status == "finished" and self._tell("holds", cell):
            self._found.append(cell)
            return
        if self._idle:
            self._begin()
        self._tell("cell_finished", run, cell)

    def run_finished(self, run: RunSummary) -> None:
        if self._idle and run.status != "finished":
            self._begin()
        if not self._idle:
            self._tell("run_finished", run)


class Hooks(Observer):
    """Passes events on to the observers of plugins; one that raises is reported, not fatal."""

    def __init__(self, registry: Registry, warn: Warn = warn_in_python) -> None:
        self._registry, self._warn = registry, warn

    def _tell(self, hook: str, **arguments: Any) -> None:
        for failure in self._registry.notify(hook, **arguments):
            self._warn(str(failure))

    def run_started(self, run: RunSummary) -> None:
        self._tell("kdbench_run_started", run=run)

    def stage_finished(self, run: RunSummary, stage: StageSummary) -> None:
        self._tell("kdbench_stage_finished", run=run, stage=stage)

    def cell_finished(self, run: RunSummary, cell: CellRecord) -> None:
        self._tell("kdbench_cell_finished", run=run, cell=cell)

    def run_finished(self, run: RunSummary) -> None:
        self._tell("kdbench_run_finished", run=run)
