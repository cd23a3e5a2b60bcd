"""t-SNE and UMAP use the exact neighbours they are given, and wide layers never become an n x n matrix."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from kdbench.api import Neighbours, exact_neighbours
from kdbench_reducers.tsne import TSNE


def rows(n: int = 150, d: int = 20) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)


def of_other_rows(k: int, n: int = 150) -> Neighbours:
    """Neighbours that no search in `rows()` would find."""
    return exact_neighbours(np.random.default_rng(1).standard_normal((n, 3)), k)


def test_tsne_searches_for_nothing(monkeypatch):
    """More rows than openTSNE's own limit for exact search, and every index it could build is broken."""
    from openTSNE import nearest_neighbors

    def broken(*_, **__):
        raise AssertionError("openTSNE searches for neighbours itself")

    for name in ("Annoy", "HNSW", "NNDescent", "Sklearn", "BallTree"):
        if hasattr(nearest_neighbors, name):
            monkeypatch.setattr(getattr(nearest_neighbors, name), "build", broken)
    found = TSNE(perplexity=5, n_iter=10, early_exaggeration_iter=5, random_state=0)
    X = rows(1100)
    assert np.isfinite(found.fit_transform(X)).all()
    other = found.fit_transform(X, neighbours=of_other_rows(15, 1100))
    assert not np.allclose(other, TSNE(perplexity=5, n_iter=10, early_exaggeration_iter=5).fit_transform(X))


def test_tsne_s_affinities_lie_where_the_neighbours_are():
    given = of_other_rows(15)
    P = TSNE(perplexity=5).affinities(given).P.tocsr()
    named = np.zeros((150, 150), bool)
    np.put_along_axis(named, given.indices, True, axis=1)
    assert np.array_equal(P.toarray() > 0, named | named.T)


@pytest.mark.slow
def test_umap_searches_for_nothing(monkeypatch):
    from kdbench_reducers.umap import UMAP, import_umap

    import_umap()
    module = sys.modules["umap.umap_"]

    class Broken:
        def __init__(self, *_, **__):
            raise AssertionError("umap-learn searches for neighbours itself")

    monkeypatch.setattr(module, "NNDescent", Broken)
    X, kept = rows(4200), {}  # from 4,096 rows on umap-learn would use NN-descent
    original = module.UMAP.fit_transform

    def spy(self, *args, **keywords):
        points = original(self, *args, **keywords)
        kept["indices"] = self._knn_indices
        return points

    monkeypatch.setattr(module.UMAP, "fit_transform", spy)
    given = of_other_rows(14, 4200)
    assert np.isfinite(
        UMAP(n_epochs=2, random_state=0, init="random").fit_transform(X, neighbours=given)
    ).all()
    assert np.array_equal(kept["indices"][:, 1:], given.indices)


def test_wide_neighbours_never_hold_an_n_by_n_matrix():
    """The peak above the data of a process that finds them, against 8 n^2 bytes; in whole rows, then in squares."""
    n, widths = 3500, (300, 2100)
    code = f"""
import resource, numpy as np, torch
from kdbench.api import exact_neighbours
torch.set_num_threads(1)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for d in {widths}:
    X = np.random.default_rng(0).standard_normal(({n}, d), dtype=np.float32)
    exact_neighbours(X[:600], 5, block=64)
    before = peak()
    exact_neighbours(X, 15, block=128)
    print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    matrix = n * n * 8 / 2**20
    for d, grown in zip(widths, done.stdout.split(), strict=True):
        assert float(grown) < n * d * 4 / 2**20 + 0.3 * matrix
