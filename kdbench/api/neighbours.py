"""Exact nearest neighbours by blocked matrix products: the one place in kdbench that finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api.data import NeighbourMetric, Neighbours

if TYPE_CHECKING:
    import numpy as np
    import torch

# Up to this width float64 costs less than the search for the largest does, and narrow layers near a network's
# end are where classes shrink to tight clusters that float32 products can't tell apart.
_DOUBLE_WIDTH = 256
# A squared distance below this share of the squared norms has lost most of float32's digits to cancellation.
_CANCELLED = 1e-4
_PART = 2048


def exact_neighbours(
    X: np.ndarray | torch.Tensor,
    k: int,
    metric: NeighbourMetric = "euclidean",
    *,
    device: str = "cpu",
    block: int = 1024,
) -> Neighbours:
    """The `k` exact nearest neighbours of every row of `X` among all other rows.

    Closeness is computed in blocks of `block` x n (never an n x n matrix), after centring for "euclidean", so
    that large means do not cost precision: in float64 up to 256 columns, in float32 above, where a block with
    neighbours too near for it is computed again in float64. Equal distances are put in order of the row's
    number; which of several equally far rows is the k-th is not defined.

    Args:
        X: (n, d), any float dtype; never changed, may be read-only.
        k: 1 <= k < n.
        metric: "euclidean", or "angular": sqrt(2 - 2 cos); a zero row has cos 0 to everything.
        device: where to compute.
        block: rows a block.

    Raises:
        ValueError: k out of range, or X not two-dimensional or not finite.
    """
    import torch

    if X.ndim != 2:
        raise ValueError(f"X must be (n, d), got shape {tuple(X.shape)}")
    n = X.shape[0]
    if not 1 <= k < n:
        raise ValueError(f"k={k} is out of range: 1 <= k < n={n}")
    if metric not in ("euclidean", "angular"):
        raise ValueError(f"metric={metric!r}: 'euclidean' or 'angular'")
    if block < 1:
        raise ValueError(f"block={block}: at least 1")
    data = _prepared(X, metric, device)
    indices = torch.empty((n, k), dtype=torch.int32)
    distances = torch.empty((n, k), dtype=torch.float32)
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        index, squared, lost = _nearest(data, rows, k, metric, data.dtype)
        if lost:
            index, squared, _ = _nearest(data, rows, k, metric, torch.float64)
        distance = squared.clamp_min(0).sqrt().float()
        # Two stable sorts: by row number, then by distance.
        index, order = index.sort(dim=1)
        distance, order = distance.gather(1, order).sort(dim=1, stable=True)
        indices[rows] = index.gather(1, order).to("cpu", torch.int32)
        distances[rows] = distance.to("cpu")
    return Neighbours(indices.numpy(), distances.numpy(), metric)


def _prepared(X: np.ndarray | torch.Tensor, metric: NeighbourMetric, device: str) -> torch.Tensor:
    """A copy of `X` on `device`, centred or of unit rows, in the precision to compute in.

    Raises:
        ValueError: a value is not finite.
    """
    import numpy as np
    import torch

    narrow = X.shape[1] <= _DOUBLE_WIDTH
    double = narrow or X.dtype in (np.float64, torch.float64)
    if isinstance(X, torch.Tensor):
        dtype = torch.float64 if double else torch.float32
        data = X.detach().to(device=device, dtype=dtype, copy=True)
    else:  # copied by NumPy, for PyTorch warns of read-only arrays, which memory-mapped ones are
        data = torch.from_numpy(np.array(X, dtype=np.float64 if double else np.float32)).to(device)
    if not torch.isfinite(data).all():
        raise ValueError("X has values that are not finite")
    if metric == "angular":
        # By the largest entry first: the square of a tiny or huge one is not representable.
        data /= data.abs().amax(1, keepdim=True).clamp_min(torch.finfo(data.dtype).tiny)
        data /= data.square().sum(1, keepdim=True).sqrt().clamp_min(0.5)
    else:
        data -= data.mean(0)
    return data if narrow else data.float()


def _nearest(
    data: torch.Tensor, rows: slice, k: int, metric: NeighbourMetric, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Indices and squared distances, (b, k), of `rows` of the prepared data, with products in `dtype`.

    The third value says whether cancellation spoilt some of them, which float64 alone is trusted not to do.
    """
    import torch

    left = data[rows].to(dtype)
    parts = (data,) if data.dtype == dtype else data.split(_PART)  # never a second whole copy of the data
    half_square = torch.cat([part.to(dtype).square().sum(1) for part in parts]) / 2
    if metric == "angular":
        half_square = torch.where(half_square > 0, half_square, 0.5)  # a zero row counts as a unit one
    closeness = torch.cat([left @ part.to(dtype).T for part in parts], dim=1)
    closeness -= half_square  # larger is nearer, whatever the row's own norm
    own = torch.arange(rows.start, rows.stop, device=data.device)
    closeness[own - rows.start, own] = -torch.inf
    value, index = closeness.topk(k, dim=1)
    squared = 2 * (half_square[rows, None] - value)
    scale = 2 * (half_square[rows, None] + half_square[index])
    return index, squared, dtype != torch.float64 and bool((squared < _CANCELLED * scale).any())
