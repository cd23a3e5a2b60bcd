"""PCA, random projection, t-SNE and UMAP against NumPy and the published packages."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

from kdbench.api import exact_neighbours
from kdbench_reducers.linear import PCA, RandomProjection
from kdbench_reducers.tsne import TSNE


def data(n: int = 300, d: int = 20, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) * 4 / np.arange(1, d + 1)).astype(np.float32)


def up_to_sign(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a` with each column's sign turned to that of `b`."""
    return a * np.sign((a * b).sum(axis=0))


@pytest.mark.parametrize(("n", "d"), [(300, 20), (600, 50), (40, 700)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_pca_is_the_svd_of_the_centred_data_even_far_from_zero(n, d, offset):
    X = data(n, d) + np.float32(offset)
    exact = X.astype(np.float64)
    exact -= exact.mean(axis=0)
    u, s, _ = np.linalg.svd(exact, full_matrices=False)
    found = PCA(random_state=0)
    points = found.fit_transform(X)
    expected = u[:, :2] * s[:2]
    np.testing.assert_allclose(up_to_sign(points, expected), expected, atol=2e-3 * s[0] / np.sqrt(n))
    ratio = found.diagnostics_["explained_variance_ratio"]
    assert ratio == pytest.approx((s[:2] ** 2).sum() / (s**2).sum(), rel=1e-3)


def test_pca_of_rows_that_are_all_alike_is_zero_without_a_ratio():
    found = PCA()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert (found.fit_transform(np.full((5, 3), 2.0)) == 0).all()
    assert found.diagnostics_ == {}


def test_random_projection_is_linear_and_keeps_squared_lengths_on_average():
    X = data(50, 30)
    found = RandomProjection(n_components=400, random_state=0)
    points = found.fit_transform(X)
    np.testing.assert_allclose(found.transform(2 * X), 2 * points, rtol=1e-5)
    assert (np.square(points).sum(1) / np.square(X).sum(1)).mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("metric", ["euclidean", "angular"])
def test_tsne_affinities_are_those_of_opentsne_with_exact_neighbours(metric):
    from openTSNE.affinity import PerplexityBasedNN

    X = data().astype(np.float64)
    reference = X if metric == "euclidean" else X / np.linalg.norm(X, axis=1, keepdims=True)
    theirs = PerplexityBasedNN(reference, perplexity=12, method="exact").P
    ours = TSNE(perplexity=12).affinities(exact_neighbours(X, 36, metric)).P
    assert abs(ours - theirs).max() < 1e-7
    assert ours.sum() == pytest.approx(1)


def test_tsne_is_opentsne_on_the_same_affinities():
    import openTSNE

    X = data()
    ours = TSNE(perplexity=10, n_iter=30, early_exaggeration_iter=20, random_state=5)
    points = ours.fit_transform(X)
    model = openTSNE.TSNE(
        perplexity=10, n_iter=30, early_exaggeration_iter=20, random_state=5, neighbors="exact", n_jobs=1
    )
    theirs = model.fit(X)
    # Thirty steps of a chaotic map: the rounding of affinities has grown, the picture has not changed.
    np.testing.assert_allclose(points, np.asarray(theirs), atol=0.02 * np.abs(points).max())
    assert ours.diagnostics_["kl_divergence"] == pytest.approx(theirs.kl_divergence, rel=1e-3)


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"negative_gradient_method": "fft"}, marks=pytest.mark.slow),
        {"initialization": "spectral"},
    ],
)
def test_tsne_takes_other_gradients_and_starts(params):
    found = TSNE(perplexity=10, n_iter=200, early_exaggeration_iter=100, random_state=0, **params)
    default = TSNE(perplexity=10, n_iter=200, early_exaggeration_iter=100, random_state=0)
    assert not np.array_equal(found.fit_transform(data()), default.fit_transform(data()))
    assert found.diagnostics_["kl_divergence"] == pytest.approx(
        default.diagnostics_["kl_divergence"], rel=0.15
    )


@pytest.mark.slow
def test_umap_has_the_graph_of_umap_learn_and_warns_of_nothing():
    from kdbench_reducers.umap import UMAP, import_umap

    umap = import_umap()

    X = data()
    kept = {}

    class Spy(umap.UMAP):
        def fit_transform(self, X, y=None):
            points = super().fit_transform(X, y)
            kept["graph"] = self.graph_
            return points

    original, umap.UMAP = umap.UMAP, Spy
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            UMAP(n_epochs=5, random_state=0).fit_transform(X)
    finally:
        umap.UMAP = original
    assert [str(w.message) for w in seen if "umap" in str(w.filename)] == []
    theirs = original(n_epochs=5, random_state=0, n_jobs=1).fit(X).graph_
    assert abs(kept["graph"] - theirs).max() < 1e-4


@pytest.mark.slow
def test_umap_brings_no_tensorflow_and_leaves_it_importable():
    code = (
        "import sys, torch; from kdbench_reducers.umap import import_umap; import_umap().UMAP;"
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
