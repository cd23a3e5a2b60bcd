"""Superclass output correlation (LW section 5.2, Fig. 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from kdbench.api import MetricResult
from kdbench.errors import UsageError

if TYPE_CHECKING:
    from kdbench.api import View


class SuperclassCorrelation:
    """Mean Pearson correlation, over the test set, between outputs of classes in one superclass.

    LW's text speaks of correlation and its caption of r squared; both are given, r first (assumption LW-A11).

    Values:

    - ``r``: mean over superclasses of the mean correlation of their pairs of classes, -1..1;
    - ``r2``: the same of squared correlations, 0..1 (not the square of ``r``);
    - ``r_between``: mean correlation of pairs from different superclasses, which the paper does not report:
      outputs that only move together everywhere raise ``r`` and this alike;
    - each superclass's own mean correlation, by its name: a bar of Fig. 5.

    Arrays (n_superclasses,): ``r`` and ``r2`` float64, NaN for a superclass without a pair; ``names`` str. A
    class whose output is constant correlates with nothing: its pairs are left out, and so is a value that no
    pair is left for.

    Args:
        of: "logits" (LW-A11), or "softmax" for probabilities at temperature 1.
    """

    def __init__(self, *, of: Literal["logits", "softmax"] = "logits") -> None:
        if of not in ("logits", "softmax"):
            raise ValueError(f"of={of!r}: 'logits' or 'softmax'")
        self.of = of

    @property
    def invariances(self) -> tuple[str, ...]:
        """What changes no value; correlations of probabilities do depend on the scale of the logits."""
        always = ("order of images", "logits plus a constant")
        return (*always, "logits times a constant") if self.of == "logits" else always

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            UsageError: the dataset has no superclasses, or none with two classes.
            ValueError: logits do not fit the classes, are not finite, or belong to fewer than two images.
        """
        groups = _superclasses(view.superclass_of)
        outputs = np.asarray(view.logits, dtype=np.float64)
        if outputs.ndim != 2 or outputs.shape[1] != len(groups) or outputs.shape[0] < 2:
            raise ValueError(f"logits of shape {outputs.shape} do not fit {len(groups)} classes")
        if not np.isfinite(outputs).all():
            raise ValueError("logits have values that are not finite")
        if self.of == "softmax":
            outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            outputs /= outputs.sum(axis=1, keepdims=True)
        n_groups = max(int(groups.max()) + 1, len(view.superclass_names))
        r, r2, between = within_superclasses(correlations(outputs), groups, n_groups)
        values = {}
        if np.isfinite(r).any():
            values = {"r": float(np.nanmean(r)), "r2": float(np.nanmean(r2))}
        if between is not None:
            values["r_between"] = between
        names = np.array([*view.superclass_names] or [str(i) for i in range(n_groups)], dtype=np.str_)
        values |= {str(name): float(x) for name, x in zip(names, r, strict=True) if np.isfinite(x)}
        return MetricResult(
            values, {"r": r, "r2": r2, "names": names}, setting=f"n={len(outputs)}, {self.of}"
        )


def correlations(outputs: np.ndarray) -> np.ndarray:
    """Pearson correlation of the columns of `outputs` (n, c): float64 (c, c), NaN for constant columns."""
    centred = outputs - outputs.mean(axis=0)
    norm = np.sqrt(np.square(centred).sum(axis=0))
    # What rounding leaves of a constant column is not variation.
    norm[norm <= 1e-12 * np.abs(outputs).max(axis=0) * np.sqrt(len(outputs))] = np.nan
    unit = centred / norm
    return np.clip(unit.T @ unit, -1.0, 1.0)


def within_superclasses(
    rho: np.ndarray, groups: np.ndarray, n_groups: int
) -> tuple[np.ndarray, np.ndarray, float | None]:
    """Means over the pairs of each superclass of rho and rho squared, and the mean over all other pairs.

    Args:
        rho: (c, c), NaN for pairs to leave out.
        groups: int (c,), superclass of each class.
        n_groups: number of superclasses.
    """
    first, second = np.triu_indices(len(groups), k=1)
    pair = rho[first, second]
    same = groups[first] == groups[second]
    known = np.isfinite(pair)
    inside, owner = pair[same & known], groups[first][same & known]
    count = np.bincount(owner, minlength=n_groups).astype(np.float64)
    count[count == 0] = np.nan
    r = np.bincount(owner, weights=inside, minlength=n_groups) / count
    r2 = np.bincount(owner, weights=np.square(inside), minlength=n_groups) / count
    outside = pair[~same & known]
    return r, r2, float(outside.mean()) if outside.size else None


def _superclasses(superclass_of: np.ndarray | None) -> np.ndarray:
    groups = None if superclass_of is None else np.asarray(superclass_of, dtype=np.int64)
    if groups is None or not len(groups) or np.max(np.bincount(groups)) < 2:
        raise UsageError(
            "the dataset has no superclass of two classes or more",
            where="metrics/superclass-correlation",
            hint="take the metric out of the suite (--set 'metrics-=superclass-correlation'), or choose a "
            "dataset with superclasses, such as cifar100 or shapes",
        )
    return groups
