"""A layer's activations for the metrics of layers: checked, subsampled, centred, ranked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

    from kdbench.api import View

#: Up to this width products are computed in float64. Wider layers use float32, which keeps six digits of
#: activations that are stored with three.
DOUBLE_WIDTH = 1024
# Squared distances below this share of the squared norms have lost most of float32's digits to cancellation.
_CANCELLED = 1e-4
_BLOCK = 1024


def layer(view: View, tap: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read the activations of a layer, and the labels.

    Parameters
    ----------
    view
        The inputs listed in the spec's `needs`.
    tap
        The layer; None: the tap of the view.

    Returns
    -------
    tuple[ndarray, ndarray]
        Activations float32 (n, d) and labels int64 (n,).

    Raises
    ------
    ValueError
        Activations and labels do not match, or activations are not finite.
    """
    X = np.asarray(view.features if tap is None else view.features_at(tap))
    labels = np.asarray(view.labels, dtype=np.int64)
    if X.ndim != 2 or len(X) != len(labels) or not X.size:
        raise ValueError(f"activations of shape {X.shape} do not fit {len(labels)} labels")
    if not np.isfinite(X).all():
        raise ValueError("activations have values that are not finite")
    return X, labels


def at_most(n: int, limit: int) -> np.ndarray:
    """Sorted indices of all `n` rows, or of a fixed random subset of `limit` rows, the same for every network."""
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).permutation(n)[:limit])


def gram(X: np.ndarray) -> np.ndarray:
    """Gram matrix float64 (n, n) of the centred rows of `X` (n, d)."""
    dtype = np.float64 if X.shape[1] <= DOUBLE_WIDTH else np.float32
    centred = X.astype(dtype) - X.mean(axis=0, dtype=np.float64).astype(dtype)
    return (centred @ centred.T).astype(np.float64, copy=False)


def ranks(X: np.ndarray, index: np.ndarray, metric: Literal["euclidean", "angular"]) -> np.ndarray:
    """Rank of each neighbour by its distance from the row; 1 is the nearest.

    Equal distances share the lower rank. Computed in blocks of rows, never as one n x n matrix.

    Parameters
    ----------
    X
        Finite values (n, d).
    index
        int (n, k): for each row i, the other rows to rank.
    metric
        Distance in `X`: "euclidean", or "angular" (cosine).

    Returns
    -------
    ndarray
        int64 (n, k).
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
    result = np.empty(wanted.shape, np.int64)
    for start in range(0, len(data), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(data)))
        distances, cancelled = _order_distances(quick, half, rows)
        if cancelled and quick is not exact:
            distances, _ = _order_distances(exact, half, rows)
        values = distances.gather(1, wanted[rows])
        ordered = distances.sort(dim=1).values
        result[rows] = torch.searchsorted(ordered, values).numpy() + 1
    return result


def _order_distances(data: torch.Tensor, half: torch.Tensor, rows: slice) -> tuple[torch.Tensor, bool]:
    """Values (b, n) in the order of the distances from each of `rows`, inf for the row itself; whether any lost its
    digits to cancellation. `half`: half of the rows' squared norms."""
    import torch

    norms = half.to(data.dtype)
    distances = norms[None, :] - data[rows] @ data.T
    index = torch.arange(rows.start, rows.stop)
    distances[index - rows.start, index] = torch.inf
    cancelled = bool((distances + norms[rows, None] < _CANCELLED * (norms[rows, None] + norms)).any())
    return distances, cancelled
