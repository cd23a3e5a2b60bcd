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
    """Fraction of test images whose class has the largest logit (LW Table 1), with three rules of selection.

    Published codebases choose the reported epoch in different ways, and the choice changes the accuracy by more
    than many methods differ. So all rules are recorded, and the setting names the one used for ranking.

    Values, all in 0..1:

    - ``accuracy``: the value of the rule `selection`;
    - ``last``: top-1 accuracy after the last epoch;
    - ``best_validation``: test accuracy at the epoch of the highest validation accuracy (the first one, if
      tied); absent without a validation split. The test set never selects an epoch;
    - ``median_last``: median of the last `last_k` evaluations on the test set, or of all if there are fewer
      (as reported by FixMatch and its predecessors, with 20 checkpoints); absent without evaluations;
    - ``top5``: top-5 accuracy after the last epoch; absent with five classes or fewer, where it is always 1.

    Ties are broken by class index, so a constant output counts as one fixed guess.

    Parameters
    ----------
    selection
        Rule for ``accuracy``: "last", "best-validation" (needs `data.validation` in the suite) or
        "median-last".
    last_k
        Number of evaluations in the median, >= 1. `eval_every` of the recipe sets their interval in epochs.

    Attributes
    ----------
    invariances
        Transformations of the inputs that do not change the values.

    Raises
    ------
    ValueError
        A parameter is out of range.
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
            Logits and labels do not match, logits are not finite, curves have different lengths, or the
            evaluations that `selection` needs are absent.
        """
        logits, labels = outputs(view)
        rank = _rank(logits, labels)
        values = {"last": float(np.mean(rank == 0))}
        if logits.shape[1] > 5:
            values["top5"] = float(np.mean(rank < 5))
        at_best = _at_best_validation(view.history)
        if at_best is not None:
            values["best_validation"] = at_best
        recent = _evaluations(view.history)[-self.last_k :]
        if recent.size:
            values["median_last"] = float(np.median(recent))
        name = self.selection.replace("-", "_")
        if name not in values:
            raise ValueError(f"selection={self.selection!r}: the training has no evaluations for this rule")
        return MetricResult({"accuracy": values[name], **values}, setting=self._setting(recent.size))

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
    """Number of classes ranked before the true one: int64 (n,)."""
    true = np.take_along_axis(logits, labels[:, None], axis=1)
    before = (logits > true) | ((logits == true) & (np.arange(logits.shape[1]) < labels[:, None]))
    return before.sum(axis=1)


def _evaluations(history: Mapping[str, list[float]]) -> np.ndarray:
    """Measured test accuracies in the order of epochs: float64."""
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
    measured = np.isfinite(validation) & np.isfinite(test)
    if not measured.any():
        return None
    return float(test[measured][np.argmax(validation[measured])])
