"""Carries out a plan: finds what is done, executes the rest, gathers records of cells, tells observers."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kdbench.api.protocols import Executor
from kdbench.api.records import CellRecord, Result, RunSummary, StageSummary, measurement
from kdbench.errors import VerificationError
from kdbench.executors.ready_queue import Backlog
from kdbench.plan import Cell, Plan, Stage
from kdbench.stages.provenance import git_commit, hardware, versions
from kdbench.store import Artifact, Store, canonical


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
    backlog = Backlog(outstanding)
    running: dict[str, Stage] = {}
    failed: dict[str, StageSummary] = {}
    status = "failed"

    try:
        cells.settle(failed)
        while backlog or running:
            while lost := backlog.take_lost(failed):
                root = failed[next(k for k in lost.needs() if k in failed)]
                failed[lost.key] = StageSummary(lost.key, lost.kind, lost.title, "skipped", error=root.error)
                backlog.settled(lost.key)
                report.skipped += 1
                for observer in observers:
                    observer.stage_finished(summary, failed[lost.key])
            while backlog.under_way < executor.slots:
                bundle = backlog.take_bundle(executor, idle=not running)
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
            backlog.settled(stage.key)
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
            record, known = cell_record(
                self._plan, cell, self._store, self._summary, broken, self._done, self._warn
            )
            if not known:
                self._store.save_cell(record)
            self._report.cells.append(record)
            for observer in self._observers:
                observer.cell_finished(self._summary, record)


def cell_record(
    plan: Plan,
    cell: Cell,
    store: Store,
    summary: RunSummary,
    broken: StageSummary | None,
    done: set[str],
    warn: Callable[[str], None],
) -> tuple[CellRecord, bool]:
    """The record of a cell; of a failed one, with whatever was measured before it failed. And whether it stands
    in the store already, as it is: a damaged one does not, which `warn` is told.

    Raises:
        VerificationError: the record or the history of a stage is damaged.
    """
    opened: dict[str, Artifact] = {k: store.open(k) for k in dict.fromkeys(cell.stages()) if k in done}
    network = opened.get(cell.network)
    results: list[Result] = []
    arrays: dict[str, str] = {}
    figures: dict[str, str] = {}

    below = {key: str(artifact.folder.relative_to(store.root)) for key, artifact in opened.items()}

    def path(key: str, name: str, suffix: str = "npy") -> str:
        return f"{below[key]}{os.sep}{name}.{suffix}"

    trained_by = _origin(network) if network is not None else {}
    origins: dict[str, dict[str, str]] = {}

    def came_from(place: str, *keys: str) -> None:
        """Keeps where a measurement came from, by its artifacts, where that is not where the network did."""
        found = [_origin(opened[k]) for k in keys if k in opened]
        joined = {part: "; ".join(dict.fromkeys(f[part] for f in found if f[part])) for part in _ORIGIN}
        if other := {part: text for part, text in joined.items() if text and text != trained_by.get(part)}:
            origins[place] = other

    for score in cell.scores:
        artifact = opened.get(score.key)
        if artifact is None:
            continue
        place = measurement(score.metric, score.tap, score.reducer)
        embedding = cell.embeddings.get(f"{score.tap}/{score.reducer}", "")
        came_from(place, cell.network, embedding, score.key)
        for name, value in artifact.values["values"].items():
            results.append(
                Result(
                    score.metric,
                    name,
                    value,
                    score.tap,
                    score.reducer,
                    artifact.values["setting"],
                    name == score.primary,
                )
            )
        for name in artifact.values["arrays"]:
            arrays[f"{place}.{name}"] = path(score.key, name)
        for name in artifact.values.get("figures", ()):  # artifacts from before there were figures have none
            figures[f"{place}.{name}"] = path(score.key, name, "svg")
    for place, key in cell.embeddings.items():
        if key in opened:
            arrays[f"{place}/embedding"] = path(key, "points")
            tap, reducer = place.split("/", 1)
            came_from(measurement("embedding-time", tap, reducer), key)
            n = len(opened[key].array("points"))
            results.append(
                Result("embedding-time", "seconds", opened[key].values["fit_seconds"], tap, reducer, f"n={n}")
            )
    if network is not None and (confidence := network.values.get("teacher_confidence")):
        setting = f"T={confidence['temperature']:g}"
        results.append(
            Result("teacher-confidence", "top_probability", confidence["top_probability"], setting=setting)
        )
    params = dict(cell.params)
    if network is not None:
        params |= {"steps": network.values.get("steps", 0), "images_seen": network.values.get("images", 0)}
    record = CellRecord(
        key=cell.key,
        suite=plan.suite.name,
        scale=plan.suite.scale,
        dataset=plan.dataset,
        dataset_digest=plan.dataset_digest,
        budget=cell.budget,
        fold=cell.fold,
        scheme=cell.scheme,
        student=cell.student,
        teacher=cell.teacher,
        status="finished" if broken is None else "failed",
        seed=cell.seed,
        results=tuple(results),
        params=params,
        history=network.table("history") if network is not None else {},
        stages={plan.stages[k].title: k for k in opened},
        seconds=round(sum(a.record.get("seconds", 0.0) for a in opened.values()), 3),
        hardware=dict(network.record["hardware"]) if network is not None else dict(summary.hardware),
        versions=dict(network.record["versions"] if network is not None else summary.versions),
        git_commit=network.record.get("git_commit", "") if network is not None else summary.git_commit,
        arrays=arrays,
        figures=figures,
        origins=origins,
        created=max((a.record.get("created", 0.0) for a in opened.values()), default=time.time()),
        error="" if broken is None else f"{broken.title}\n{broken.error}",
    )
    try:
        known = store.cell(plan.suite.name, plan.suite.scale, cell.key)
    except VerificationError as error:
        warn(f"{error.what}; made anew from its stages: {error.where}")
        return record, False
    if known is not None and _says_the_same(known, record):
        return known, True
    return record, False


#: What is told of where an artifact came from.
_ORIGIN = ("hardware", "kdbench")


def _origin(artifact: Artifact) -> dict[str, str]:
    """Label of the machine, and kdbench's version."""
    machine = artifact.record.get("hardware", {})
    version = artifact.record.get("versions", {}).get("kdbench", "")
    return dict(
        zip(_ORIGIN, (str(machine.get("label") or machine.get("device") or ""), version), strict=True)
    )


def _says_the_same(known: CellRecord, record: CellRecord) -> bool:
    """Whether a record that is there already differs by nothing but when and by what it was gathered; a label
    that was changed since is a difference."""
    gathered = {
        "git_commit": record.git_commit,
        "versions": record.versions,
        "hardware": record.hardware,
        "seconds": record.seconds,
    }
    return canonical(replace(known, **gathered).to_json()) == canonical(record.to_json())  # type: ignore[arg-type]
