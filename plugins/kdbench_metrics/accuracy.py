"""Accuracy of a network on the test set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from kdbench.api import MetricResult
from kdbench_metrics._outputs import outputs

if TYPE_CHECKING:
    from kdbench.api import View

Selection = Literal["last", "best-validation", "median-last"]
_SELECTIONS = ("last", "best-validation", "median-last")


class Accuracy:
    """Share of test images whose class has the largest logit (LW Table 1), by three rules of selection.

    Published codebases choose the epoch that they report in different ways, and the choice moves a number by
    more than many methods differ. So all are recorded, and the setting says which one ranks.

    Values, all in 0..1:

    - ``accuracy``: the one that `selection` names;
    - ``last``: top-1 of the final logits, after the last epoch;
    - ``best_validation``: test accuracy at the epoch of the highest validation accuracy (the first of
      several); left out without a validation split. The test set itself never chooses an epoch;
    - ``median_last``: median of the last `last_k` evaluations on the test set, of all where there are fewer
      (what FixMatch and its predecessors report, with 20 checkpoints); left out where there is none;
    - ``top5``: the class is among the five largest final logits; left out with five classes or fewer, where
      it is 1.

    Equal logits are ranked by class index, so a constant output scores as one fixed guess.

    Args:
        selection: "last", "best-validation" (refused for a suite without `data.validation`) or "median-last".
        last_k: evaluations that the median is of, >= 1. `eval_every` of the recipe says how far apart they are.

    Raises:
        ValueError: a parameter out of its range.
    """

    invariances = ("order of images", "logits plus a constant", "logits times a constant")

    def __init__(self, *, selection: Selection = "last", last_k: int = 20) -> None:
        if selection not in _SELECTIONS:
            raise ValueError(f"selection={selection!r}: one of {', '.join(_SELECTIONS)}")
        if last_k < 1:
            raise ValueError(f"last_k={last_k!r}: at least 1")
        self.selection = selection
        self.last_k = last_k

    @property
    def needs_validation(self) -> bool:
        return self.selection == "best-validation"

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: logits and labels do not fit, logits are not finite, curves are of different lengths,
                or there are no evaluations of the kind that `selection` asks for.
        """
        logits, labels = outputs(view)
        rank = _rank(logits, labels)
        values = {"last": float(np.mean(rank == 0))}
        if logits.shape[1] > 5:
            values["top5"] = float(np.mean(rank < 5))
        chosen = _at_best_validation(view.history)
        if chosen is not None:
            values["best_validation"] = chosen
        known = _evaluations(view.history)[-self.last_k :]
        if known.size:
            values["median_last"] = float(np.median(known))
        name = self.selection.replace("-", "_")
        if name not in values:
            raise ValueError(f"selection={self.selection!r}: the training has no such evaluations")
        return MetricResult({"accuracy": values[name], **values}, setting=self._setting(known.size))

    def _setting(self, evaluations: int) -> str:
        if self.selection == "last":
            return "ranked by the last epoch"
        if self.selection == "best-validation":
            return "ranked by the best epoch on validation"
        if evaluations == 1:
            return "ranked by the one evaluation"
        of = f"the last {self.last_k}" if evaluations == self.last_k else f"all {evaluations}"
        return f"ranked by the median of {of} evaluations"


def _rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes are placed before the true one: int64 (n,)."""
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    before = (logits > own) | ((logits == own) & (np.arange(logits.shape[1]) < labels[:, None]))
    return before.sum(axis=1)


def _evaluations(history: Mapping[str, list[float]]) -> np.ndarray:
    """Test accuracies in the order of epochs, those that were measured: float64."""
    test = np.asarray(history.get("test_accuracy", ()), dtype=np.float64)
    return test[np.isfinite(test)]


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
