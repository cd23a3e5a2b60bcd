"""An embedding of a tap."""

from __future__ import annotations

import time

import numpy as np

from kdbench.api.neighbours import requested_neighbours
from kdbench.evaluation.embeddings import describe, make_reducer, reduce
from kdbench.plan.fields import EmbeddingFields
from kdbench.stages.artifacts import read_neighbours
from kdbench.stages.task import Task
from kdbench.store import Draft


def run(task: Task, draft: Draft) -> None:
    """Arrays: points float32 (n, d). The reducer gets the stage's seed and threads where it has parameters for
    them, and the exact neighbours that it requests. Raises ValueError if it returns no finite (n, d) array."""
    fields = task.fields(EmbeddingFields)
    X = np.asarray(task.input("features").array(fields.tap), dtype=np.float32)
    reference = task.reference("reducer")
    reducer = make_reducer(
        task.registry, reference, seed=fields.seed, threads=task.threads, device=task.device
    )
    neighbours = None
    if task.has("neighbours") and (requested := requested_neighbours(reducer, len(X))):
        neighbours = read_neighbours(task.input("neighbours")).first(requested[0])
    started = time.perf_counter()
    points = reduce(reducer, X, name=task.stage.component, neighbours=neighbours, progress=task.progress)
    seconds = time.perf_counter() - started
    params = task.registry.check("reducers", reference.name, reference.params)
    embedding = describe(points, reducer, reference.name, params, X.shape[1])
    draft.array("points", embedding.points)
    draft.values |= {
        "reducer": embedding.reducer,
        "params": embedding.params,
        "n_features": embedding.n_features,
        "loss_history": list(embedding.loss_history),
        "diagnostics": embedding.diagnostics,
        "fit_seconds": round(seconds, 3),
    }
