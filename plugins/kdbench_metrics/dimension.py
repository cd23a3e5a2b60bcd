"""How many directions a layer uses: its effective rank and its intrinsic dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdbench.api import MetricResult, exact_neighbours
from kdbench_metrics._layers import at_most, layer

if TYPE_CHECKING:
    from kdbench.api import View


class EffectiveRank:
    """Effective rank of a layer's activations (Roy & Vetterli 2007): exp of the entropy of its singular values.

    With p_k = s_k / sum(s) of the n x d matrix of activations, exp(-sum p_k log p_k): 1 where all lie on a
    line, min(n, d) where no direction is used more than another. Of singular values, not of the covariance's
    eigenvalues, which give a smaller number.

    Values, >= 1: ``effective_rank``, about the mean (at most min(n - 1, d)); ``uncentred``: of the activations
    as they are, which is RankMe (Garrido et al. 2023) and is low wherever the mean is large. Left out where
    all images have the same activations, or none at all.

    Args:
        max_points: images to look at; of more, so many are drawn, the same for every network. The effective
            rank grows with their number: compare equal n.
    """

    invariances = ("order of images", "features times a constant", "rotation of features")

    def __init__(self, *, max_points: int = 2000) -> None:
        if max_points < 2:
            raise ValueError(f"max_points={max_points!r}: at least 2")
        self.max_points = max_points

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: activations do not fit the labels, or are not finite.
        """
        X, _ = layer(view)
        rows = at_most(len(X), self.max_points)
        uncentred, centred = singular_values(X[rows])
        found = {"effective_rank": effective_rank(centred), "uncentred": effective_rank(uncentred)}
        values = {k: v for k, v in found.items() if v is not None}
        return MetricResult(values, setting=f"n={len(rows)}")


def singular_values(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singular values of `X` (n, d), and of `X` about its mean, as float64, largest last, without those that
    rounding alone made.

    From the smaller one of the two products of X with itself. That squares them, so what is below 1e-7 of the
    largest is lost.
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
    # centring subtracts what may be far larger, and its rounding stays
    floor = np.finfo(np.float64).eps * len(values) * float(np.trace(product if of is None else of))
    return np.sqrt(values[values > floor])


def effective_rank(singular: np.ndarray) -> float | None:
    """exp of the entropy (nats) of non-negative singular values as shares of their sum; None if it is 0."""
    if not singular.sum() > 0:
        return None
    p = singular[singular > 0] / singular.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


class IntrinsicDimension:
    """Intrinsic dimension of a layer's activations by two nearest neighbours (TwoNN; Facco et al. 2017).

    With mu the ratio of the distances of an image to its second and its first neighbour, -log(1 - F(mu)) = d
    log(mu) for points that are uniform at the scale of their neighbours; F is the share of ratios up to mu. Of
    equal activations one is kept.

    Values, >= 0:

    - ``linear``: slope of that line through the origin without the largest ratios, as in the paper;
    - ``mle``: maximum likelihood, unbiased, with the largest ratios as censored;
    - ``linear_half``: mean of ``linear`` over two random halves of the images: where it is far from ``linear``
      there is not one dimension for all scales (the paper's test by decimation).

    Left out where fewer than 20 different activations are left, or ratios are all 1.

    Args:
        discard: share of the largest ratios to leave out, in [0, 1); the paper's 0.1.
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

        Raises:
            ValueError: activations do not fit the labels, or are not finite.
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
        """Both estimates, from distances > 0 to the first and the second neighbour (n, 2); {} without one."""
        n = len(distances)
        kept = int(n * (1 - self.discard))
        if n < 20 or kept < 2:
            return {}
        log_mu = np.sort(np.log(distances[:, 1].astype(np.float64) / distances[:, 0]))
        share = np.arange(1, n + 1) / n
        kept = min(kept, n - 1)  # F is 1 at the largest ratio, where the line has no value
        x, y = log_mu[:kept], -np.log1p(-share[:kept])
        if not x[-1] > 0:
            return {}
        return {
            "linear": float(x @ y / (x @ x)),
            "mle": float((kept - 1) / (x.sum() + (n - kept) * x[-1])),
        }
