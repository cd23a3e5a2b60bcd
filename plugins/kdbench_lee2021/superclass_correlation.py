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

    LW's text mentions correlation and its caption r squared; both are reported, r first (assumption LW-A11).

    Values:

    - ``r``: mean over superclasses of the mean correlation of their pairs of classes, -1..1;
    - ``r2``: the same of squared correlations, 0..1 (not the square of ``r``);
    - ``r_between``: mean correlation of pairs from different superclasses, which the paper does not report: a
      correlation common to all outputs increases both ``r`` and ``r_between``;
    - the mean correlation of each superclass, by its name: a bar of Fig. 5.

    Arrays (n_superclasses,): ``r`` and ``r2`` float64, NaN for a superclass without a pair; ``names`` str. Pairs
    with a class of constant output are excluded, and a value without pairs is absent.

    Parameters
    ----------
    of
        Outputs to correlate: "logits" (LW-A11), or "softmax": probabilities at temperature 1.
    """

    def __init__(self, *, of: Literal["logits", "softmax"] = "logits") -> None:
        if of not in ("logits", "softmax"):
            raise ValueError(f"of={of!r}: 'logits' or 'softmax'")
        self.of = of

    @property
    def invariances(self) -> tuple[str, ...]:
        """Transformations of the inputs that do not change the values; "softmax" depends on the logits' scale."""
        common = ("order of images", "logits plus a constant")
        return (*common, "logits times a constant") if self.of == "logits" else common

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
        UsageError
            The dataset has no superclass with at least two classes.
        ValueError
            Logits do not match the classes, are not finite, or are of fewer than two images.
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
    # A constant column may vary by rounding errors.
    norm[norm <= 1e-12 * np.abs(outputs).max(axis=0) * np.sqrt(len(outputs))] = np.nan
    unit = centred / norm
    return np.clip(unit.T @ unit, -1.0, 1.0)


def within_superclasses(
    rho: np.ndarray, groups: np.ndarray, n_groups: int
) -> tuple[np.ndarray, np.ndarray, float | None]:
    """Average correlations within and between superclasses.

    Parameters
    ----------
    rho
        Correlations (c, c), NaN for pairs to exclude.
    groups
        Superclass of each class, int (c,).
    n_groups
        Number of superclasses.

    Returns
    -------
    tuple[ndarray, ndarray, float | None]
        Means of rho and of rho squared over the pairs of each superclass, (n_groups,); mean of rho over all
        other pairs, None without any.
    """
    first, second = np.triu_indices(len(groups), k=1)
    pair = rho[first, second]
    same = groups[first] == groups[second]
    finite = np.isfinite(pair)
    inside, group = pair[same & finite], groups[first][same & finite]
    count = np.bincount(group, minlength=n_groups).astype(np.float64)
    count[count == 0] = np.nan
    r = np.bincount(group, weights=inside, minlength=n_groups) / count
    r2 = np.bincount(group, weights=np.square(inside), minlength=n_groups) / count
    outside = pair[~same & finite]
    return r, r2, float(outside.mean()) if outside.size else None


def _superclasses(superclass_of: np.ndarray | None) -> np.ndarray:
    groups = None if superclass_of is None else np.asarray(superclass_of, dtype=np.int64)
    if groups is None or not len(groups) or np.max(np.bincount(groups)) < 2:
        raise UsageError(
            "the dataset has no superclass with at least two classes",
            where="metrics/superclass-correlation",
            hint="remove the metric from the suite (--set 'metrics-=superclass-correlation'), or use a "
            "dataset with superclasses, such as cifar100 or shapes",
        )
    return groups
