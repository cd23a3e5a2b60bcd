"""Exact neighbours at a tap, once for all reducers and metrics that request them."""

from __future__ import annotations

import numpy as np

from kdbench.api.neighbours import exact_neighbours
from kdbench.plan.fields import NeighboursFields
from kdbench.stages.task import Task
from kdbench.store import Draft


def run(task: Task, draft: Draft) -> None:
    """Arrays: indices int32 and distances float32, both (n, k)."""
    fields = task.fields(NeighboursFields)
    X = np.asarray(task.input("features").array(fields.tap), dtype=np.float32)
    found = exact_neighbours(X, fields.k, fields.metric, device=task.device)  # type: ignore[arg-type]
    draft.array("indices", found.indices)
    draft.array("distances", found.distances)
    draft.values |= {"metric": found.metric, "k": found.k, "n": len(X)}
