"""Scaling of a layer before a network sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SCALINGS = ("minmax", "unit-std", "none")
_COLUMNS = 1024


@dataclass(frozen=True)
class Scaling:
    """(X - shift) * factor; both are float32, (n_features,) or scalar arrays."""

    shift: np.ndarray
    factor: np.ndarray

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """A scaled float32 copy of `X`."""
        scaled = np.subtract(X, self.shift, dtype=np.float32)
        scaled *= self.factor
        return scaled


def fit_scaling(X: np.ndarray, kind: str) -> Scaling:
    """The scaling of `X`, (n, d).

    "minmax": each feature to 0..1, a constant one to 0 (assumption LW-A9: the examples of ivis scale so).
    "unit-std": one factor for all, which makes the mean standard deviation of a feature 1 and keeps the
    geometry.
    "none": as it is.
    """
    if kind == "minmax":
        low, high = X.min(axis=0), X.max(axis=0)
        spread = (high - low).astype(np.float32)
        return Scaling(low, (1 / np.where(spread > 0, spread, 1)).astype(np.float32))
    factor = np.float32(1)
    if kind == "unit-std":
        columns = (X[:, i : i + _COLUMNS] for i in range(0, X.shape[1], _COLUMNS))
        deviation = float(np.concatenate([c.std(axis=0, dtype=np.float64) for c in columns]).mean())
        factor = np.float32(1 / deviation if deviation > 0 else 1)
    return Scaling(np.zeros((), np.float32), np.asarray(factor))
