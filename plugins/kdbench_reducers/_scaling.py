"""Scaling of a layer before a network sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SCALINGS = ("minmax", "unit-std", "none")
_COLUMNS = 1024
_PART_VALUES = 1 << 18


@dataclass(frozen=True)
class Scaling:
    """(X - shift) * factor; both are float32, (n_features,) or scalar arrays."""

    shift: np.ndarray
    factor: np.ndarray

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """A scaled float32 copy of `X`, (n, n_features)."""
        scaled = np.empty(X.shape, np.float32)
        for rows in _parts(X):
            self._into(X[rows], scaled[rows])
        return scaled

    def tensor(self, X: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        """`X` scaled, in `dtype`, on the CPU, without a whole copy in float32 between."""
        import torch

        if dtype == torch.float32:
            return torch.from_numpy(self(X))
        scaled = torch.empty(X.shape, dtype=dtype)
        buffer: np.ndarray | None = None
        for rows in _parts(X):
            if buffer is None:
                buffer = np.empty_like(X[rows], dtype=np.float32)
            part = buffer[: len(X[rows])]
            self._into(X[rows], part)
            scaled[rows] = torch.from_numpy(part)
        return scaled

    def _into(self, X: np.ndarray, out: np.ndarray) -> None:
        np.subtract(X, self.shift, out=out)
        out *= self.factor


def _parts(X: np.ndarray) -> Iterator[slice]:
    """Rows of `X`, so few at a time that both passes over them find them in the cache."""
    step = max(1, _PART_VALUES // X.shape[1])
    return (slice(i, i + step) for i in range(0, len(X), step))


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
