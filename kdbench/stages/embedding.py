"""A layer's activations reduced to a few dimensions."""

from __future__ import annotations

import inspect
import time
from typing import Any

import numpy as np

from kdbench.stages.task import Task
from kdbench.store import Draft
from kdbench.view import load_neighbours


def run(task: Task, draft: Draft) -> None:
    """Arrays: points float32 (n, d). The reducer gets the stage's seed and threads where it has parameters for
    them, and exact neighbours where it wants them.

    Raises:
        ValueError: the reducer returned something that is not a finite (n, d) array.
    """
    identity = task.identity
    X = np.asarray(task.input("features").array(identity["tap"]), dtype=np.float32)
    reference = task.stage.options["reducer"]
    given = dict(reference["params"])
    for name, value in (("random_state", identity["seed"]), ("n_jobs", task.threads)):
        if name in task.registry.parameters("reducers", reference["name"]) and name not in given:
            given[name] = value
    reducer = task.registry.create("reducers", reference["name"], given)
    keywords: dict[str, Any] = {}
    ask = getattr(reducer, "neighbours_wanted", None)
    if ask and task.has("neighbours") and (wanted := ask(len(X))):
        keywords["neighbours"] = load_neighbours(task.input("neighbours")).first(wanted[0])
    if "progress" in inspect.signature(reducer.fit_transform).parameters:
        keywords["progress"] = task.progress
    started = time.perf_counter()
    points = np.asarray(reducer.fit_transform(X, **keywords), dtype=np.float32)
    seconds = time.perf_counter() - started
    if points.ndim != 2 or len(points) != len(X):
        raise ValueError(f"{task.stage.component} returned shape {points.shape} for {X.shape}; expected ({len(X)}, d)")
    if not np.isfinite(points).all():
        raise ValueError(f"{task.stage.component} returned values that are not finite")
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
