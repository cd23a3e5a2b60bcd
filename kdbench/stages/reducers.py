"""Reducers as stages use them: built for a seed and threads, and what they return checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kdbench.api.data import Neighbours
from kdbench.stages.task import Task


def make_reducer(task: Task, reference: Mapping[str, Any], seed: int) -> Any:
    """The reducer of `reference` (name and params), with the seed, threads and device of the task where it has
    parameters for them that the suite does not set."""
    given = dict(reference["params"])
    known = task.registry.parameters("reducers", reference["name"])
    for name, value in (("random_state", seed), ("n_jobs", task.threads), ("device", task.device)):
        if name in known and name not in given:
            given[name] = value
    return task.registry.create("reducers", reference["name"], given)


def embed(
    reducer: Any, X: np.ndarray, *, what: str, neighbours: Neighbours | None = None, progress: Any = None
) -> np.ndarray:
    """Points float32 (n, d) of `X` (n, n_features).

    Args:
        what: names the reducer in errors.
        neighbours: handed on where given. progress: handed on where the reducer takes it.

    Raises:
        ValueError: the reducer returned something that is not a finite (n, d) array.
    """
    keywords: dict[str, Any] = {}
    if neighbours is not None:
        keywords["neighbours"] = neighbours
    if progress is not None and "progress" in inspect.signature(reducer.fit_transform).parameters:
        keywords["progress"] = progress
    points = np.asarray(reducer.fit_transform(X, **keywords), dtype=np.float32)
    if points.ndim != 2 or len(points) != len(X):
        raise ValueError(f"{what} returned shape {points.shape} for {X.shape}; expected ({len(X)}, d)")
    if not np.isfinite(points).all():
        raise ValueError(f"{what} returned values that are not finite")
    return points


def suite_reducers(task: Task) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What a metric's view has as `reducers`: by label, functions that embed, each time with a fresh one."""

    def function(reference: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
        def run(X: np.ndarray) -> np.ndarray:
            data = np.ascontiguousarray(X, dtype=np.float32)
            reducer = make_reducer(task, reference, task.identity["seed"])
            return embed(reducer, data, what=f"reducers/{reference['name']}")

        return run

    return {label: function(reference) for label, reference in task.stage.options["reducers"]}
