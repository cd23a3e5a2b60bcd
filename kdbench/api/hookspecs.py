"""The hooks of kdbench. A plugin implements those it needs, marked with `kdbench.api.hookimpl`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from kdbench.api.records import CellRecord, RunSummary, StageSummary
    from kdbench.api.specs import (
        ArchitectureSpec,
        DatasetSpec,
        ExecutorSpec,
        MetricSpec,
        ReducerSpec,
        SchemeSpec,
        SuiteSpec,
    )

hookspec = pluggy.HookspecMarker("kdbench")
hookimpl = pluggy.HookimplMarker("kdbench")


@hookspec
def kdbench_datasets() -> Iterable[DatasetSpec]:
    """Datasets: labelled images with a train and a test split."""


@hookspec
def kdbench_architectures() -> Iterable[ArchitectureSpec]:
    """Networks, and the taps at which their representations are read."""


@hookspec
def kdbench_schemes() -> Iterable[SchemeSpec]:
    """Ways to train a student, with or without a teacher."""


@hookspec
def kdbench_reducers() -> Iterable[ReducerSpec]:
    """Dimensionality reducers."""


@hookspec
def kdbench_metrics() -> Iterable[MetricSpec]:
    """Metrics of networks, layers and embeddings."""


@hookspec
def kdbench_executors() -> Iterable[ExecutorSpec]:
    """Ways to execute the stages of a plan."""


@hookspec
def kdbench_suites() -> Iterable[SuiteSpec]:
    """Suite files."""


@hookspec
def kdbench_run_started(run: RunSummary) -> None:
    """A run begins: its plan is made and nothing has been executed yet."""


@hookspec
def kdbench_stage_finished(run: RunSummary, stage: StageSummary) -> None:
    """A stage has finished, failed, or was cached."""


@hookspec
def kdbench_cell_finished(run: RunSummary, cell: CellRecord) -> None:
    """All stages of a cell have finished, or one of them failed."""


@hookspec
def kdbench_run_finished(run: RunSummary) -> None:
    """A run is over; called after an interruption too."""
