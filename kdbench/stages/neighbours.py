"""Exact neighbours at a tap, once for all reducers and metrics that want them."""

from __future__ import annotations

import numpy as np

from kdbench.api.neighbours import exact_neighbours
from kdbench.stages.task import Task
from kdbench.store import Draft


def run(task: Task, draft: Draft) -> None:
    """Arrays: indices int32 and distances float32, both (n, k)."""
    identity = task.identity
    X = np.asarray(task.input("features").array(identity["tap"]), dtype=np.float32)
    found = exact_neighbours(X, identity["k"], identity["metric"], device=task.device)
    draft.array("indices", found.indices)
    draft.array("distances", found.distances)
    draft.values |= {"metric": found.metric, "k": found.k, "n": len(X)}
