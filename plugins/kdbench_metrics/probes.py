"""Probes of a layer: how well its neighbours or a linear map predict the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from kdbench.api import MetricResult
from kdbench_metrics._layers import at_most, gram, layer

if TYPE_CHECKING:
    from kdbench.api import View

#: Candidate regularisation strengths, in units of the mean squared norm of a fold's centred rows.
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


class KnnAccuracy:
    """Leave-one-out accuracy of a k-nearest-neighbour classifier at the tap.

    Each embedded test image is classified by the majority of its exact nearest neighbours among the others.
    Ties go to the class with the nearest neighbour.

    Values, 0..1: ``accuracy``; ``nearest``: the same with one neighbour.

    Parameters
    ----------
    k
        Number of neighbours that vote, >= 1.
    metric
        Distance in the layer: "euclidean", or "angular" (cosine).

    Attributes
    ----------
    invariances
        Transformations of the inputs that do not change the values.
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
        votes = labels[view.neighbours(self.k, self.metric).indices]
        values = {
            "accuracy": float(np.mean(majority(votes) == labels)),
            "nearest": float(np.mean(votes[:, 0] == labels)),
        }
        return MetricResult(values, setting=f"n={len(labels)}, k={self.k}, {self.metric}, leave-one-out")


def majority(votes: np.ndarray) -> np.ndarray:
    """The most frequent entry of each row (n, k), the first one if tied: (n,)."""
    frequency = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
    return votes[np.arange(len(votes)), frequency.argmax(axis=1)]


class LinearProbe:
    """Accuracy of a linear classifier on a layer's activations, cross-validated over the embedded test images.

    The classifier is ridge regression with an intercept on one target per class (1 for the class, -1 for the
    others), and the class with the largest output is predicted, as in scikit-learn's `RidgeClassifier`. It is
    solved in closed form in the dual (sample) space, so a layer of 16,384 costs little more than one of 64. Each
    fold selects one of six regularisation strengths by leave-one-out accuracy on its training part (the largest,
    if tied), without the held-out part. Activations are centred, not scaled. (Alain & Bengio 2016 train logistic
    regression by gradient descent.)

    Values, 0..1: ``accuracy``: over all images, each predicted by the fold that held it out;
    ``train_accuracy``: mean accuracy of the folds on their training parts.

    Parameters
    ----------
    folds
        Number of folds of the cross-validation, >= 2, stratified by class at random.
    max_points
        Largest number of images, >= `folds`; of more, a fixed random subset is used, the same for every
        network. The cost grows with its cube.

    Attributes
    ----------
    invariances
        Transformations of the inputs that do not change the values.
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
            Activations do not match the labels or are not finite, or there are fewer images than folds or fewer
            than two classes.
        """
        X, labels = layer(view)
        rows = at_most(len(X), self.max_points)
        labels = labels[rows]
        if len(rows) < self.folds or len(np.unique(labels)) < 2:
            raise ValueError(
                f"{len(rows)} images of {len(np.unique(labels))} classes: at least {self.folds} and 2"
            )
        K = gram(X[rows])
        fold_of = fold_numbers(labels, self.folds)
        correct = np.zeros(len(rows), bool)
        train_accuracy = []
        for fold in range(self.folds):
            inside, outside = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            inner, outer = ridge_predictions(K, inside, outside, labels)
            correct[outside] = outer == labels[outside]
            train_accuracy.append(np.mean(inner == labels[inside]))
        values = {"accuracy": float(correct.mean()), "train_accuracy": float(np.mean(train_accuracy))}
        return MetricResult(values, setting=f"n={len(rows)}, ridge, {self.folds} folds")


def fold_numbers(labels: np.ndarray, folds: int) -> np.ndarray:
    """Fold that holds out each image, int64 (n,): stratified by class, folds of nearly equal size."""
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # sorted by class, at random within each
    fold_of = np.empty(len(labels), np.int64)
    fold_of[order] = np.arange(len(labels)) % folds
    return fold_of


def ridge_predictions(
    K: np.ndarray,
    inside: np.ndarray,
    outside: np.ndarray,
    labels: np.ndarray,
    ridges: tuple[float, ...] = RIDGES,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a ridge classifier on rows `inside`; predict the classes of rows `inside` and `outside`.

    Parameters
    ----------
    K
        Inner products float64 (n, n), with any centre.
    inside
        Indices of the training rows.
    outside
        Indices of the held-out rows.
    labels
        Class labels int64 (n,).
    ridges
        Candidate regularisation strengths, in units of the mean squared norm of the centred rows `inside`.

    Returns
    -------
    tuple[ndarray, ndarray]
        Predicted classes of rows `inside` and of rows `outside`.
    """
    classes, target = np.unique(labels[inside], return_inverse=True)
    Y = np.where(target[:, None] == np.arange(len(classes)), 1.0, -1.0)
    mean = Y.mean(axis=0)
    Y -= mean
    n = len(inside)
    block = K[np.ix_(inside, inside)]
    average = block.mean(axis=0)
    centred = block - average - average[:, None] + average.mean()
    scale = np.trace(centred) / n or 1.0
    values, vectors = np.linalg.eigh(centred)
    values = np.maximum(values, 0.0)
    rotated, squares = vectors.T @ Y, np.square(vectors)
    best = (-1.0, 0.0)
    for ridge in ridges:
        shrunk = 1 / (values + ridge * scale)
        residual = ridge * scale * (vectors @ (shrunk[:, None] * rotated))
        # 1 - leverage; the intercept uses 1/n of it. It is 0 if a row alone determines its fit.
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
