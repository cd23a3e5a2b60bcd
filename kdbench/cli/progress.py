"""Progress of a run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from kdbench.api.records import CellRecord, RunSummary, StageSummary
from kdbench.plan import Stage
from kdbench.rendering.numbers import duration
from kdbench.runner import Observer

if TYPE_CHECKING:
    from rich.progress import TaskID


class _Clock:
    """Time left, from the work that is done: a stage weighs what it was estimated to take."""

    def __init__(self, weights: dict[str, float]) -> None:
        self.weights = weights
        self.total = sum(weights.values()) or 1.0
        self.done = 0.0
        self.started = time.monotonic()

    def finish(self, key: str) -> None:
        self.done += self.weights.pop(key, 0.0)

    def left(self, partial: float = 0.0) -> float | None:
        """Seconds, or None while too little is done to tell."""
        done = self.done + partial
        elapsed = time.monotonic() - self.started
        if done <= 0 or elapsed < 5:
            return None
        return elapsed * (self.total - done) / done


class BarProgress(Observer):
    """Two kinds of bars: the whole run, and each stage under way with its own rate."""

    def __init__(self, weights: dict[str, float], n_stages: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.clock, self.n_stages = _Clock(weights), n_stages
        self.console = Console(stderr=True, markup=False, highlight=False)
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}", markup=False, style="dim"),
            console=self.console,
            transient=True,
        )
        self.overall: TaskID | None = None
        self.tasks: dict[str, tuple[TaskID, float, float]] = {}
        self.finished = 0

    def run_started(self, run: RunSummary) -> None:
        if self.n_stages:
            self.overall = self.bars.add_task("all stages", total=self.clock.total, note=f"0/{self.n_stages}")
            self.bars.start()

    def stage_started(self, stage: Stage) -> None:
        task = self.bars.add_task(_fitted(stage.title), total=None, note="")
        self.tasks[stage.key] = (task, time.monotonic(), self.clock.weights.get(stage.key, 0.0))

    def stage_progress(self, key: str, done: float, total: float, unit: str) -> None:
        task, started, weight = self.tasks[key]
        elapsed = max(time.monotonic() - started, 1e-6)
        rate = done / elapsed
        note = f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"
        self.bars.update(task, completed=done, total=total, note=note)
        self._overall(weight * done / total if total else 0.0)

    def _overall(self, partial: float = 0.0) -> None:
        if self.overall is not None:
            left = self.clock.left(partial)
            note = f"{self.finished}/{self.n_stages}" + (
                f" · {duration(left)} left" if left is not None else ""
            )
            self.bars.update(self.overall, completed=self.clock.done + partial, note=note)

    def stage_finished(self, run: RunSummary, stage: StageSummary) -> None:
        if stage.key in self.tasks:
            self.bars.remove_task(self.tasks.pop(stage.key)[0])
        self.clock.finish(stage.key)
        self.finished += 1
        if stage.status == "failed":
            self.bars.print(f"failed: {stage.title}: {_last_line(stage.error)}", style="red")
        self._overall()

    def warning(self, sentence: str) -> None:
        self.bars.print(f"warning: {sentence}", style="yellow")

    def cell_finished(self, run: RunSummary, cell: CellRecord) -> None:
        if self.overall is not None and (told := accuracy_line(cell)):
            self.bars.print(told)

    def run_finished(self, run: RunSummary) -> None:
        self.bars.stop()


class LineProgress(Observer):
    """Lines for logs: a stage that took its time or failed, how far a long one is now and then, and each network
    that is done. Where there are many stages, those of less than a second are counted, not listed."""

    MANY, BRIEF = 60, 1.0

    def __init__(self, weights: dict[str, float], n_stages: int, every: float = 15.0) -> None:
        self.clock, self.n_stages, self.every = _Clock(weights), n_stages, every
        self.finished = 0
        self.titles: dict[str, tuple[str, float]] = {}
        self.last = time.monotonic()

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        sys.stderr.flush()

    def stage_started(self, stage: Stage) -> None:
        self.titles[stage.key] = (stage.title, time.monotonic())

    def stage_progress(self, key: str, done: float, total: float, unit: str) -> None:
        if time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            title, started = self.titles[key]
            rate = done / max(self.last - started, 1e-6)
            self._say(f"  {title}: {100 * done / total:.0f}% ({rate:,.0f} {unit}/s)")

    def stage_finished(self, run: RunSummary, stage: StageSummary) -> None:
        self.finished += 1
        self.clock.finish(stage.key)
        self.last = time.monotonic()
        if self.n_stages > self.MANY and stage.seconds < self.BRIEF and stage.status != "failed":
            return
        left = self.clock.left()
        tail = f", {duration(left)} left" if left is not None else ""
        self._say(
            f"[{self.finished}/{self.n_stages}{tail}] {stage.title}: {stage.status} in {stage.seconds:.1f} s"
        )
        if stage.status == "failed":
            self._say(f"  {_last_line(stage.error)}")

    def warning(self, sentence: str) -> None:
        self._say(f"warning: {sentence}")

    def cell_finished(self, run: RunSummary, cell: CellRecord) -> None:
        if self.n_stages and (told := accuracy_line(cell)):
            self._say(told)


def accuracy_line(cell: CellRecord) -> str:
    """What a cell came to, in a line; "" where accuracy was not measured."""
    accuracy = [r.value for r in cell.results if r.primary and r.metric.split("[")[0] == "accuracy"]
    return (
        f"{cell.budget} labels · fold {cell.fold + 1} · {cell.scheme}: accuracy {accuracy[0]:.3f}"
        if accuracy
        else ""
    )


def _fitted(title: str, width: int = 46) -> str:
    return title if len(title) <= width else title[: width - 1] + "…"


def _last_line(error: str) -> str:
    return error.strip().splitlines()[-1] if error.strip() else ""
