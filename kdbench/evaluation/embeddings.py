"""Compute an embedding with a reducer, and check the result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.api.data import Embedding, Neighbours

if TYPE_CHECKING:
    from kdbench.plan.fields import Reference
    from kdbench.registry import Registry


def make_reducer(registry: Registry, reducer: Reference, *, seed: int, threads: int, device: str) -> Any:
    """A reducer with this seed, threads and device, where it has parameters for them that are not given."""
    params = dict(reducer.params)
    known = registry.parameters("reducers", reducer.name)
    for name, value in (("random_state", seed), ("n_jobs", threads), ("device", device)):
        if name in known and name not in params:
            params[name] = value
    return registry.create("reducers", reducer.name, params)


def reduce(
    reducer: Any,
    X: np.ndarray,
    *,
    name: str,
    neighbours: Neighbours | None = None,
    progress: Callable[[float, float, str], None] | None = None,
) -> np.ndarray:
    """Reduce features to points.

    Parameters
    ----------
    reducer
        An object with `fit_transform`.
    X
        Features (n, n_features).
    name
        Names the reducer in errors.
    neighbours
        Exact neighbours of the rows, passed on if given.
    progress
        Passed on if the reducer takes it.

    Returns
    -------
    ndarray
        Points (n, d), float32.

    Raises
    ------
    ValueError
        The reducer returned something that is not a finite (n, d) array.
    """
    keywords: dict[str, Any] = {}
    if neighbours is not None:
        keywords["neighbours"] = neighbours
    if progress is not None and "progress" in inspect.signature(reducer.fit_transform).parameters:
        keywords["progress"] = progress
    points = np.asarray(reducer.fit_transform(X, **keywords), dtype=np.float32)
    if points.ndim != 2 or len(points) != len(X):
        raise ValueError(f"{name} returned shape {points.shape} for {X.shape}; expected ({len(X)}, d)")
    if not np.isfinite(points).all():
        raise ValueError(f"{name} returned values that are not finite")
    return points


def describe(
    points: np.ndarray, reducer: Any, name: str, params: Mapping[str, Any], n_features: int
) -> Embedding:
    """The points with what the fitted reducer reports of itself."""
    return Embedding(
        points=points,
        reducer=name,
        params={k: list(v) if isinstance(v, tuple) else v for k, v in params.items()},
        n_features=n_features,
        loss_history=tuple(float(x) for x in getattr(reducer, "loss_history_", ())),
        diagnostics={k: float(v) for k, v in getattr(reducer, "diagnostics_", {}).items()},
    )


def reducing_functions(
    registry: Registry, reducers: Iterable[tuple[str, Reference]], *, seed: int, threads: int, device: str
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By label, functions from features to points, for metrics that run reducers; each call fits a new reducer."""

    def function(reducer: Reference) -> Callable[[np.ndarray], np.ndarray]:
        def run(X: np.ndarray) -> np.ndarray:
            made = make_reducer(registry, reducer, seed=seed, threads=threads, device=device)
            return reduce(made, np.ascontiguousarray(X, dtype=np.float32), name=f"reducers/{reducer.name}")

        return run

    return {label: function(reducer) for label, reducer in reducers}
