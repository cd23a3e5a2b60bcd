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
    """Unbiased minibatch linear CKA of the tap with every tap of the suite's teacher.

    Kornblith et al. (ICML 2019) with the unbiased estimator of HSIC (Song et al. 2012) over minibatches, as
    Nguyen et al. (ICLR 2021, equation 3): with K = X X' and L = Y Y', their diagonals set to 0 and both
    U-centred, HSIC(K, L) = sum(K * L) / (n (n - 3)); numerator and denominators of HSIC(K, L) / sqrt(HSIC(K,
    K) HSIC(L, L)) are summed over minibatches first. It is invariant to rotation,
    translation and isotropic scaling of a layer, and is 0 on average for two unrelated layers of any width (the
    biased estimator is not).

    Values, -1..1: ``cka``: with the teacher's tap of the same name; ``highest``: maximum over the teacher's
    taps; ``teacher_<tap>``: with each of them. A constant layer has no value. Arrays (n_taps,): ``cka``
    float64, NaN for such a layer; ``taps`` str. Figure ``cka``: one row of the heat map of student and teacher
    layers.

    Parameters
    ----------
    batch_size
        Largest number of images in a minibatch, >= 4; images are split into batches of nearly equal size.

    Attributes
    ----------
    invariances
        Transformations of the inputs that do not change the values.
    """

    invariances = ("features plus a constant", "features times a constant", "rotation of features")

    def __init__(self, *, batch_size: int = 256) -> None:
        if batch_size < 4:
            raise ValueError(f"batch_size={batch_size!r}: at least 4")
        self.batch_size = batch_size

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
            Activations are not finite, or there are fewer than 4 images.
        """
        X, labels = layer(view)
        taps = view.teacher.taps
        alignment = self.alignments(X, [layer(view.teacher, tap)[0] for tap in taps])
        finite = {t: float(a) for t, a in zip(taps, alignment, strict=True) if np.isfinite(a)}
        values = {f"teacher_{tap}": value for tap, value in finite.items()}
        if finite:
            values["highest"] = max(finite.values())
        if view.tap in finite:
            values["cka"] = finite[view.tap]
        return MetricResult(
            values,
            {"cka": alignment, "taps": np.array(taps, dtype=np.str_)},
            setting=f"n={len(labels)}, batches of {min(self.batch_size, len(labels))}",
            figures={"cka": draw(alignment, view.tap or "", taps)},
        )

    def alignments(self, X: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
        """Compute the CKA of one layer with several others.

        Parameters
        ----------
        X
            Activations (n, d).
        others
            Activations (n, d_i) of the other layers.

        Returns
        -------
        ndarray
            float64 (len(others),), NaN if a layer is constant.

        Raises
        ------
        ValueError
            There are fewer than 4 rows.
        """
        if len(X) < 4:
            raise ValueError(f"{len(X)} images: unbiased CKA needs at least 4")
        order = np.random.default_rng(0).permutation(len(X))
        hsic_xy, hsic_yy = np.zeros(len(others)), np.zeros(len(others))
        hsic_xx = 0.0
        for rows in np.array_split(order, self._batches(len(X))):
            K, n = u_centred(gram(X[rows])), len(rows)
            hsic_xx += float(np.sum(np.square(K))) / (n * (n - 3))
            for i, Y in enumerate(others):
                L = u_centred(gram(Y[rows]))
                hsic_xy[i] += (K * L).sum() / (n * (n - 3))
                hsic_yy[i] += np.square(L).sum() / (n * (n - 3))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(hsic_xx * hsic_yy > 0, hsic_xy / np.sqrt(hsic_xx * hsic_yy), np.nan)

    def _batches(self, n: int) -> int:
        """Number of batches: the fewest within the batch size, with at least 4 images each."""
        return max(1, min(-(-n // self.batch_size), n // 4))


def u_centred(K: np.ndarray) -> np.ndarray:
    """U-centre `K` (n, n), n > 2: zero diagonal, rows and columns that sum to 0 (Szekely & Rizzo 2014)."""
    n = len(K)
    A = K.copy()
    np.fill_diagonal(A, 0.0)
    rows = A.sum(axis=1) / (n - 2)
    A -= rows[:, None] + rows - rows.sum() / (n - 1)
    np.fill_diagonal(A, 0.0)
    return A


def draw(alignment: np.ndarray, tap: str, taps: Sequence[str]) -> Figure:
    """Draw the `alignment` of a tap with the teacher's `taps` as one annotated row of a heat map, 0 to 1."""
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
