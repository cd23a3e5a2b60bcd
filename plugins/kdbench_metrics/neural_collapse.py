"""Neural collapse at the end of a network (Papyan, Han & Donoho 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdbench.api import MetricResult
from kdbench_metrics._layers import layer

if TYPE_CHECKING:
    from kdbench.api import View

# A spread of class means below this fraction of the largest is rounding: activations have three digits.
_FLAT = 1e-5


class NeuralCollapse:
    """How far a network is from neural collapse, at the suite's last tap, on the embedded test images.

    The paper measures training images, on which a network collapses; test images are farther from collapse. With
    mu_c the mean of a class, mu_G the mean of the class means, m_c = mu_c - mu_G, and C classes:

    - ``nc1``: tr(S_W S_B^+) / C, with S_W the mean over images of (h - mu_c)(h - mu_c)', S_B the mean over
      classes of m_c m_c', ^+ the pseudo-inverse: within-class over between-class variability, >= 0;
    - ``nc2_norms``: coefficient of variation of |m_c|, >= 0;
    - ``nc2_angles``: mean over pairs of |cos(m_c, m_c') + 1/(C - 1)|: 0 for the largest equal angles
      that C vectors can have, 0..2;
    - ``nc3``: |W'/|W|_F - M/|M|_F|_F^2, M the matrix of the m_c as columns, W the last linear layer's weights: 0
      if the classifier equals the class means, 0..4. Absent if the width of the tap differs from that layer's
      input (use the network's last tap);
    - ``nc4``: fraction of images whose predicted class is not the class with the nearest mean, 0..1.

    Each is 0 at collapse. Classes without images are ignored. Means are estimated from the same images, so
    ``nc1`` and ``nc4`` are too small with few images per class: compare equal n.

    All values are absent with fewer than two classes, and undefined ones if class means coincide.
    """

    invariances = (
        "order of images",
        "logits plus a constant",
        "logits times a constant",
        "features plus a constant",
        "features times a constant",
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
            Activations, logits and labels do not match, or are not finite.
        """
        X, labels = layer(view)
        H = X.astype(np.float64)
        logits = np.asarray(view.logits)
        if logits.ndim != 2 or len(logits) != len(H):
            raise ValueError(f"logits of shape {logits.shape} do not fit {len(H)} images")
        classes, index = np.unique(labels, return_inverse=True)
        setting = f"n={len(H)}"
        if len(classes) < 2:
            return MetricResult({}, setting=setting)
        means = np.stack([H[index == c].mean(axis=0) for c in range(len(classes))])
        M = means - means.mean(axis=0)
        values = {"nc4": float(np.mean(classes[nearest_mean(H, means)] != logits.argmax(axis=1)))}
        norms = np.linalg.norm(M, axis=1)
        spread = within_over_between(H - means[index], M)
        if spread is not None:
            values |= {"nc1": spread, "nc2_norms": float(norms.std() / norms.mean())}
            if np.min(norms) > _FLAT * np.max(norms):
                values["nc2_angles"] = angles(M / norms[:, None])
            weight, _ = view.head
            if weight.shape[1] == M.shape[1]:
                W = weight[classes].astype(np.float64)
                if W.any():
                    gap = W / np.linalg.norm(W) - M / np.linalg.norm(M)
                    values["nc3"] = float(np.square(gap).sum())
        return MetricResult(values, setting=setting)


def within_over_between(residuals: np.ndarray, M: np.ndarray) -> float | None:
    """tr(S_W S_B^+) / C from residuals (n, d) and centred class means (C, d); None if all means are equal.

    Uses the singular values of M / sqrt(C), whose squares are the eigenvalues of S_B, without a d x d matrix.
    """
    _, singular, directions = np.linalg.svd(M / np.sqrt(len(M)), full_matrices=False)
    scale = np.abs(residuals).max(initial=0.0) + singular[0]
    if not singular[0] > 1e-12 * scale or singular[0] == 0:
        return None
    significant = singular > _FLAT * singular[0]
    projected = residuals @ (directions[significant] / singular[significant, None]).T
    return float(np.square(projected).sum(axis=1).mean() / len(M))


def angles(unit: np.ndarray) -> float:
    """Mean over pairs of |cos + 1/(C - 1)| of unit rows (C, d)."""
    first, second = np.triu_indices(len(unit), k=1)
    return float(np.abs((unit @ unit.T)[first, second] + 1 / (len(unit) - 1)).mean())


def nearest_mean(H: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Index of the row of `means` (C, d) nearest to each row of `H` (n, d): int64 (n,)."""
    centre = means.mean(axis=0)  # a large common offset would lose digits
    H, means = H - centre, means - centre
    return (np.square(means).sum(axis=1) / 2 - H @ means.T).argmin(axis=1)
