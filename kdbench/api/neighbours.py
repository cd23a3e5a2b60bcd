"""Exact nearest neighbours by blocked matrix products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

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

    Closeness is computed in blocks (never an n x n matrix), after centring for "euclidean", so that large
    means do not cost precision: in float64 up to 256 columns, in float32 above, where rows with neighbours too
    near for it are computed again in float64. On a CPU a block of products serves its rows and its columns.
    Equal distances are put in order of the row's number; which of several equally far rows is the k-th is not
    defined.

    Parameters
    ----------
    X
        (n, d), any float dtype; never changed, may be read-only.
    k
        1 <= k < n.
    metric
        "euclidean", or "angular": sqrt(2 - 2 cos); a zero row has cos 0 to everything.
    device
        Where to compute.
    block
        Rows a block.

    Returns
    -------
    Neighbours
        Nearest first, the row itself excluded.

    Raises
    ------
    ValueError
        k out of range; X not two-dimensional or not finite; a distance too large for float32.
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
    data, unit = _prepared(X, metric, device)
    half_square = _half_squares(data, metric, data.dtype)
    indices = torch.empty((n, k), dtype=torch.int32)
    distances = torch.empty((n, k), dtype=torch.float32)
    found = _half_the_products(data, half_square, k, block) if data.device.type == "cpu" else None
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        if found is not None:
            value, index = found[0][rows], found[1][rows].long()
        else:
            value, index = _nearest(data, rows, k, half_square)
        squared = 2 * (half_square[rows, None] - value)
        scale = 2 * (half_square[rows, None] + half_square[index])
        if data.dtype != torch.float64 and bool((squared < _CANCELLED * scale).any()):
            exact = _half_squares(data, metric, torch.float64)
            value, index = _nearest(data, rows, k, exact)
            squared = 2 * (exact[rows, None] - value)
        distance = (squared.clamp_min(0).sqrt() * unit).float()
        if not torch.isfinite(distance).all():
            raise ValueError("distances between rows of X are too large for float32")
        # Two stable sorts: by row number, then by distance.
        index, order = index.sort(dim=1)
        distance, order = distance.gather(1, order).sort(dim=1, stable=True)
        indices[rows] = index.gather(1, order).to("cpu", torch.int32)
        distances[rows] = distance.to("cpu")
    return Neighbours(indices.numpy(), distances.numpy(), metric)


def _prepared(
    X: np.ndarray | torch.Tensor, metric: NeighbourMetric, device: str
) -> tuple[torch.Tensor, float]:
    """A copy of `X` on `device`, centred or of unit rows, in the precision to compute in, and what 1 is in it.

    Raises ValueError if a value is not finite.
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
    low, high = torch.aminmax(data, dim=1, keepdim=True)  # either is NaN where the row has one
    largest = torch.maximum(-low, high)
    if not torch.isfinite(largest).all():
        raise ValueError("X has values that are not finite")
    if metric == "angular":
        # By the largest entry first: the square of a tiny or huge one is not representable.
        data /= largest.clamp_min(torch.finfo(data.dtype).tiny)
        data /= _row_squares(data, data.dtype)[:, None].sqrt().clamp_min(0.5)
        return (data if narrow else data.float()), 1.0
    # By powers of two, which change no digit: the sum of huge numbers, the square of tiny or huge ones, are not
    # representable. Once more after centring, for the rows may lie far from zero and near to each other.
    before = _power_of_two(float(largest.max()))
    data /= before
    data -= data.mean(0)
    after = _power_of_two(float(torch.linalg.vector_norm(data, torch.inf)))
    data /= after
    unit = before * after
    return (data if narrow else data.float()), unit


def _power_of_two(x: float) -> float:
    """The largest that is not above `x`; 1 for 0."""
    return 2.0 ** (math.frexp(x)[1] - 1) if x else 1.0


def _row_squares(data: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Squared norms of the rows in `dtype`, a part at a time."""
    import torch

    return torch.cat([part.to(dtype).square().sum(1) for part in torch.split(data, _PART)])


def _half_squares(data: torch.Tensor, metric: NeighbourMetric, dtype: torch.dtype) -> torch.Tensor:
    """Half the squared norm of each row of the prepared data, (n,) in `dtype`."""
    import torch

    half_square = _row_squares(data, dtype) / 2
    if metric == "angular":
        half_square = torch.where(half_square > 0, half_square, 0.5)  # a zero row counts as a unit one
    return half_square


def _nearest(
    data: torch.Tensor, rows: slice, k: int, half_square: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Closeness and indices, (b, k), of the nearest of `rows` among all rows, with products in the dtype of
    `half_square`.

    Closeness is x.y - |y|^2 / 2: larger is nearer, whatever the row's own norm.
    """
    import torch

    dtype = half_square.dtype
    left = data[rows].to(dtype)
    parts = (
        (data,) if data.dtype == dtype else torch.split(data, _PART)
    )  # never a second whole copy of the data
    closeness = torch.cat([left @ part.to(dtype).T for part in parts], dim=1)
    closeness -= half_square
    own = torch.arange(rows.start, rows.stop, device=data.device)
    closeness[own - rows.start, own] = -torch.inf
    value, index = closeness.topk(k, dim=1)
    return value, index


def _half_the_products(
    data: torch.Tensor, half_square: torch.Tensor, k: int, block: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_nearest` for all rows, (n, k), on a CPU: rows I with rows J, transposed, are J with I."""
    import torch

    from kdbench.api.selection import Largest  # numba takes long to import

    n = len(data)
    shift = half_square.numpy()
    largest = Largest(n, k, shift.dtype, torch.get_num_threads())
    for row in range(0, n, block):
        for column in range(row, n, block):
            products = data[row : row + block] @ data[column : column + block].T
            largest.offer(products.numpy(), shift, row, column, both=row != column)
    values, columns = largest.result()
    return torch.from_numpy(values), torch.from_numpy(columns)


def requested_neighbours(component: Any, n: int) -> tuple[int, str] | None:
    """Number and metric of the exact neighbours among `n` rows that a reducer or metric requests, if any."""
    ask = getattr(component, "neighbours_wanted", None)
    requested = ask(n) if ask is not None else None
    return (int(requested[0]), str(requested[1])) if requested else None
