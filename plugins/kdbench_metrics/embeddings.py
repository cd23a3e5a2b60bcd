"""Quality of an embedding: how well it preserves neighbourhoods and separates classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from kdbench.api import MetricResult, exact_neighbours
from kdbench_metrics._layers import layer, ranks

if TYPE_CHECKING:
    from kdbench.api import View


class Silhouette:
    """Mean silhouette of the classes in an embedding (Rousseeuw 1987), by scikit-learn.

    The silhouette of a point is (b - a) / max(a, b), where a is its mean distance to the other points of its
    class and b the smallest mean distance to another class; 0 for a class of one point.

    Values: ``silhouette``, -1..1, 1 for well separated classes; absent with one class, or if no class has two
    points. Array ``silhouette`` float64 (n,), per point.
    """

    invariances = (
        "order of images",
        "embedding plus a constant",
        "embedding times a constant",
        "rotation of the embedding",
    )

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Parameters
        ----------
        view
            The inputs listed in the spec's `needs`.

        Returns
        -------
        MetricResult
            The values, arrays and figures that the class describes.

        Raises
        ------
        ValueError
            Points do not match the labels, or are not finite.
        """
        points, labels = embedded(view)
        setting = f"n={len(points)}"
        if not 2 <= len(np.unique(labels)) < len(labels):
            return MetricResult({}, setting=setting)
        from sklearn.metrics import silhouette_samples

        per_point = np.asarray(silhouette_samples(points, labels), dtype=np.float64)
        return MetricResult(
            {"silhouette": float(per_point.mean())}, {"silhouette": per_point}, setting=setting
        )


class NeighbourhoodHit:
    """Mean fraction of a point's `k` nearest neighbours that have its class (Paulovich et al. 2008).

    Values, 0..1: ``hit``, in the embedding; ``chance``: its expectation for neighbours drawn at random.

    Parameters
    ----------
    k
        Number of neighbours, >= 1, less than the number of points.

    Attributes
    ----------
    invariances
        Transformations of the inputs that do not change the values.
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
        """None: the metric uses the embedding's neighbours. ValueError if k is too large."""
        if self.k >= n_samples:
            raise ValueError(f"k={self.k}: below the {n_samples} embedded images")

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Parameters
        ----------
        view
            The inputs listed in the spec's `needs`.

        Returns
        -------
        MetricResult
            The values, arrays and figures that the class describes.

        Raises
        ------
        ValueError
            Points do not match the labels, are not finite, or are k or fewer.
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
    """Base class of trustworthiness and continuity (Venna & Kaski 2001).

    Parameters
    ----------
    k
        Number of neighbours, >= 1, less than half the number of points.
    metric
        Distance in the layer: "euclidean", or "angular" (cosine). Distances in the embedding are Euclidean.

    Attributes
    ----------
    invariances
        Transformations of the inputs that do not change the values.
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
        """Raise ValueError if the measure is undefined for `n` points."""
        if 2 * self.k >= n:
            raise ValueError(f"k={self.k}: below half of the {n} embedded images")

    def setting(self, n: int) -> str:
        return f"n={n}, k={self.k}, {self.metric}"

    def score(self, rank: np.ndarray) -> float:
        """1 minus the mean excess of ranks (n, k) over k, scaled so that the worst score is 0."""
        n, k = len(rank), self.k
        return float(1 - 2 / (n * k * (2 * n - 3 * k - 1)) * np.maximum(rank - k, 0).sum())


class Trustworthiness(_Ranked):
    """Whether neighbours in the embedding are neighbours in the layer (Venna & Kaski 2001), as in scikit-learn.

    1 - 2 / (n k (2n - 3k - 1)) times the sum of max(r - k, 0) over the k nearest neighbours of each point in the
    embedding, where r is the neighbour's rank by distance in the layer.

    Values: ``trustworthiness``, 0..1; 1 if no neighbour is false, about 0.5 by chance.

    Parameters
    ----------
    k
        Number of neighbours, >= 1, less than half the number of points.
    metric
        Distance in the layer: "euclidean", or "angular" (cosine). Distances in the embedding are Euclidean.
    """

    def __init__(self, *, k: int = 10, metric: Literal["euclidean", "angular"] = "euclidean") -> None:
        super().__init__(k=k, metric=metric)

    def neighbours_wanted(self, n_samples: int) -> None:
        """None: the metric uses the embedding's neighbours. ValueError if k is too large."""
        self.check(n_samples)

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Parameters
        ----------
        view
            The inputs listed in the spec's `needs`.

        Returns
        -------
        MetricResult
            The values, arrays and figures that the class describes.

        Raises
        ------
        ValueError
            Points, activations and labels do not match or are not finite, or k is too large.
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

    `trustworthiness` with the two spaces exchanged: it decreases when neighbours in the layer are separated in
    the embedding.

    Values: ``continuity``, 0..1; 1 if no neighbours are separated, about 0.5 by chance.

    Parameters
    ----------
    k
        Number of neighbours, >= 1, less than half the number of points.
    metric
        Distance in the layer: "euclidean", or "angular" (cosine). Distances in the embedding are Euclidean.
    """

    def __init__(self, *, k: int = 10, metric: Literal["euclidean", "angular"] = "euclidean") -> None:
        super().__init__(k=k, metric=metric)

    def neighbours_wanted(self, n_samples: int) -> tuple[int, str]:
        self.check(n_samples)
        return self.k, self.metric

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Parameters
        ----------
        view
            The inputs listed in the spec's `needs`.

        Returns
        -------
        MetricResult
            The values, arrays and figures that the class describes.

        Raises
        ------
        ValueError
            Points and labels do not match or are not finite, or k is too large.
        """
        points, _ = embedded(view)
        self.check(len(points))
        near = view.neighbours(self.k, self.metric).indices
        return MetricResult(
            {"continuity": self.score(ranks(points, near, "euclidean"))}, setting=self.setting(len(points))
        )


def embedded(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Read the points of the embedding, and the labels.

    Parameters
    ----------
    view
        The inputs listed in the spec's `needs`.

    Returns
    -------
    tuple[ndarray, ndarray]
        Points float32 (n, d) and labels int64 (n,).

    Raises
    ------
    ValueError
        Points and labels do not match, or points are not finite.
    """
    points, labels = np.asarray(view.embedding.points), np.asarray(view.labels, dtype=np.int64)
    if points.ndim != 2 or len(points) != len(labels) or not len(points):
        raise ValueError(f"points of shape {points.shape} do not fit {len(labels)} labels")
    if not np.isfinite(points).all():
        raise ValueError("the embedding has values that are not finite")
    return points, labels
