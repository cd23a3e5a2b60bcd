"""Effective rank and intrinsic dimension of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdbench.api import MetricResult, exact_neighbours
from kdbench_metrics._layers import at_most, layer

if TYPE_CHECKING:
    from kdbench.api import View


class EffectiveRank:
    """Effective rank of a layer's activations (Roy & Vetterli 2007): exp of the entropy of its singular values.

    With p_k = s_k / sum(s) of the n x d matrix of activations, exp(-sum p_k log p_k): 1 if all
    activations lie on a line, min(n, d) if all singular values are equal. It uses singular values, not the
    eigenvalues of the covariance, which give a smaller number.

    Values, >= 1: ``effective_rank``, of centred activations (at most min(n - 1, d)); ``uncentred``: without
    centring, which is RankMe (Garrido et al. 2023) and is low if the mean is large. Absent if all images have
    the same activations, or ``uncentred`` if all are 0.

    Parameters
    ----------
    max_points
        Largest number of images, >= 2; of more, a fixed random subset is used, the same for every network.
        The effective rank increases with the number of images: compare equal n.

    Attributes
    ----------
    invariances
        Transformations of the inputs that do not change the values.
    """

    invariances = ("order of images", "features times a constant", "rotation of features")

    def __init__(self, *, max_points: int = 2000) -> None:
        if max_points < 2:
            raise ValueError(f"max_points={max_points!r}: at least 2")
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
            Activations do not match the labels, or are not finite.
        """
        X, _ = layer(view)
        rows = at_most(len(X), self.max_points)
        uncentred, centred = singular_values(X[rows])
        measured = {"effective_rank": effective_rank(centred), "uncentred": effective_rank(uncentred)}
        values = {k: v for k, v in measured.items() if v is not None}
        return MetricResult(values, setting=f"n={len(rows)}")


def singular_values(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singular values of `X` (n, d) and of centred `X`: float64, ascending, without those due to rounding.

    Computed from the smaller of X'X and XX', which squares them: values below 1e-7 of the largest are lost.
    """
    data = np.asarray(X, dtype=np.float64)
    mean = data.mean(axis=0)
    if data.shape[1] < data.shape[0]:
        product, about = data.T @ data, data - mean
        return _roots(product), _roots(about.T @ about)
    product = data @ data.T
    rows = product.mean(axis=0)
    return _roots(product), _roots(product - rows - rows[:, None] + rows.mean(), of=product)


def _roots(product: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    values = np.linalg.eigvalsh(product)
    # the rounding errors of centring are relative to the uncentred product
    floor = np.finfo(np.float64).eps * len(values) * float(np.trace(product if of is None else of))
    return np.sqrt(values[values > floor])


def effective_rank(singular: np.ndarray) -> float | None:
    """Exponential of the entropy (nats) of singular values divided by their sum; None if the sum is 0."""
    if not singular.sum() > 0:
        return None
    p = singular[singular > 0] / singular.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


class IntrinsicDimension:
    """Intrinsic dimension of a layer's activations by two nearest neighbours (TwoNN; Facco et al. 2017).

    With mu the ratio of the distances of an image to its second and its first neighbour, -log(1 - F(mu)) = d
    log(mu) for points that are uniform at the scale of their neighbours; F is the empirical distribution of
    mu. Duplicate activations are dropped.

    Values, >= 0:

    - ``linear``: slope of that line through the origin, without the largest ratios, as in the paper;
    - ``mle``: unbiased maximum likelihood estimate, with the largest ratios censored;
    - ``linear_half``: mean of ``linear`` over two random halves of the images: if it differs much from
      ``linear``, the dimension depends on the scale (the paper's decimation test).

    Absent with fewer than 20 distinct activations, or if all ratios are 1.

    Parameters
    ----------
    discard
        Fraction of the largest ratios to exclude, in [0, 1); 0.1 in the paper.

    Attributes
    ----------
    invariances
        Transformations of the inputs that do not change the values.
    """

    invariances = ("features plus a constant", "features times a constant", "rotation of features")

    def __init__(self, *, discard: float = 0.1) -> None:
        if not 0 <= discard < 1:
            raise ValueError(f"discard={discard!r}: 0 <= discard < 1")
        self.discard = discard

    def neighbours_wanted(self, n_samples: int) -> tuple[int, str]:
        return 2, "euclidean"

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
            Activations do not match the labels, or are not finite.
        """
        X, _ = layer(view)
        distances = np.asarray(view.neighbours(2).distances)
        if (distances[:, 0] == 0).any():
            X = np.unique(X, axis=0)
            distances = np.asarray(exact_neighbours(X, 2).distances) if len(X) > 2 else distances[:0]
        values = self.estimates(distances)
        if values and len(X) >= 40:
            order = np.random.default_rng(0).permutation(len(X))
            halves = [
                self.estimates(exact_neighbours(X[rows], 2).distances) for rows in np.array_split(order, 2)
            ]
            if all(halves):
                values["linear_half"] = float(np.mean([h["linear"] for h in halves]))
        return MetricResult(values, setting=f"n={len(X)}")

    def estimates(self, distances: np.ndarray) -> dict[str, float]:
        """Estimate ``linear`` and ``mle`` from distances > 0 to two nearest neighbours (n, 2); {} if undefined."""
        n = len(distances)
        kept = int(n * (1 - self.discard))
        if n < 20 or kept < 2:
            return {}
        log_mu = np.sort(np.log(distances[:, 1].astype(np.float64) / distances[:, 0]))
        share = np.arange(1, n + 1) / n
        kept = min(kept, n - 1)  # F is 1 at the largest ratio, where log(1 - F) is undefined
        x, y = log_mu[:kept], -np.log1p(-share[:kept])
        if not x[-1] > 0:
            return {}
        return {
            "linear": float(x @ y / (x @ x)),
            "mle": float((kept - 1) / (x.sum() + (n - kept) * x[-1])),
        }
