"""Whether a network's confidence equals its accuracy (Guo et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdbench.api import MetricResult
from kdbench_metrics._outputs import log_softmax, outputs

if TYPE_CHECKING:
    from kdbench.api import View


class Calibration:
    """Calibration of the probabilities (softmax at temperature 1) on the test set.

    Values:

    - ``ece``: expected calibration error, sum over bins of |B|/n |accuracy(B) - confidence(B)|, 0..1 (Guo et
      al. 2017, equation 3). Confidence is the largest probability; bins have equal width and
      include their upper bound.
    - ``mce``: the largest of those differences over non-empty bins, 0..1 (their equation 4);
    - ``overconfidence``: mean confidence minus accuracy, -1..1: the sign, which the ECE lacks;
    - ``nll``: mean of -log p(true class), in nats, >= 0;
    - ``brier``: mean over images of the sum over classes of (p - [true])^2, 0..2 (Brier 1950).

    Arrays, the reliability diagram: ``confidence``, ``accuracy`` float64 (bins,), NaN where a bin is empty, and
    ``count`` int64 (bins,).

    The ECE decreases with fewer bins and increases, by chance, with fewer images: compare equal n and bins.

    Parameters
    ----------
    bins
        Number of bins of the confidence, >= 1.

    Attributes
    ----------
    invariances
        Transformations of the inputs that do not change the values.
    """

    invariances = ("order of images", "logits plus a constant")

    def __init__(self, *, bins: int = 15) -> None:
        if bins < 1:
            raise ValueError(f"bins={bins!r}: at least 1")
        self.bins = bins

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
            Logits and labels do not match, or logits are not finite.
        """
        logits, labels = outputs(view)
        log_p = log_softmax(logits)
        p = np.exp(log_p)
        true = np.take_along_axis(p, labels[:, None], axis=1)[:, 0]
        largest, correct = p.max(axis=1), p.argmax(axis=1) == labels
        bin_of = np.clip(np.ceil(largest * self.bins).astype(np.int64) - 1, 0, self.bins - 1)
        count = np.bincount(bin_of, minlength=self.bins)
        with np.errstate(invalid="ignore"):
            confidence = np.bincount(bin_of, weights=largest, minlength=self.bins) / count
            accuracy = np.bincount(bin_of, weights=correct, minlength=self.bins) / count
        gap, filled = np.abs(accuracy - confidence), count > 0
        values = {
            "ece": float((gap[filled] * count[filled]).sum() / len(labels)),
            "mce": float(gap[filled].max()),
            "overconfidence": float(largest.mean() - correct.mean()),
            "nll": float(-np.take_along_axis(log_p, labels[:, None], axis=1).mean()),
            "brier": float((np.square(p).sum(axis=1) - 2 * true + 1).mean()),
        }
        arrays = {"confidence": confidence, "accuracy": accuracy, "count": count}
        return MetricResult(values, arrays, setting=f"n={len(labels)}, {self.bins} bins")
