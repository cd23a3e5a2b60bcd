"""An observer that writes the events of a run as lines of JSON.

The file is `$KDBENCH_EVENTS`; without it nothing is written. `tail -f`, a dashboard or a scheduler can follow a
run there without MLflow and without reading the workspace.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from kdbench.api import CellRecord, RunSummary, StageSummary, hookimpl

#: Environment variable with the path of the file.
EVENTS = "KDBENCH_EVENTS"


@hookimpl
def kdbench_run_started(run: RunSummary) -> None:
    _write("run_started", run, scale=run.scale, suite=run.suite, stages=run.stages, cells=run.cells)


@hookimpl
def kdbench_stage_finished(run: RunSummary, stage: StageSummary) -> None:
    error = stage.error.strip().splitlines()[-1] if stage.error else ""
    _write(
        "stage_finished", run, key=stage.key, kind=stage.kind, title=stage.title, status=stage.status,
        seconds=stage.seconds, error=error,
    )  # fmt: skip


@hookimpl
def kdbench_cell_finished(run: RunSummary, cell: CellRecord) -> None:
    primary = {
        "/".join(p for p in (r.tap, r.reducer, r.metric) if p): r.value for r in cell.results if r.primary
    }
    _write(
        "cell_finished", run, key=cell.key, budget=cell.budget, fold=cell.fold, scheme=cell.scheme,
        status=cell.status, results=primary,
    )  # fmt: skip


@hookimpl
def kdbench_run_finished(run: RunSummary) -> None:
    _write("run_finished", run, status=run.status)


def _write(event: str, run: RunSummary, **fields: Any) -> None:
    """Append one complete line. The file is opened for each line, so that it can be rotated at any time."""
    path = os.environ.get(EVENTS)
    if not path:
        return
    line = json.dumps({"event": event, "time": round(time.time(), 3), "run": run.id, **fields})
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
