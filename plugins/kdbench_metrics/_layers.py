"""A layer's activations as metrics of layers need them: checked, thinned out, centred, compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

    from kdbench.api import View

#: Up to this width products are taken in float64; above it they cost too much, and in float32 they keep six
#: digits, for activations are stored with three.
DOUBLE_WIDTH = 1024
# Squared distances below this share of the squared norms have lost most of float32's digits to cancellation.
_CANCELLED = 1e-4
_BLOCK = 1024


def layer(view: View, tap: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Activations float32 (n, d) at the view's tap, or at another one, and labels int64 (n,).

    Raises:
        ValueError: they do not fit each other, or activations are not finite.
    """
    X = np.asarray(view.features if tap is None else view.features_at(tap))
    labels = np.asarray(view.labels, dtype=np.int64)
    if X.ndim != 2 or len(X) != len(labels) or not X.size:
        raise ValueError(f"activations of shape {X.shape} do not fit {len(labels)} labels")
    if not np.isfinite(X).all():
        raise ValueError("activations have values that are not finite")
    return X, labels


def at_most(n: int, limit: int) -> np.ndarray:
    """Rows to look at, sorted: all `n`, or `limit` of them, drawn in the same way for every network."""
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).permutation(n)[:limit])


def gram(X: np.ndarray) -> np.ndarray:
    """Inner products of the rows of `X` (n, d) about their mean: float64 (n, n)."""
    dtype = np.float64 if X.shape[1] <= DOUBLE_WIDTH else np.float32
    centred = X.astype(dtype) - X.mean(axis=0, dtype=np.float64).astype(dtype)
    return (centred @ centred.T).astype(np.float64, copy=False)


def ranks(X: np.ndarray, index: np.ndarray, metric: Literal["euclidean", "angular"]) -> np.ndarray:
    """Which nearest neighbour each of the given rows is: int64 (n, k), 1 for the nearest.

    Equal distances share the lower rank. Computed in blocks of rows, never as one n x n matrix.

    Args:
        X: (n, d), finite.
        index: int (n, k): other rows, to be ranked by their distance in `X` from row i.
        metric: "euclidean", or "angular": by the cosine.
    """
    import torch

    data = np.asarray(X, dtype=np.float64)
    if metric == "angular":
        data = data / np.maximum(np.linalg.norm(data, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    else:
        data = data - data.mean(axis=0)
    exact = torch.from_numpy(data)
    quick = exact if data.shape[1] <= DOUBLE_WIDTH else exact.float()
    wanted = torch.from_numpy(np.asarray(index, dtype=np.int64))
    half = exact.square().sum(1) / 2
    found = np.empty(wanted.shape, np.int64)
    for start in range(0, len(data), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(data)))
        far, lost = _farness(quick, half, rows)
        if lost and quick is not exact:
            far, _ = _farness(exact, half, rows)
        values = far.gather(1, wanted[rows])
        ordered = far.sort(dim=1).values
        found[rows] = torch.searchsorted(ordered, values).numpy() + 1
    return found


def _farness(data: torch.Tensor, half: torch.Tensor, rows: slice) -> tuple[torch.Tensor, bool]:
    """(b, n) that grow with the distance from each of `rows`, inf for the row itself; whether cancellation spoilt
    some. `half`: half of the rows' squared norms."""
    import torch

    norms = half.to(data.dtype)
    far = norms[None, :] - data[rows] @ data.T
    own = torch.arange(rows.start, rows.stop)
    far[own - rows.start, own] = torch.inf
    lost = bool((far + norms[rows, None] < _CANCELLED * (norms[rows, None] + norms)).any())
    return far, lost
