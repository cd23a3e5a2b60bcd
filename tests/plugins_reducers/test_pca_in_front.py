"""The parameter `pca`: what a reducer sees then, and what it says of it."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from kdbench.api import exact_neighbours
from kdbench.errors import UsageError
from kdbench.suite.schema import Component
from kdbench_reducers._base import kept_share
from kdbench_reducers.linear import PCA

QUICK = {
    "tsne:TSNE": {"perplexity": 8, "n_iter": 30, "early_exaggeration_iter": 20},
    "umap:UMAP": {"n_epochs": 10},
    "ivis_torch:IvisTorch": {"k": 15, "epochs": 3, "device": "cpu"},
}
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n == "umap:UMAP" else n for n in QUICK]


def build(target: str, **params):
    module, _, name = target.partition(":")
    found = getattr(importlib.import_module(f"kdbench_reducers.{module}"), name)
    return found(**{**QUICK.get(target, {}), "random_state": 0, **params})


def data(n: int = 200, d: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((n, d)) * 2 / np.sqrt(np.arange(1, d + 1))).astype(np.float32)


@pytest.mark.parametrize("target", NAMES)
def test_the_reducer_sees_the_components_and_their_neighbours(target):
    X = data()
    components = PCA(n_components=4, random_state=0).fit_transform(X)
    reducer = build(target, pca=4)
    points = reducer.fit_transform(X)
    assert np.array_equal(points, build(target).fit_transform(components))
    # Injected neighbours are those of the rows: they serve the diagnostic, not the fit.
    k, metric = reducer.neighbours_wanted(len(X))
    injected = build(target, pca=4)
    assert np.array_equal(injected.fit_transform(X, neighbours=exact_neighbours(X, k + 5, metric)), points)
    assert injected.diagnostics_ == reducer.diagnostics_
    assert reducer.n_features_in_ == 40


@pytest.mark.parametrize("target", NAMES)
def test_the_share_of_neighbours_that_the_components_keep_is_reported(target):
    X = data()
    reducer = build(target, pca=4)
    reducer.fit(X)
    k, metric = reducer.neighbours_wanted(len(X))
    components = PCA(n_components=4, random_state=0).fit_transform(X)
    before, after = (exact_neighbours(Z, k, metric).indices for Z in (X, components))
    expected = np.mean([len(set(a) & set(b)) / k for a, b in zip(before, after, strict=True)])
    assert reducer.diagnostics_["pca_kept_neighbours"] == pytest.approx(expected)
    assert 0.2 < expected < 0.9
    assert 0 < reducer.diagnostics_["pca_explained_variance_ratio"] < 1
    assert "pca_kept_neighbours" not in build(target).fit(X).diagnostics_


def test_all_components_keep_every_neighbour_and_no_more_exist():
    X = data()
    found = build("tsne:TSNE", pca=40).fit(X)
    assert found.diagnostics_["pca_kept_neighbours"] > 0.999
    assert found.diagnostics_["pca_explained_variance_ratio"] == pytest.approx(1, abs=1e-4)
    with pytest.raises(UsageError, match="pca=41 of 200 rows and 40 features"):
        build("tsne:TSNE", pca=41).fit(X)


def test_new_rows_pass_the_components_too():
    X = data(300)
    reducer = build("ivis_torch:IvisTorch", pca=6)
    points = reducer.fit_transform(X)
    np.testing.assert_allclose(reducer.transform(X), points, atol=1e-3 * np.abs(points).max())
    assert reducer.transform(X[:7] + 1).shape == (7, 2)


def test_kept_share_of_none_and_of_half():
    X = data(50)
    near = exact_neighbours(X, 10)
    assert kept_share(near, near) == 1
    far = exact_neighbours(X, 49)
    rest = type(near)(far.indices[:, 5:15], far.distances[:, 5:15], near.metric)
    assert kept_share(near, rest) == 0.5


@pytest.mark.parametrize("target", ["tsne:TSNE", "umap:UMAP", "ivis_torch:IvisTorch", "ivis:Ivis"])
def test_it_is_off_by_default_checked_and_in_the_title(target):
    assert build(target).pca is None
    with pytest.raises(ValueError, match="pca=0: "):
        build(target, pca=0)
    assert Component(name="tsne", params={"pca": 50}).title == "tsne[pca=50]"
