"""Centred kernel alignment of a student's layer with the layers of its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdbench.api import MetricResult
from kdbench_metrics._layers import gram, layer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdbench.api import View


class Cka:
    """Linear CKA, unbiased and by minibatches, of the tap with every tap of the suite's teacher.

    Kornblith et al. (ICML 2019) with the unbiased estimator of HSIC (Song et al. 2012) over minibatches, as
    Nguyen et al. (ICLR 2021, equation 3): with K = X X' and L = Y Y', their diagonals set to 0 and both
    U-centred, HSIC(K, L) = sum(K * L) / (n (n - 3)); numerator and denominators of HSIC(K, L) / sqrt(HSIC(K,
    K) HSIC(L, L)) are summed over minibatches first. It does not change when a layer is rotated, moved or
    scaled as a whole, and two layers that have nothing to do with each other give 0 on average, however wide
    they are (the biased estimator does not).

    Values, -1..1: ``cka``: with the teacher's tap of the same name; ``highest``: over the teacher's taps; and
    one for each of them, ``teacher_<tap>``. A layer that does not vary has none. Arrays (n_taps,): ``cka``
    float64, NaN for such a layer; ``taps`` str. Figure ``cka``: a row of the heat map of student and teacher.

    Args:
        batch_size: images a minibatch, >= 4; n images make batches of nearly equal size, none larger.
    """

    invariances = ("features plus a constant", "features times a constant", "rotation of features")

    def __init__(self, *, batch_size: int = 256) -> None:
        if batch_size < 4:
            raise ValueError(f"batch_size={batch_size!r}: at least 4")
        self.batch_size = batch_size

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: activations are not finite, or fewer than 4 images.
        """
        X, labels = layer(view)
        taps = view.teacher.taps
        alignment = self.alignments(X, [layer(view.teacher, tap)[0] for tap in taps])
        known = {t: float(a) for t, a in zip(taps, alignment, strict=True) if np.isfinite(a)}
        values = {f"teacher_{tap}": value for tap, value in known.items()}
        if known:
            values["highest"] = max(known.values())
        if view.tap in known:
            values["cka"] = known[view.tap]
        return MetricResult(
            values,
            {"cka": alignment, "taps": np.array(taps, dtype=np.str_)},
            setting=f"n={len(labels)}, batches of {min(self.batch_size, len(labels))}",
            figures={"cka": draw(alignment, view.tap or "", taps)},
        )

    def alignments(self, X: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
        """CKA of `X` (n, d) with each of `others` (n, d_i): float64, NaN where a layer does not vary.

        Raises:
            ValueError: fewer than 4 rows.
        """
        if len(X) < 4:
            raise ValueError(f"{len(X)} images: unbiased CKA needs at least 4")
        order = np.random.default_rng(0).permutation(len(X))
        cross, own = np.zeros(len(others)), 0.0
        theirs = np.zeros(len(others))
        for rows in np.array_split(order, self._batches(len(X))):
            K, n = u_centred(gram(X[rows])), len(rows)
            own += float(np.sum(np.square(K))) / (n * (n - 3))
            for i, Y in enumerate(others):
                L = u_centred(gram(Y[rows]))
                cross[i] += (K * L).sum() / (n * (n - 3))
                theirs[i] += np.square(L).sum() / (n * (n - 3))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(own * theirs > 0, cross / np.sqrt(own * theirs), np.nan)

    def _batches(self, n: int) -> int:
        """As few as keep to the batch size, and none below 4 images."""
        return max(1, min(-(-n // self.batch_size), n // 4))


def u_centred(K: np.ndarray) -> np.ndarray:
    """`K` (n, n) with its diagonal at 0 and rows and columns that sum to 0 (Szekely & Rizzo 2014), n > 2."""
    n = len(K)
    A = K.copy()
    np.fill_diagonal(A, 0.0)
    rows = A.sum(axis=1) / (n - 2)
    A -= rows[:, None] + rows - rows.sum() / (n - 1)
    np.fill_diagonal(A, 0.0)
    return A


def draw(alignment: np.ndarray, tap: str, taps: Sequence[str]) -> Figure:
    """`alignment` of a tap with the teacher's `taps` as one row of a heat map, 0 to 1, with the numbers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 + 0.7 * len(taps), 1.5), layout="constrained")
    ax = figure.subplots()
    ax.imshow(alignment[None, :], vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for i, value in enumerate(alignment):
        if np.isfinite(value):
            ax.text(i, 0, f"{value:.2f}", ha="center", va="center", color="w" if value < 0.6 else "k")
    ax.set_xticks(range(len(taps)), taps)
    ax.set_yticks([0], [tap])
    ax.set_xlabel("teacher")
    ax.set_ylabel("student")
    return figure
