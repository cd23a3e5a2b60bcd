"""The context that a process needs to execute stages. It is sent to workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kdbench.api.cores import available_cores
from kdbench.api.data import DataPlaces, ImageData
from kdbench.api.protocols import Listener, PlannedStage
from kdbench.api.records import Outcome
from kdbench.api.specs import Resources
from kdbench.executors.resources import available_memory_gib, resources_of
from kdbench.plan import Stage
from kdbench.stages.task import Task, execute_in_turns
from kdbench.store import Store

if TYPE_CHECKING:
    from kdbench.registry import Registry


@dataclass(frozen=True)
class Context:
    """Plain data from which a process makes its registry and store (`kdbench.api.ExecutorContext`).

    Attributes
    ----------
    plugin_files
        One-file plugins of the invocation.
    cores
        Ids of the cores that stages may use.
    registry
        Of this process, if it has them; they are not sent to other processes.
    store
        Of this process, if it has them; they are not sent to other processes.
    datasets
        Of this process, if it has them; they are not sent to other processes.
    """

    workspace: Path
    places: DataPlaces
    plugin_files: tuple[Path, ...] = ()
    device: str = "cpu"
    cores: tuple[int, ...] = field(default_factory=available_cores)
    registry: Registry | None = field(default=None, compare=False, repr=False)
    store: Store | None = field(default=None, compare=False, repr=False)
    datasets: Mapping[str, ImageData] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "registry": None, "store": None, "datasets": {}}

    def workplace(self) -> ProcessWorkplace:
        return ProcessWorkplace(self)

    def resources(self, stage: PlannedStage) -> Resources:
        if self.registry is None:
            raise RuntimeError(
                "resources are looked up in the driver's process, whose context has a registry"
            )
        return resources_of(cast("Stage", stage), self.registry, self.store or Store(self.workspace))

    def memory_gib(self) -> float:
        return available_memory_gib()


class ProcessWorkplace:
    """A process's registry, store and loaded datasets, kept warm from stage to stage."""

    def __init__(self, context: Context) -> None:
        from kdbench.registry import Registry

        self.context = context
        self.registry = context.registry or Registry.discover(files=context.plugin_files)
        self.store = context.store or Store(context.workspace)
        self.data: dict[str, ImageData] = dict(self.context.datasets)

    def execute(
        self,
        stages: Sequence[PlannedStage],
        listener: Listener | None = None,
        *,
        threads: int | None = None,
    ) -> Iterator[Outcome]:
        """As `kdbench.api.Workplace.execute`."""
        import torch

        from kdbench.training.precision import exact_float32

        threads = threads or len(self.context.cores)
        torch.set_num_threads(threads)
        exact_float32()
        tasks = [
            Task(
                cast("Stage", stage), self.store, self.registry, self.context.places,
                device=self.context.device, threads=threads, cores=len(self.context.cores), data=self.data,
            )
            for stage in stages
        ]  # fmt: skip
        if listener:
            for task in tasks:
                _connect(task, listener)
        try:
            yield from execute_in_turns(tasks)
        finally:
            if self.context.device.startswith("cuda"):
                torch.cuda.empty_cache()  # others may share the GPU


def _connect(task: Task, listener: Listener) -> None:
    task.progress = lambda done, total, unit: listener.progress(task.stage.key, done, total, unit)
    task.on_warning = listener.warning
