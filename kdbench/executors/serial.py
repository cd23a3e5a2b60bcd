"""One stage after another, in this process."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kdbench.executors.context import Context, Listener, Workplace
from kdbench.plan import Stage
from kdbench.stages.task import Outcome

if TYPE_CHECKING:
    from kdbench.registry import Registry
    from kdbench.store import Store


class SerialExecutor:
    """Executes a stage when its outcome is waited for."""

    slots = 1

    def __init__(
        self, context: Context, registry: Registry | None = None, store: Store | None = None
    ) -> None:
        self._workplace = Workplace(context, registry, store)
        self._queue: deque[Stage] = deque()

    def submit(self, stage: Stage) -> None:
        self._queue.append(stage)

    def wait(self, listener: Listener) -> Outcome:
        """Execute the stage that was submitted first."""
        return self._workplace.execute(self._queue.popleft(), listener)

    def stop(self) -> None:
        self._queue.clear()
