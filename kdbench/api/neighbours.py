"""Exact nearest neighbours by blocked matrix products: the one place in kdbench that finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api.data import NeighbourMetric, Neighbours

if TYPE_CHECKING:
    import numpy as np
    import torch


def exact_neighbours(
    X: np.ndarray | torch.Tensor,
    k: int,
    metric: NeighbourMetric = "euclidean",
    *,
    device: str = "cpu",
    block: int = 1024,
) -> Neighbours:
    """The `k` exact nearest neighbours of every row of `X` among all other rows.

    Distances are computed in float32 blocks of `block` x n (never an n x n matrix), after centring for
    "euclidean", so that large means do not cost precision.

    Args:
        X: (n, d), any float dtype.
        k: 1 <= k < n.
        metric: "euclidean", or "angular": sqrt(2 - 2 cos); a zero row has cos 0 to everything.
        device: where to compute.
        block: rows a block.

    Raises:
        ValueError: k out of range, or X not two-dimensional or not finite.
    """
    import torch

    data = torch.as_tensor(X)
    if data.ndim != 2:
        raise ValueError(f"X must be (n, d), got shape {tuple(data.shape)}")
    n = data.shape[0]
    if not 1 <= k < n:
        raise ValueError(f"k={k} is out of range: 1 <= k < n={n}")
    if metric not in ("euclidean", "angular"):
        raise ValueError(f"metric={metric!r}: 'euclidean' or 'angular'")
    data = data.to(device=device, dtype=torch.float32)
    if not torch.isfinite(data).all():
        raise ValueError("X has values that are not finite")
    if metric == "angular":
        data = torch.nn.functional.normalize(data, dim=1, eps=1e-30)
        half_square = torch.zeros(n, device=device)
    else:
        data = data - data.mean(0)
        half_square = data.square().sum(1) / 2
    indices = torch.empty((n, k), dtype=torch.int32)
    distances = torch.empty((n, k), dtype=torch.float32)
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        closeness = data[rows] @ data.T - half_square  # larger is nearer, whatever the row's own norm
        own = torch.arange(rows.start, rows.stop, device=device)
        closeness[torch.arange(len(own), device=device), own] = -torch.inf
        value, index = closeness.topk(k, dim=1)
        squared = 2 * (half_square[rows, None] - value) if metric == "euclidean" else 2 - 2 * value
        indices[rows] = index.to("cpu", torch.int32)
        distances[rows] = squared.clamp_min(0).sqrt().to("cpu")
    return Neighbours(indices.numpy(), distances.numpy(), metric)
