"""The largest of each row, offered in blocks, against a sort by NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from kdbench.api.selection import Largest


def offered(
    matrix: np.ndarray, shift: np.ndarray, k: int, block: int, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric matrix by its upper blocks."""
    n = len(matrix)
    largest = Largest(n, k, matrix.dtype, threads)
    for i in range(0, n, block):
        for j in range(i, n, block):
            largest.offer(matrix[i : i + block, j : j + block], shift, i, j, both=i != j)
    return largest.result()


def symmetric(n: int, dtype: str, seed: int = 0) -> np.ndarray:
    half = np.random.default_rng(seed).standard_normal((n, n))
    return (half + half.T).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("n", "k", "block"), [(300, 1, 64), (300, 20, 64), (257, 256, 50), (40, 39, 64), (9, 3, 1)]
)
def test_they_are_the_head_of_a_sort(dtype, n, k, block):
    matrix, shift = symmetric(n, dtype), np.random.default_rng(1).standard_normal(n).astype(dtype)
    values, columns = offered(matrix, shift, k, block)
    whole = matrix - shift
    np.fill_diagonal(whole, -np.inf)
    order = np.argsort(-whole, axis=1)[:, :k]
    assert (np.sort(columns, axis=1) == np.sort(order, axis=1)).all()
    assert (values == np.take_along_axis(whole, columns.astype(int), axis=1)).all()
    assert values.dtype == dtype
    assert columns.dtype == np.int32


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads):
    matrix, shift = symmetric(900, "float32"), np.zeros(900, np.float32)
    for one, several in zip(
        offered(matrix, shift, 20, 400), offered(matrix, shift, 20, 400, threads), strict=True
    ):
        assert (one == several).all()


@pytest.mark.parametrize("rising", [False, True])
def test_the_order_in_which_they_come_does_not_matter(rising):
    """All are kept and thinned out again and again, or nearly none after the first."""
    n, k = 700, 30
    line = np.sort(np.random.default_rng(0).standard_normal(n))
    line = line if rising else line[::-1]
    largest = Largest(n, k, np.float64)
    for j in range(0, n, 70):
        largest.offer(np.tile(line[j : j + 70], (n, 1)), np.zeros(n), 0, j, both=False)
    _, columns = largest.result()
    best = np.argsort(-line)
    for row in (0, 350, n - 1):
        assert sorted(columns[row]) == sorted(best[best != row][:k])


def test_equal_values_fill_the_places_once_each():
    values, columns = offered(np.ones((200, 200)), np.zeros(200), 7, 30)
    assert (values == 1).all()
    assert all(len(set(row)) == 7 for row in columns.tolist())
    assert (columns != np.arange(200)[:, None]).all()
    two = np.where(np.arange(200) % 2, 2.0, 1.0)[None, :] + np.zeros((200, 1))
    largest = Largest(200, 150, np.float64)
    largest.offer(two, np.zeros(200), 0, 0, both=False)
    values, columns = largest.result()
    assert all(len(set(row)) == 150 for row in columns.tolist())
    assert ((values == 2).sum(1) == 100 - np.arange(200) % 2).all()


def test_a_row_that_was_offered_too_few_says_so():
    largest = Largest(3, 2, np.float32)
    largest.offer(np.array([[5.0, 4.0]], np.float32), np.zeros(3, np.float32), 0, 0, both=False)
    values, columns = largest.result()
    assert values[0].tolist() == [4.0, -np.inf]
    assert columns[0].tolist() == [1, 0]
    assert (values[1:] == -np.inf).all()
