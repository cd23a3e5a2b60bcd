"""How well classes can be read off a layer: by its neighbours, and by a linear map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from kdbench.api import MetricResult
from kdbench_metrics._layers import at_most, gram, layer

if TYPE_CHECKING:
    from kdbench.api import View

#: Ridges to choose from, in units of the mean squared norm of a fold's centred rows.
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


class KnnAccuracy:
    """Share of images whose class most of its nearest neighbours at the tap have, the image itself left out.

    The embedded test images classify each other (leave-one-out cross-validation), with exact neighbours. Of
    classes with equally many votes the one with the nearest neighbour wins.

    Values, 0..1: ``accuracy``; ``nearest``: the same by the one nearest neighbour.

    Args:
        k: neighbours that vote, >= 1.
        metric: "euclidean", or "angular" for the cosine.
    """

    invariances = ("order of images", "features times a constant", "rotation of features")

    def __init__(self, *, k: int = 10, metric: Literal["euclidean", "angular"] = "euclidean") -> None:
        if k < 1:
            raise ValueError(f"k={k!r}: at least 1")
        if metric not in ("euclidean", "angular"):
            raise ValueError(f"metric={metric!r}: 'euclidean' or 'angular'")
        self.k = k
        self.metric = metric

    def neighbours_wanted(self, n_samples: int) -> tuple[int, str]:
        return self.k, self.metric

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`."""
        labels = np.asarray(view.labels, dtype=np.int64)
        near = labels[view.neighbours(self.k, self.metric).indices]
        values = {
            "accuracy": float(np.mean(majority(near) == labels)),
            "nearest": float(np.mean(near[:, 0] == labels)),
        }
        return MetricResult(values, setting=f"n={len(labels)}, k={self.k}, {self.metric}, leave-one-out")


def majority(votes: np.ndarray) -> np.ndarray:
    """The most frequent entry of each row (n, k), of equally frequent ones the first: (n,)."""
    frequency = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
    return votes[np.arange(len(votes)), frequency.argmax(axis=1)]


class LinearProbe:
    """Accuracy of a linear classifier on a layer's activations, cross-validated over the embedded test images.

    The classifier is ridge regression on one target a class (1 for it, -1 for the others) with an intercept,
    and the class with the largest output is chosen: as scikit-learn's `RidgeClassifier`. It is solved in
    closed form in the space of images rather than of features, so a layer of 16,384 costs little more than
    one of 64. Each fold chooses its ridge among six by the leave-one-out accuracy of its own training part
    (the largest of equally good ones); the held-out part takes no part in it. Activations are centred, not
    scaled. (Alain & Bengio 2016 probe with logistic regression, by gradient descent.)

    Values, 0..1: ``accuracy``: over all images, each predicted by the fold that held it out;
    ``train_accuracy``: mean accuracy of the folds on their own training parts.

    Args:
        folds: of the cross-validation, >= 2; each class is spread evenly over them, at random.
        max_points: images to look at; of more, so many are drawn, the same for every network. The cost grows
            with their cube.
    """

    invariances = ("features plus a constant", "features times a constant", "rotation of features")

    def __init__(self, *, folds: int = 5, max_points: int = 2000) -> None:
        if folds < 2:
            raise ValueError(f"folds={folds!r}: at least 2")
        if max_points < folds:
            raise ValueError(f"max_points={max_points!r}: at least as many as folds ({folds})")
        self.folds = folds
        self.max_points = max_points

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: activations do not fit the labels or are not finite; fewer images than folds, or one class.
        """
        X, labels = layer(view)
        rows = at_most(len(X), self.max_points)
        labels = labels[rows]
        if len(rows) < self.folds or len(np.unique(labels)) < 2:
            raise ValueError(
                f"{len(rows)} images of {len(np.unique(labels))} classes: at least {self.folds} and 2"
            )
        K = gram(X[rows])
        held = fold_numbers(labels, self.folds)
        right = np.zeros(len(rows), bool)
        trained = []
        for fold in range(self.folds):
            inside, outside = np.flatnonzero(held != fold), np.flatnonzero(held == fold)
            inner, outer = ridge_predictions(K, inside, outside, labels)
            right[outside] = outer == labels[outside]
            trained.append(np.mean(inner == labels[inside]))
        values = {"accuracy": float(right.mean()), "train_accuracy": float(np.mean(trained))}
        return MetricResult(values, setting=f"n={len(rows)}, ridge, {self.folds} folds")


def fold_numbers(labels: np.ndarray, folds: int) -> np.ndarray:
    """int64 (n,), the fold that holds out each image: each class spread evenly, folds of equal size."""
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # class after class, at random within each
    held = np.empty(len(labels), np.int64)
    held[order] = np.arange(len(labels)) % folds
    return held


def ridge_predictions(
    K: np.ndarray,
    inside: np.ndarray,
    outside: np.ndarray,
    labels: np.ndarray,
    ridges: tuple[float, ...] = RIDGES,
) -> tuple[np.ndarray, np.ndarray]:
    """Classes that a ridge classifier fitted on rows `inside` predicts for these and for rows `outside`.

    Args:
        K: float64 (n, n), inner products about any centre.
        ridges: to choose from, in units of the mean squared norm of the centred rows `inside`.
    """
    classes, target = np.unique(labels[inside], return_inverse=True)
    Y = np.where(target[:, None] == np.arange(len(classes)), 1.0, -1.0)
    mean = Y.mean(axis=0)
    Y -= mean
    n = len(inside)
    own = K[np.ix_(inside, inside)]
    average = own.mean(axis=0)
    centred = own - average - average[:, None] + average.mean()
    scale = np.trace(centred) / n or 1.0
    values, vectors = np.linalg.eigh(centred)
    values = np.maximum(values, 0.0)
    rotated, squares = vectors.T @ Y, np.square(vectors)
    best = (-1.0, 0.0)
    for ridge in ridges:
        shrunk = 1 / (values + ridge * scale)
        residual = ridge * scale * (vectors @ (shrunk[:, None] * rotated))
        # 1 - leverage; the intercept takes 1/n of it. All of it is taken where a row alone decides its fit.
        slack = ridge * scale * (squares @ shrunk) - 1 / n
        left_out = Y - residual / np.maximum(slack, 1e-12)[:, None]
        good = float(np.mean((left_out + mean).argmax(axis=1) == target))
        best = max(best, (good, ridge))
    shrunk = 1 / (values + best[1] * scale)
    weights = vectors @ (shrunk[:, None] * rotated)
    other = K[np.ix_(outside, inside)]
    other = other - other.mean(axis=1, keepdims=True) - average + average.mean()
    return (
        classes[(centred @ weights + mean).argmax(axis=1)],
        classes[(other @ weights + mean).argmax(axis=1)],
    )
