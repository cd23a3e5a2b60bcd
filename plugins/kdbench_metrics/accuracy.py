"""Accuracy of a network on the test set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from kdbench.api import MetricResult

if TYPE_CHECKING:
    from kdbench.api import View


class Accuracy:
    """Share of test images whose class has the largest logit, after the last epoch (LW Table 1).

    Values, all in 0..1:

    - ``accuracy``: top-1 of the final logits;
    - ``top5``: the class is among the five largest logits; left out with five classes or fewer, where it is
      1;
    - ``at_best_validation``: test accuracy at the epoch of the highest validation accuracy (the first of
      several), where ``view.history`` has both curves. The test set itself never chooses an epoch.

    Equal logits are ranked by class index, so a constant output scores as one fixed guess.
    """

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: logits and labels do not fit, logits are not finite, or curves of different lengths.
        """
        logits, labels = np.asarray(view.logits), np.asarray(view.labels)
        if logits.ndim != 2 or logits.shape[0] != labels.shape[0] or not len(labels):
            raise ValueError(f"logits of shape {logits.shape} do not fit labels of shape {labels.shape}")
        if not np.isfinite(logits).all():
            raise ValueError("logits have values that are not finite")
        rank = _rank(logits, labels)
        values = {"accuracy": float(np.mean(rank == 0))}
        if logits.shape[1] > 5:
            values["top5"] = float(np.mean(rank < 5))
        chosen = _at_best_validation(view.history)
        if chosen is not None:
            values["at_best_validation"] = chosen
        return MetricResult(values)


def _rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes are placed before the true one: int64 (n,)."""
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    before = (logits > own) | ((logits == own) & (np.arange(logits.shape[1]) < labels[:, None]))
    return before.sum(axis=1)


def _at_best_validation(history: Mapping[str, list[float]]) -> float | None:
    validation = np.asarray(history.get("validation_accuracy", ()), dtype=np.float64)
    test = np.asarray(history.get("test_accuracy", ()), dtype=np.float64)
    if not validation.size or not test.size:
        return None
    if validation.shape != test.shape:
        raise ValueError(
            f"validation_accuracy has {validation.size} epochs and test_accuracy {test.size}; "
            "they must be paired"
        )
    known = np.isfinite(validation) & np.isfinite(test)
    if not known.any():
        return None
    return float(test[known][np.argmax(validation[known])])
