"""A workbench for reducers: separable clusters, and fits of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kdbench.api.neighbours import exact_neighbours
from kdbench.api.specs import ReducerSpec
from kdbench.testing.outcome import Violation

if TYPE_CHECKING:
    from kdbench.registry import Component, Registry

N, FEATURES, CLUSTERS = 200, 16, 5
NEAR = 10


@dataclass(frozen=True)
class ReducerBench:
    """One reducer with one set of parameters, on 200 rows of 16 features in five clusters.

    Neighbours are of one cluster almost always (99 of 100), and in two random directions every second time: a
    reducer that looks at the data does better. There are more rows than most defaults ask neighbours for.

    Args:
        name: of a reducer of the registry, or an import path. params: where the defaults do not do.
    """

    name: str
    registry: Registry
    params: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def spec(self) -> ReducerSpec:
        return cast(ReducerSpec, self.registry.spec("reducers", self.name))

    @cached_property
    def component(self) -> Component:
        return self.registry.resolve("reducers", self.name)

    @cached_property
    def rows(self) -> np.ndarray:
        """float32 (200, 16); a copy for who writes to it."""
        return clusters()[0]

    @cached_property
    def labels(self) -> np.ndarray:
        return clusters()[1]

    @cached_property
    def reference(self) -> np.ndarray:
        """What an ordinary fit returns."""
        return self.fit()

    def make(self, *, seed: int = 0, n_jobs: int = 1) -> Any:
        """A new instance, with the seed and threads that the engine would give it, on the CPU."""
        given = {"random_state": seed, "n_jobs": n_jobs, "device": "cpu"}
        engine = {k: v for k, v in given.items() if k in self.component.engine and k not in self.params}
        return self.registry.create("reducers", self.name, dict(self.params), **engine)

    def fit(
        self, X: np.ndarray | None = None, *, seed: int = 0, n_jobs: int = 1, **keywords: Any
    ) -> np.ndarray:
        """The points that a new instance makes of `X`, the bench's rows without.

        Raises:
            Violation: it returned something that is no finite array (n, d).
        """
        X = self.rows.copy() if X is None else X
        return as_points(self.make(seed=seed, n_jobs=n_jobs).fit_transform(X, **keywords), len(X))

    def hit(self, points: np.ndarray) -> float:
        """Share of the ten nearest points that are of the same cluster, 0..1."""
        return hit(points, self.labels)

    def same_quality(self, points: np.ndarray, what: str) -> None:
        """Raises Violation where clusters are apart in `points` by far less, or more, than in the reference."""
        ours, theirs = self.hit(self.reference), self.hit(points)
        if abs(ours - theirs) > 0.1:
            raise Violation(
                f"{theirs:.0%} of the nearest points are of the same cluster {what}, {ours:.0%} otherwise"
            )


def clusters(seed: int = 20211109) -> tuple[np.ndarray, np.ndarray]:
    """Rows float32 (200, 16) and their clusters int64 (200,)."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(N, dtype=np.int64) % CLUSTERS)
    centres = 1.5 * rng.standard_normal((CLUSTERS, FEATURES))
    return (centres[labels] + rng.standard_normal((N, FEATURES))).astype(np.float32), labels


def hit(points: np.ndarray, labels: np.ndarray) -> float:
    """Mean share of the ten nearest points with the same label."""
    near = exact_neighbours(np.asarray(points, np.float32), NEAR).indices
    return float(np.mean(labels[near] == labels[:, None]))


def as_points(found: Any, n: int) -> np.ndarray:
    """What a reducer returned, as float32 (n, d).

    Raises:
        Violation: it is something else, or not finite.
    """
    points = np.asarray(found)
    if points.ndim != 2 or len(points) != n or not points.shape[1]:
        raise Violation(f"it returned shape {points.shape} for {n} rows; (n, d) is expected")
    if points.dtype.kind not in "fiu":
        raise Violation(f"it returned {points.dtype}; real numbers are expected")
    points = points.astype(np.float32)
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points)).any(axis=1).sum())
        raise Violation(f"{bad} of {n} points are not finite")
    return points
