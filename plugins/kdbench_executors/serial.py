"""One stage at a time, in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from kdbench.api import ExecutorContext, Listener, Outcome, PlannedStage


class SerialExecutor:
    """Executes a stage when `wait` is called for its outcome."""

    slots = 1

    def __init__(self) -> None:
        self._queue: deque[Sequence[PlannedStage]] = deque()
        self._outcomes: Iterator[Outcome] = iter(())

    def start(self, context: ExecutorContext) -> None:
        self._workplace = context.workplace()

    def submit(self, stages: Sequence[PlannedStage]) -> None:
        self._queue.append(stages)

    def wait(self, listener: Listener) -> Outcome:
        """Execute the next of the submitted stages and return its outcome."""
        while True:
            for outcome in self._outcomes:
                return outcome
            self._outcomes = self._workplace.execute(self._queue.popleft(), listener)

    def stop(self) -> None:
        self._queue.clear()
        self._outcomes = iter(())
