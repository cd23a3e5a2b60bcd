"""Ranks, dimensions and collapse of layers against NumPy, scikit-dimension and analytic cases."""

from __future__ import annotations

import numpy as np
import pytest
from metric_views import clusters, layer_view, rotation

from kdbench_metrics.dimension import EffectiveRank, IntrinsicDimension
from kdbench_metrics.neural_collapse import NeuralCollapse


def values(metric, view):
    return metric(view).values


# -- effective rank


@pytest.mark.parametrize("shape", [(60, 7), (40, 500)])
def test_effective_rank_uses_singular_values(shape):
    X = (np.random.default_rng(11).standard_normal(shape) * np.geomspace(1, 30, shape[1]) + 5).astype(
        np.float32
    )
    found = values(EffectiveRank(), layer_view(X))
    for name, data in (
        ("uncentred", X.astype(np.float64)),
        ("effective_rank", X - X.mean(0, dtype=np.float64)),
    ):
        s = np.linalg.svd(data, compute_uv=False)
        s = s[s > 1e-6 * s[0]] / s[s > 1e-6 * s[0]].sum()
        assert found[name] == pytest.approx(np.exp(-(s * np.log(s)).sum()), rel=1e-5)


def test_effective_rank_of_analytic_spectra():
    basis = rotation(2, 64)[:, :6]
    even = np.vstack([basis.T, -basis.T])  # six directions, each as much as the others
    assert values(EffectiveRank(), layer_view(even))["effective_rank"] == pytest.approx(6, rel=1e-5)
    line = np.outer(np.arange(30) - 14.5, np.ones(5))
    assert values(EffectiveRank(), layer_view(line))["effective_rank"] == pytest.approx(1, abs=1e-5)
    same = np.tile(np.arange(1, 6), (20, 1))
    assert values(EffectiveRank(), layer_view(same)) == {"uncentred": pytest.approx(1, abs=1e-5)}
    assert values(EffectiveRank(), layer_view(np.zeros((20, 5)))) == {}


def test_effective_rank_subsamples_and_reports_n():
    X = np.random.default_rng(12).standard_normal((300, 400))
    result = EffectiveRank(max_points=50)(layer_view(X))
    assert result.setting == "n=50"
    assert 40 < result.values["effective_rank"] <= 49


# -- intrinsic dimension


@pytest.mark.parametrize("d", [2, 5])
def test_twonn_dimension_of_embedded_cube(d):
    cube = np.random.default_rng(13).random((1000, d))
    X = cube @ np.random.default_rng(14).standard_normal((d, 40))
    found = values(IntrinsicDimension(), layer_view(X))
    for name in ("linear", "mle", "linear_half"):
        assert found[name] == pytest.approx(d, rel=0.12), name


def test_twonn_equals_scikit_dimension():
    skdim = pytest.importorskip("skdim")
    X, _ = clusters(15, 400, 9, 5)
    found = values(IntrinsicDimension(), layer_view(X))
    for method in ("linear", "mle"):
        oracle = skdim.id.TwoNN(method=method).fit(X.astype(np.float64)).dimension_
        assert found[method] == pytest.approx(oracle, rel=1e-4)


def test_twonn_fits_line_of_the_paper():
    X, _ = clusters(16, 200, 6, 2)
    D = np.linalg.norm(X[:, None].astype(np.float64) - X[None], axis=2)
    D.sort(axis=1)
    mu = np.sort(D[:, 2] / D[:, 1])
    x, y = np.log(mu[:180]), -np.log(1 - np.arange(1, 181) / 200)
    slope = np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]
    found = values(IntrinsicDimension(), layer_view(X))
    assert found["linear"] == pytest.approx(slope, rel=1e-4)
    assert found["mle"] == pytest.approx(179 / (x.sum() + 20 * x[-1]), rel=1e-4)


def test_duplicate_images_do_not_change_dimension():
    X, _ = clusters(17, 300, 4, 1)
    once = values(IntrinsicDimension(), layer_view(np.unique(X, axis=0)))
    assert values(IntrinsicDimension(), layer_view(np.vstack([X, X[:100]]))) == once
    assert values(IntrinsicDimension(), layer_view(np.ones((50, 4)))) == {}


# -- neural collapse


def simplex(classes: int, d: int) -> np.ndarray:
    """Rows of equal length at the largest equal angles, about 0."""
    return (np.eye(classes) - 1 / classes) @ rotation(3, d)[:classes]


def collapsed(n: int = 60, classes: int = 6, d: int = 10, noise: float = 0.0, seed: int = 0):
    labels = np.arange(n) % classes
    M = simplex(classes, d)
    X = M[labels] + 2 + noise * np.random.default_rng(seed).standard_normal((n, d))
    return X.astype(np.float32), labels, M


def test_collapsed_network_has_zero_nc1_to_nc4():
    X, labels, M = collapsed()
    view = layer_view(X, labels, logits=(X - X.mean(0)) @ M.T, head=(3 * M, np.zeros(6)))
    found = values(NeuralCollapse(), view)
    assert set(found) == {"nc1", "nc2_norms", "nc2_angles", "nc3", "nc4"}
    assert all(v == pytest.approx(0, abs=1e-5) for v in found.values()), found


def test_each_value_measures_one_property():
    X, labels, M = collapsed()
    rng = np.random.default_rng(1)

    def measure(X, head, logits=None):
        logits = X @ head.T if logits is None else logits
        return values(NeuralCollapse(), layer_view(X, labels, logits=logits, head=(head, np.zeros(6))))

    opposite = measure(X, -M)
    assert opposite["nc3"] == pytest.approx(4)
    assert opposite["nc4"] > 0.5
    wrong = np.eye(6)[labels]
    wrong[:15] = np.roll(wrong[:15], 1, axis=1)
    assert measure(X, M, wrong)["nc4"] == pytest.approx(15 / 60)
    longer = (M * np.array([1, 1, 1, 1, 1, 3])[:, None])[labels]
    assert measure(longer, M)["nc2_norms"] > 0.2
    loose = measure(X + 0.3 * rng.standard_normal(X.shape), M)
    assert loose["nc1"] > measure(X + 0.1 * rng.standard_normal(X.shape), M)["nc1"] > 1e-3


def test_neural_collapse_equals_definitions_of_the_paper():
    X, labels, _ = collapsed(n=90, noise=0.4, seed=2)
    X = X.astype(np.float64)
    head = np.random.default_rng(3).standard_normal((6, 10)).astype(np.float32)
    found = values(NeuralCollapse(), layer_view(X, labels, logits=X @ head.T, head=(head, np.zeros(6))))
    X = X.astype(np.float32).astype(np.float64)
    means = np.stack([X[labels == c].mean(0) for c in range(6)])
    M = means - means.mean(0)
    within = np.mean([np.outer(r, r) for r in X - means[labels]], axis=0)
    between = np.mean([np.outer(m, m) for m in M], axis=0)
    assert found["nc1"] == pytest.approx(np.trace(within @ np.linalg.pinv(between, rcond=1e-9)) / 6, rel=1e-6)
    norms = np.linalg.norm(M, axis=1)
    assert found["nc2_norms"] == pytest.approx(norms.std() / norms.mean())
    cos = [M[i] @ M[j] / norms[i] / norms[j] for i in range(6) for j in range(i)]
    assert found["nc2_angles"] == pytest.approx(np.mean(np.abs(np.array(cos) + 1 / 5)))
    gap = head / np.linalg.norm(head) - M / np.linalg.norm(M)
    assert found["nc3"] == pytest.approx(np.linalg.norm(gap) ** 2, rel=1e-5)
    nearest = np.linalg.norm(X[:, None] - means[None], axis=2).argmin(1)
    assert found["nc4"] == np.mean(nearest != (X @ head.T).argmax(1))


def test_undefined_neural_collapse_values_are_absent():
    X, labels, M = collapsed()
    wide = values(NeuralCollapse(), layer_view(np.hstack([X, X]), labels, logits=X @ M.T, head=(M, 0)))
    assert "nc3" not in wide
    assert "nc1" in wide
    same = layer_view(np.ones((12, 4)), np.arange(12) % 3, logits=np.eye(3)[np.arange(12) % 3], head=(M, 0))
    assert set(values(NeuralCollapse(), same)) == {"nc4"}
    one = layer_view(X, np.zeros(60, int), logits=X @ M.T, head=(M, 0))
    assert values(NeuralCollapse(), one) == {}
