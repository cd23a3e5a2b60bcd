"""The largest values of each row of a matrix that is computed in blocks; used by `exact_neighbours`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from kdbench.api.compiled import compiled

_compiled = compiled()
_PART = 128  # rows that are worth a thread's while


class Largest:
    """For each of n rows the `k` largest values offered so far, with their columns.

    A value that is not above the k-th of those that were kept is passed over after one comparison, so nearly all
    are; those that are kept are thinned out to k whenever there is no room for more. Of equal values at the k-th
    place those that came first stay.

    Parameters
    ----------
    n
        Rows.
    k
        Values to keep, at least 1.
    dtype
        float32 or float64, of the values.
    threads
        To look through a block with.
    """

    def __init__(self, n: int, k: int, dtype: Any, threads: int = 1) -> None:
        self.k = k
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        room = max(k, min(2 * k + 32, n))
        self.values = np.empty((n, room), dtype)
        self.columns = np.empty((n, room), np.int32)
        self.count = np.zeros(n, np.int64)
        self.least = np.full(n, -np.inf, dtype)  # a value at or below it is none of the k largest

    def offer(
        self, products: np.ndarray, shift: np.ndarray, first_row: int, first_column: int, *, both: bool
    ) -> None:
        """Offer a block of a symmetric matrix less what each column is shifted by.

        Row first_row + i is offered products[i, j] - shift[first_column + j] as column first_column + j, unless
        that is the row itself; with `both` also the other way round, products[i, j] - shift[first_row + i] to row
        first_column + j.

        Parameters
        ----------
        products
            (rows, columns), of the dtype of the values.
        shift
            (n,), of that dtype.
        first_row
            Row of the block's first row.
        first_column
            Column of the block's first column.
        both
            Whether the block stands for its transpose too.
        """
        block = products, shift, first_row, first_column
        state = self.k, self.values, self.columns, self.count, self.least
        sides = [(_offer_to_rows, products.shape[0])]
        if both:
            sides.append((_offer_to_columns, products.shape[1]))
        for offer, size in sides:
            # each thread has rows of its own, so that their number changes no bit
            count = max(1, min(self.threads, size // _PART))
            edges = np.linspace(0, size, count + 1).astype(int).tolist()
            parts = [(offer, *block, *edge, *state) for edge in pairwise(edges)]
            if self._pool and count > 1:
                list(self._pool.map(_call, parts))
            else:
                _call(parts[0])

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and int32 columns, (n, k), in no order; a row that was offered fewer has -inf and column 0."""
        if self._pool:
            self._pool.shutdown()
        _finish(self.k, self.values, self.columns, self.count, self.least)
        return self.values[:, : self.k], self.columns[:, : self.k]


def _call(part: tuple[Any, ...]) -> None:
    part[0](*part[1:])


@_compiled
def _kth_largest(k: int, values: Any) -> Any:
    """By quickselect (Hoare 1961) on `values`, which are reordered. NumPy's partition takes seconds to compile."""
    low, high, at = 0, len(values) - 1, k - 1
    while low < high:
        a, b, c = values[low], values[(low + high) // 2], values[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if at <= j:
            high = j
        elif at >= i:
            low = i
        else:
            break
    return values[at]


@_compiled
def _thin(k: int, values: Any, columns: Any) -> Any:
    """Move the k largest of `values` to its front; the k-th of them."""
    kth = _kth_largest(k, values.copy())
    above = 0
    for value in values:
        above += value > kth
    ties = k - above
    kept = 0
    for i in range(len(values)):
        value = values[i]
        if value > kth or (value == kth and ties > 0):
            ties -= value == kth
            values[kept] = value
            columns[kept] = columns[i]
            kept += 1
    return kth


@_compiled
def _offer_to_rows(
    products: Any, shift: Any, first_row: int, first_column: int, start: int, stop: int, k: int,
    values: Any, columns: Any, count: Any, least: Any,
) -> None:  # fmt: skip
    """Rows `start` to `stop` of a block to the rows that they are of."""
    room = values.shape[1]
    for i in range(start, stop):
        row = first_row + i
        kept, limit = count[row], least[row]
        for j in range(products.shape[1]):
            value = products[i, j] - shift[first_column + j]
            if value > limit and row != first_column + j:
                values[row, kept] = value
                columns[row, kept] = first_column + j
                kept += 1
                if kept == room:
                    kept, limit = k, _thin(k, values[row], columns[row])
        count[row], least[row] = kept, limit


@_compiled
def _offer_to_columns(
    products: Any, shift: Any, first_row: int, first_column: int, start: int, stop: int, k: int,
    values: Any, columns: Any, count: Any, least: Any,
) -> None:  # fmt: skip
    """Columns `start` to `stop` of a block, row by row as it lies in memory, to the rows that they are of."""
    room = values.shape[1]
    for i in range(products.shape[0]):
        row = first_row + i
        for j in range(start, stop):
            value = products[i, j] - shift[row]
            column = first_column + j
            if value > least[column]:
                kept = count[column]
                values[column, kept] = value
                columns[column, kept] = row
                count[column] = kept + 1
                if kept + 1 == room:
                    least[column] = _thin(k, values[column], columns[column])
                    count[column] = k


@_compiled
def _finish(k: int, values: Any, columns: Any, count: Any, least: Any) -> None:
    for row in range(len(count)):
        if count[row] > k:
            least[row] = _thin(k, values[row, : count[row]], columns[row, : count[row]])
            count[row] = k
        values[row, count[row] : k] = -np.inf
        columns[row, count[row] : k] = 0
