"""A layer's activations reduced to a few dimensions."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from kdbench.evaluation.view import load_neighbours
from kdbench.stages.reducers import embed, make_reducer
from kdbench.stages.task import Task
from kdbench.store import Draft


def run(task: Task, draft: Draft) -> None:
    """Arrays: points float32 (n, d). The reducer gets the stage's seed and threads where it has parameters
    for them, and exact neighbours where it wants them.

    Raises:
        ValueError: the reducer returned something that is not a finite (n, d) array.
    """
    identity = task.identity
    X = np.asarray(task.input("features").array(identity["tap"]), dtype=np.float32)
    reference = task.stage.options["reducer"]
    reducer = make_reducer(task, reference, identity["seed"])
    neighbours = None
    ask = getattr(reducer, "neighbours_wanted", None)
    if ask and task.has("neighbours") and (wanted := ask(len(X))):
        neighbours = load_neighbours(task.input("neighbours")).first(wanted[0])
    started = time.perf_counter()
    points = embed(reducer, X, what=task.stage.component, neighbours=neighbours, progress=task.progress)
    seconds = time.perf_counter() - started
    draft.array("points", points)
    draft.values |= {
        "reducer": reference["name"],
        "params": _plain(task.registry.check("reducers", reference["name"], reference["params"])),
        "n_features": int(X.shape[1]),
        "loss_history": [float(x) for x in getattr(reducer, "loss_history_", ())],
        "diagnostics": {k: float(v) for k, v in getattr(reducer, "diagnostics_", {}).items()},
        "fit_seconds": round(seconds, 3),
    }


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in params.items()}
