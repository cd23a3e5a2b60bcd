"""Observers of every run: the tracking store, and the hooks of plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kdbench.api.records import CellRecord, RunSummary, StageSummary
from kdbench.errors import WorkspaceError
from kdbench.locations import Warn, python_warning
from kdbench.runner import Observer

if TYPE_CHECKING:
    from kdbench.plan import Stage
    from kdbench.registry import Registry
    from kdbench.tracking import Tracker

T = TypeVar("T")


class Tracking(Observer):
    """Log a run to the tracking store.

    Losing the store does not stop the run: results are in the workspace, and the error is kept as `failure`, to be
    raised at the end.

    Parameters
    ----------
    tracker
        Connection to the store.
    idle
        Whether nothing is left to execute. An idle run is logged only if a cell is missing in the store.
    logged
        Records by key that earlier runs logged, known without asking the store.
    warn
        Called when the store is lost.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        idle: bool = False,
        logged: Mapping[str, CellRecord] | None = None,
        warn: Warn = python_warning,
    ) -> None:
        self.tracker = tracker
        #: Why the store was lost; None if it was not.
        self.failure: WorkspaceError | None = None
        self._idle, self._warn = idle, warn
        self._run: RunSummary | None = None
        self._known = logged or {}
        self._logged: list[CellRecord] = []  # cells of an idle run that the store has already

    def _try(self, call: Callable[..., T], *arguments: Any) -> T | None:
        """Call a method of the tracker unless the store is lost; None if it is."""
        if self.failure is not None:
            return None
        try:
            return call(*arguments)
        except WorkspaceError as error:
            self.failure = WorkspaceError(
                f"the tracking store was lost during the run: {error.what}",
                where=error.where,
                hint="all results are in the workspace; `kdbench track sync` logs them once the store is back",
            )
            self._warn(f"{self.failure.what}; continuing without it")
            return None

    def _begin(self) -> None:
        """Start the run that was withheld, with its cells so far."""
        self._idle = False
        self._try(self.tracker.run_started, self._run)
        for cell in self._logged:
            self._try(self.tracker.cell_finished, self._run, cell)

    def run_started(self, run: RunSummary) -> None:
        """Start a run in the store, unless it is idle."""
        self._run = run
        if not self._idle:
            self._try(self.tracker.run_started, run)

    def stage_started(self, stage: Stage) -> None:
        """Start an idle run: an artifact was removed after the plan was made."""
        if self._idle:
            self._begin()

    def stage_finished(self, run: RunSummary, stage: StageSummary) -> None:
        """Log a stage."""
        self._try(self.tracker.stage_finished, run, stage)

    def cell_finished(self, run: RunSummary, cell: CellRecord) -> None:
        """Log a cell; an idle run begins with the first cell that is missing in the store."""
        if self._idle and cell.status == "finished" and self._is_logged(cell):
            self._logged.append(cell)
            return
        if self._idle:
            self._begin()
        self._try(self.tracker.cell_finished, run, cell)

    def _is_logged(self, cell: CellRecord) -> bool:
        return self._known.get(cell.key) == cell or bool(self._try(self.tracker.holds, cell))

    def run_finished(self, run: RunSummary) -> None:
        """End the run in the store, if it was started."""
        if self._idle and run.status != "finished":
            self._begin()
        if not self._idle:
            self._try(self.tracker.run_finished, run)

    def log_report(self, run: RunSummary, pages: Sequence[Path]) -> None:
        """Log the report's pages, unless the store is lost."""
        if self.failure is None:
            self.tracker.log_files(run, pages)


class Hooks(Observer):
    """Pass events on to the observers of plugins; one that raises is reported and does not stop the run.

    Parameters
    ----------
    registry
        Registry of the plugins.
    warn
        Called with what an observer raised.
    """

    def __init__(self, registry: Registry, warn: Warn = python_warning) -> None:
        self._registry, self._warn = registry, warn

    def _notify(self, hook: str, **arguments: Any) -> None:
        for failure in self._registry.notify(hook, **arguments):
            self._warn(str(failure))

    def run_started(self, run: RunSummary) -> None:
        """Call `kdbench_run_started`."""
        self._notify("kdbench_run_started", run=run)

    def stage_finished(self, run: RunSummary, stage: StageSummary) -> None:
        """Call `kdbench_stage_finished`."""
        self._notify("kdbench_stage_finished", run=run, stage=stage)

    def cell_finished(self, run: RunSummary, cell: CellRecord) -> None:
        """Call `kdbench_cell_finished`."""
        self._notify("kdbench_cell_finished", run=run, cell=cell)

    def run_finished(self, run: RunSummary) -> None:
        """Call `kdbench_run_finished`."""
        self._notify("kdbench_run_finished", run=run)
