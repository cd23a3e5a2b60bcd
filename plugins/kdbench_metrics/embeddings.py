"""How good an embedding is: to its layer, and for its classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from kdbench.api import MetricResult, exact_neighbours
from kdbench_metrics._layers import layer, ranks

if TYPE_CHECKING:
    from kdbench.api import View


class Silhouette:
    """Mean silhouette of the classes in an embedding (Rousseeuw 1987), by scikit-learn.

    Of a point, (b - a) / max(a, b): a its mean distance to the others of its class, b the smallest mean
    distance to another class; 0 for a class of one point. -1..1, 1 for classes far apart.

    Values: ``silhouette``; left out where there is one class, or none has two points. Array ``silhouette``
    float64 (n,), by point.
    """

    invariances = (
        "order of images",
        "embedding plus a constant",
        "embedding times a constant",
        "rotation of the embedding",
    )

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: points do not fit the labels, or are not finite.
        """
        points, labels = embedded(view)
        setting = f"n={len(points)}"
        if not 2 <= len(np.unique(labels)) < len(labels):
            return MetricResult({}, setting=setting)
        from sklearn.metrics import silhouette_samples

        found = np.asarray(silhouette_samples(points, labels), dtype=np.float64)
        return MetricResult({"silhouette": float(found.mean())}, {"silhouette": found}, setting=setting)


class NeighbourhoodHit:
    """Mean share of a point's `k` nearest neighbours in an embedding that are of its class (Paulovich et al. 2008).

    Values, 0..1: ``hit``; ``chance``: what it would be if neighbours were drawn from all other points.

    Args:
        k: neighbours, >= 1, below the number of points.
    """

    invariances = (
        "order of images",
        "embedding plus a constant",
        "embedding times a constant",
        "rotation of the embedding",
    )

    def __init__(self, *, k: int = 10) -> None:
        if k < 1:
            raise ValueError(f"k={k!r}: at least 1")
        self.k = k

    def neighbours_wanted(self, n_samples: int) -> None:
        """None: it looks at the embedding's neighbours. Refuses a k that there are no neighbours for."""
        if self.k >= n_samples:
            raise ValueError(f"k={self.k}: below the {n_samples} embedded images")

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: points do not fit the labels, are not finite, or no more than k.
        """
        points, labels = embedded(view)
        near = exact_neighbours(points, self.k).indices
        same = np.bincount(labels)[labels] - 1
        values = {
            "hit": float(np.mean(labels[near] == labels[:, None])),
            "chance": float(np.mean(same / (len(labels) - 1))),
        }
        return MetricResult(values, setting=f"n={len(points)}, k={self.k}")


class _Ranked:
    """What trustworthiness and continuity have in common (Venna & Kaski 2001).

    Args:
        k: neighbours, >= 1, below half the number of points.
        metric: distance in the layer, "euclidean", or "angular" for the cosine; in the embedding it is Euclidean.
    """

    invariances = (
        "order of images",
        "features times a constant",
        "rotation of features",
        "embedding plus a constant",
        "embedding times a constant",
        "rotation of the embedding",
    )

    def __init__(self, *, k: int = 10, metric: Literal["euclidean", "angular"] = "euclidean") -> None:
        if k < 1:
            raise ValueError(f"k={k!r}: at least 1")
        if metric not in ("euclidean", "angular"):
            raise ValueError(f"metric={metric!r}: 'euclidean' or 'angular'")
        self.k = k
        self.metric: Literal["euclidean", "angular"] = metric

    def check(self, n: int) -> None:
        """Raises ValueError where the measure is not defined for `n` points."""
        if 2 * self.k >= n:
            raise ValueError(f"k={self.k}: below half of the {n} embedded images")

    def setting(self, n: int) -> str:
        return f"n={n}, k={self.k}, {self.metric}"

    def score(self, found: np.ndarray) -> float:
        """1 less the mean excess of `found` (n, k) ranks over k, scaled so that 0 is the worst."""
        n, k = len(found), self.k
        return float(1 - 2 / (n * k * (2 * n - 3 * k - 1)) * np.maximum(found - k, 0).sum())


class Trustworthiness(_Ranked):
    """Whether neighbours in the embedding are neighbours in the layer (Venna & Kaski 2001), as scikit-learn's.

    1 - 2 / (n k (2n - 3k - 1)) times the sum, over the k nearest in the embedding of each point, of how far
    their rank by distance in the layer lies above k. 0..1; 1 where no neighbour is false; about 0.5 by chance.

    Values: ``trustworthiness``.

    Args:
        k: neighbours, >= 1, below half the number of points.
        metric: distance in the layer, "euclidean", or "angular" for the cosine; in the embedding it is Euclidean.
    """

    def __init__(self, *, k: int = 10, metric: Literal["euclidean", "angular"] = "euclidean") -> None:
        super().__init__(k=k, metric=metric)

    def neighbours_wanted(self, n_samples: int) -> None:
        """None: it looks at the embedding's neighbours."""
        self.check(n_samples)

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: points, activations and labels do not fit, are not finite, or too few for k.
        """
        points, _ = embedded(view)
        self.check(len(points))
        X, _ = layer(view)
        near = exact_neighbours(points, self.k).indices
        return MetricResult(
            {"trustworthiness": self.score(ranks(X, near, self.metric))}, setting=self.setting(len(points))
        )


class Continuity(_Ranked):
    """Whether neighbours in the layer are still neighbours in the embedding (Venna & Kaski 2001).

    `trustworthiness` with the two spaces exchanged: what counts is how far neighbours of the layer were torn
    apart. 0..1; 1 where none was.

    Values: ``continuity``.

    Args:
        k: neighbours, >= 1, below half the number of points.
        metric: distance in the layer, "euclidean", or "angular" for the cosine; in the embedding it is Euclidean.
    """

    def __init__(self, *, k: int = 10, metric: Literal["euclidean", "angular"] = "euclidean") -> None:
        super().__init__(k=k, metric=metric)

    def neighbours_wanted(self, n_samples: int) -> tuple[int, str]:
        self.check(n_samples)
        return self.k, self.metric

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: points and labels do not fit, are not finite, or too few for k.
        """
        points, _ = embedded(view)
        self.check(len(points))
        near = view.neighbours(self.k, self.metric).indices
        return MetricResult(
            {"continuity": self.score(ranks(points, near, "euclidean"))}, setting=self.setting(len(points))
        )


def embedded(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Points float32 (n, d) of the embedding and labels int64 (n,).

    Raises:
        ValueError: they do not fit each other, or points are not finite.
    """
    points, labels = np.asarray(view.embedding.points), np.asarray(view.labels, dtype=np.int64)
    if points.ndim != 2 or len(points) != len(labels) or not len(points):
        raise ValueError(f"points of shape {points.shape} do not fit {len(labels)} labels")
    if not np.isfinite(points).all():
        raise ValueError("the embedding has values that are not finite")
    return points, labels
