"""exact_neighbours against scikit-learn's brute force in float64."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from kdbench.api import exact_neighbours, neighbours


def brute_force(X: np.ndarray, k: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices of scikit-learn in float64, the row itself left out."""
    X = np.asarray(X, np.float64)
    if metric == "angular":
        length = np.linalg.norm(X, axis=1, keepdims=True)
        X = X / np.where(length > 0, length, 1)
    # "minkowski" measures each pair from its difference, without the expansion that is being tested here.
    search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="minkowski", p=2).fit(X)
    return search.kneighbors()


def blobs(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (3 * rng.standard_normal((7, d)))[rng.integers(7, size=n)] + rng.standard_normal((n, d))


@pytest.mark.parametrize("metric", ["euclidean", "angular"])
@pytest.mark.parametrize(("n", "d"), [(40, 3), (300, 64), (200, 700)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_are_those_of_brute_force_in_float64(metric, n, d, dtype):
    X = blobs(n, d).astype(dtype)
    found = exact_neighbours(X, 15, metric, block=64)
    distances, indices = brute_force(X, 15, metric)
    assert found.metric == metric
    assert found.indices.dtype == np.int32
    assert found.distances.dtype == np.float32
    np.testing.assert_allclose(found.distances, distances, rtol=2e-5, atol=1e-6)
    assert (
        found.indices == indices
    ).mean() > 0.999  # pairs that differ in the last digit of float32 may swap


@pytest.mark.parametrize("metric", ["euclidean", "angular"])
@pytest.mark.parametrize(("n", "k"), [(256, 20), (300, 20), (300, 90)])  # a multiple of the block, and not
@pytest.mark.parametrize("d", [40, 2100])
def test_half_of_the_products_find_what_all_of_them_do_and_what_float64_does(metric, n, k, d, monkeypatch):
    X = blobs(n, d).astype(np.float32)
    X[5] = X[290 % n]  # a pair in different blocks that float32 products can't tell apart
    half = exact_neighbours(X, k, metric, block=64)
    monkeypatch.setattr(neighbours, "_half_the_products", lambda *_: None)
    plain = exact_neighbours(X, k, metric, block=64)  # as on a GPU
    np.testing.assert_allclose(half.distances, plain.distances, rtol=1e-5, atol=1e-6)
    assert (half.indices == plain.indices).mean() > 0.99
    distances, indices = brute_force(X, k, metric)
    np.testing.assert_allclose(half.distances, distances, rtol=2e-5, atol=1e-5)
    assert (half.indices == indices).mean() > 0.99
    assert half.indices[5, 0] == 290 % n
    assert half.distances[5, 0] < 1e-5


@pytest.mark.parametrize("block", [1, 7, 50, 1024])
def test_the_block_does_not_matter(block):
    X = blobs(50, 5)
    whole = exact_neighbours(X, 9, block=50)
    assert (exact_neighbours(X, 9, block=block).indices == whole.indices).all()


@pytest.mark.parametrize("d", [20, 600])
def test_a_large_mean_costs_no_neighbour(d):
    X = blobs(200, d)
    near = exact_neighbours(X, 10)
    far = exact_neighbours(X + 1e8, 10)  # float64 holds 1e-8 here, float32 could not hold the data at all
    assert (near.indices == far.indices).mean() > 0.99
    np.testing.assert_allclose(far.distances, near.distances, rtol=1e-4)


@pytest.mark.parametrize("d", [8, 400])
@pytest.mark.parametrize("metric", ["euclidean", "angular"])
def test_tight_clusters_far_apart_keep_their_order_and_distances(d, metric):
    rng = np.random.default_rng(3)
    centres = 100 * rng.standard_normal((3, d))
    X = (centres[rng.integers(3, size=60)] + 0.05 * rng.standard_normal((60, d))).astype(np.float32)
    found = exact_neighbours(X, 5, metric)
    distances, indices = brute_force(X, 5, metric)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-2 if metric == "angular" else 1e-3)
    if d <= 256:
        assert (found.indices == indices).mean() > 0.99


@pytest.mark.parametrize("d", [4, 300])
@pytest.mark.parametrize("metric", ["euclidean", "angular"])
def test_a_duplicate_is_at_distance_zero_and_a_row_is_never_its_own_neighbour(d, metric):
    X = np.repeat(blobs(20, d), 3, axis=0).astype(np.float32)
    found = exact_neighbours(X, 2, metric)
    assert found.distances.max() < 1e-7 * np.linalg.norm(X, axis=1).max()
    assert (np.sort(found.indices // 3) == np.arange(60)[:, None] // 3).all()
    assert (found.indices != np.arange(60)[:, None]).all()
    assert (np.diff(found.indices, axis=1) > 0).all()  # equal distances: by row number


def test_rows_that_are_all_alike_have_neighbours_all_the_same():
    found = exact_neighbours(np.full((6, 3), 2.5), 5)
    assert (found.distances == 0).all()
    expected = [[j for j in range(6) if j != i] for i in range(6)]
    assert found.indices.tolist() == expected


def test_a_zero_row_is_at_a_right_angle_to_every_row():
    X = np.vstack([np.zeros((2, 3)), np.eye(3), -np.eye(3)])
    found = exact_neighbours(X, 7, "angular")
    np.testing.assert_allclose(found.distances[0], np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(found.distances[2, -1], 2, rtol=1e-6)  # its opposite comes last


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e30])
def test_angular_neighbours_do_not_depend_on_the_lengths_of_rows(factor):
    X = blobs(80, 12).astype(np.float32)
    scaled = X * np.float32(factor) * np.linspace(1, 5, 80, dtype=np.float32)[:, None]
    plain, other = exact_neighbours(X, 10, "angular"), exact_neighbours(scaled, 10, "angular")
    assert (plain.indices == other.indices).mean() > 0.995
    np.testing.assert_allclose(plain.distances, other.distances, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 30), st.integers(1, 6), st.integers(0, 10_000), st.floats(0.01, 100))
def test_scaling_and_shifting_all_rows_changes_no_euclidean_neighbour(n, d, seed, scale):
    X = np.random.default_rng(seed).standard_normal((n, d))
    k = n - 1
    a, b = exact_neighbours(X, k), exact_neighbours(scale * X + 7, k)
    np.testing.assert_allclose(b.distances, scale * a.distances, rtol=1e-4, atol=1e-6 * scale)
    assert sorted(a.indices[0].tolist()) == list(range(1, n))


@pytest.mark.parametrize("d", [12, 400])
@pytest.mark.parametrize("factor", [2.0**-100, 2.0**100])
def test_tiny_and_huge_rows_have_the_neighbours_of_others(d, factor):
    X = blobs(80, d).astype(np.float32)
    plain, other = exact_neighbours(X, 10), exact_neighbours(X * np.float32(factor), 10)
    assert (plain.indices == other.indices).all()
    assert (other.distances == plain.distances * np.float32(factor)).all()


@pytest.mark.parametrize("d", [12, 400])
def test_rows_as_large_as_numbers_can_be_are_found_or_refused(d):
    line = np.zeros((20, d), np.float32)
    line[:, 0] = np.linspace(-1, 1, 20) * 1e38
    found = exact_neighbours(line, 3)
    assert found.indices[0].tolist() == [1, 2, 3]
    assert found.distances[0, 0] == pytest.approx(2e38 / 19, rel=1e-4)
    with pytest.raises(ValueError, match="too large for float32"):
        exact_neighbours(line.astype(np.float64) * 1e200, 3)


def test_rows_far_from_zero_and_near_to_each_other_are_told_apart():
    X = 2.0**90 + 2.0**60 * np.random.default_rng(0).standard_normal((50, 300))
    found, expected = exact_neighbours(X, 5), brute_force(X - 2.0**90, 5, "euclidean")  # which is exact
    assert (found.indices == expected[1]).mean() > 0.99
    np.testing.assert_allclose(found.distances, expected[0], rtol=1e-4)


def test_tiny_rows_keep_their_order():
    X = 2.0**-140 * np.arange(1, 9, dtype=np.float32)[:, None] * np.ones((1, 300), np.float32)
    assert exact_neighbours(X, 1).indices[0, 0] == 1


def test_k_runs_from_1_to_n_minus_1():
    X = blobs(5, 2)
    assert exact_neighbours(X, 4).k == 4
    assert exact_neighbours(X, 1).k == 1
    for k in (0, -1, 5):
        with pytest.raises(ValueError, match=rf"k={k} .*n=5"):
            exact_neighbours(X, k)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    X = blobs(9, 2)
    X[4, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        exact_neighbours(X, 2)


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"\(4,\)"):
        exact_neighbours(np.zeros(4), 1)
    with pytest.raises(ValueError, match="manhattan"):
        exact_neighbours(np.zeros((4, 2)), 1, "manhattan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="block=0"):
        exact_neighbours(np.zeros((4, 2)), 1, block=0)


@pytest.mark.parametrize("metric", ["euclidean", "angular"])
@pytest.mark.parametrize("d", [10, 300])
def test_input_is_left_alone_whether_array_or_tensor_and_may_be_read_only(metric, d):
    for X in (blobs(30, d), blobs(30, d).astype(np.float32)):
        before = X.copy()
        X.setflags(write=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            from_array = exact_neighbours(X, 4, metric)
        tensor = torch.tensor(before)
        from_tensor = exact_neighbours(tensor, 4, metric)
        assert (before == X).all()
        assert (tensor.numpy() == before).all()
        assert (from_array.indices == from_tensor.indices).all()


def test_columns_may_be_strided():
    X = np.asfortranarray(blobs(40, 6))
    assert (exact_neighbours(X[:, ::2], 3).indices == exact_neighbours(X[:, ::2].copy(), 3).indices).all()
