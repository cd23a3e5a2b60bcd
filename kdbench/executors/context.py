"""What a process needs to execute stages; travels to workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kdbench.api.data import DataPlaces, ImageData
from kdbench.plan import Stage
from kdbench.stages.task import Outcome, Task, execute
from kdbench.store import Store

if TYPE_CHECKING:
    from kdbench.registry import Registry


class Listener(Protocol):
    """Hears of a stage while it runs, in the driver's process."""

    def progress(self, key: str, done: float, total: float, unit: str) -> None: ...

    def warning(self, sentence: str) -> None: ...


@dataclass(frozen=True)
class Context:
    """Plain data from which a process makes its registry and store.

    Attributes:
        plugin_files: one-file plugins of the invocation.
        threads: threads that one stage may use.
    """

    workspace: Path
    places: DataPlaces
    plugin_files: tuple[Path, ...] = ()
    device: str = "cpu"
    threads: int = 1


class Workplace:
    """A process's registry, store and loaded datasets, kept warm from stage to stage."""

    def __init__(
        self, context: Context, registry: Registry | None = None, store: Store | None = None
    ) -> None:
        from kdbench.registry import Registry as Found

        self.context = context
        self.registry = registry or Found.discover(files=context.plugin_files)
        self.store = store or Store(context.workspace)
        self.data: dict[str, ImageData] = {}

    def execute(self, stage: Stage, listener: Listener | None = None) -> Outcome:
        import torch

        torch.set_num_threads(self.context.threads)
        task = Task(
            stage, self.store, self.registry, self.context.places,
            device=self.context.device, threads=self.context.threads, data=self.data,
        )  # fmt: skip
        if listener:
            task.progress = lambda done, total, unit: listener.progress(stage.key, done, total, unit)
            task.on_warning = listener.warning
        return execute(task)
