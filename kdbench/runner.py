"""Run a plan: skip finished stages, execute the others, write cell records and notify observers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kdbench.api.protocols import Executor
from kdbench.api.records import CellRecord, RunSummary, StageSummary
from kdbench.cell_records import cell_record, same_content
from kdbench.errors import VerificationError
from kdbench.executors.ready_queue import ReadyQueue
from kdbench.plan import Plan, Stage
from kdbench.stages.provenance import git_commit, hardware, versions
from kdbench.store import Store


class Observer:
    """Told of all that happens; override what is of interest."""

    def run_started(self, run: RunSummary) -> None:
        pass

    def stage_started(self, stage: Stage) -> None:
        pass

    def stage_progress(self, key: str, done: float, total: float, unit: str) -> None:
        pass

    def stage_finished(self, run: RunSummary, stage: StageSummary) -> None:
        pass

    def warning(self, sentence: str) -> None:
        pass

    def cell_finished(self, run: RunSummary, cell: CellRecord) -> None:
        pass

    def run_finished(self, run: RunSummary) -> None:
        pass


@dataclass
class RunReport:
    """What a run came to."""

    summary: RunSummary
    cells: list[CellRecord] = field(default_factory=list)
    executed: int = 0
    cached: int = 0
    failed: list[StageSummary] = field(default_factory=list)
    skipped: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


def new_summary(
    plan: Plan, store: Store, *, device: str, threads: int, plugins: Mapping[str, str] | None = None
) -> RunSummary:
    """The summary of an invocation that is about to start."""
    return RunSummary(
        id=time.strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:6],
        suite=plan.suite.name,
        scale=plan.suite.scale,
        seed=plan.seed,
        stages=len(plan.stages),
        cells=len(plan.cells),
        workspace=str(store.root),
        suite_config=plan.suite.model_dump(mode="json"),
        versions={**versions(), **(plugins or {})},
        hardware=hardware(device, threads),
        git_commit=git_commit(),
    )


def run_plan(
    plan: Plan,
    store: Store,
    executor: Executor,
    observers: Sequence[Observer],
    summary: RunSummary,
    cached: frozenset[str] | None = None,
) -> RunReport:
    """Carry out `plan`.

    A stage that fails takes down what depends on it and nothing else. Cells are reported as soon as their last
    stage is done. After an interruption observers hear `run_finished` and the store holds whole artifacts only.
    """
    started = time.perf_counter()
    report = RunReport(summary)
    done = {key for key in plan.stages if store.has(key)} if cached is None else set(cached)
    outstanding = plan.outstanding(done)
    report.cached = len(done)
    for observer in observers:
        observer.run_started(summary)
    listener = _Listener(observers, report)
    cells = _Cells(plan, store, done, summary, observers, report)
    queue = ReadyQueue(outstanding)
    running: dict[str, Stage] = {}
    failed: dict[str, StageSummary] = {}
    status = "failed"

    try:
        cells.settle(failed)
        while queue or running:
            while lost := queue.take_lost(failed):
                root = failed[next(k for k in lost.needs() if k in failed)]
                failed[lost.key] = StageSummary(lost.key, lost.kind, lost.title, "skipped", error=root.error)
                queue.settled(lost.key)
                report.skipped += 1
                for observer in observers:
                    observer.stage_finished(summary, failed[lost.key])
            while queue.under_way < executor.slots:
                bundle = queue.take_bundle(executor, idle=not running)
                if not bundle:
                    break
                for stage in bundle:
                    running[stage.key] = stage
                    for observer in observers:
                        observer.stage_started(stage)
                executor.submit(bundle)
            if not running:
                break
            outcome = executor.wait(listener)
            stage = running.pop(outcome.key)
            queue.settled(stage.key)
            told = StageSummary(
                stage.key, stage.kind, stage.title, outcome.status, outcome.seconds, outcome.error
            )
            if outcome.status == "failed":
                store.discard(stage.key)  # a process that died could not clean up
                failed[stage.key] = told
                report.failed.append(told)
            else:
                done.add(stage.key)
                report.executed += outcome.status == "finished"
                report.cached += outcome.status == "cached"
            for observer in observers:
                observer.stage_finished(summary, told)
            cells.settle(failed)
        cells.settle(failed)
        status = "failed" if failed else "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        executor.stop()
        for key in running:  # what was ended could not clean up
            store.discard(key)
        report.seconds = time.perf_counter() - started
        report.summary = replace(summary, status=status)  # type: ignore[arg-type]
        for observer in observers:
            observer.run_finished(report.summary)
    return report


class _Listener:
    """Passes on what stages tell while they run: a warning is heard before the work that it is about."""

    def __init__(self, observers: Sequence[Observer], report: RunReport) -> None:
        self._observers, self._report = observers, report

    def progress(self, key: str, done: float, total: float, unit: str) -> None:
        for observer in self._observers:
            observer.stage_progress(key, done, total, unit)

    def warning(self, sentence: str) -> None:
        self._report.warnings.append(sentence)
        for observer in self._observers:
            observer.warning(sentence)


class _Cells:
    """Cells that have not been reported yet."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        done: set[str],
        summary: RunSummary,
        observers: Sequence[Observer],
        report: RunReport,
    ) -> None:
        self._plan, self._store, self._done = plan, store, done
        self._summary, self._observers, self._report = summary, observers, report
        self._warn = _Listener(observers, report).warning
        self._open = {cell.key: cell for cell in plan.cells}

    def settle(self, failed: Mapping[str, StageSummary]) -> None:
        """Report the cells whose stages are all done, or one of whose has failed and none is still to come."""
        for cell in list(self._open.values()):
            keys = cell.stages()
            if not all(k in self._done or k in failed for k in keys):
                continue
            del self._open[cell.key]
            broken = next((failed[k] for k in keys if k in failed), None)
            record = cell_record(self._plan, cell, self._store, self._summary, broken, self._done)
            record = self._kept(record)
            self._report.cells.append(record)
            for observer in self._observers:
                observer.cell_finished(self._summary, record)

    def _kept(self, record: CellRecord) -> CellRecord:
        """The record as the store has it; written unless the store has it with the same content."""
        try:
            stored = self._store.cell(record.suite, record.scale, record.key)
        except VerificationError as error:
            self._warn(f"{error.what}; rebuilt from its stages: {error.where}")
            stored = None
        if stored is not None and same_content(stored, record):
            return stored
        self._store.save_cell(record)
        return record
