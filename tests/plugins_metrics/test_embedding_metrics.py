"""Metrics of embeddings against scikit-learn and worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from metric_views import clusters, embedding_view, rotation
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from kdbench_metrics._layers import DOUBLE_WIDTH, ranks
from kdbench_metrics.embeddings import Continuity, NeighbourhoodHit, Silhouette, Trustworthiness


def value(metric, view):
    return metric(view).values


@pytest.fixture(scope="module")
def pair():
    """A layer, an embedding that tears it, and labels."""
    X, labels = clusters(0, 150, 20, 5, noise=1.5)
    return X, X[:, :2] + 0.1 * X[:, 2:4], labels


@pytest.mark.parametrize("k", [1, 5, 40])
def test_trustworthiness_and_continuity_equal_scikit_learn(pair, k):
    X, points, _ = pair
    view = embedding_view(points, X)
    assert value(Trustworthiness(k=k), view) == {
        "trustworthiness": pytest.approx(trustworthiness(X, points, n_neighbors=k), abs=1e-9)
    }
    assert value(Continuity(k=k), view) == {  # the same with the spaces exchanged
        "continuity": pytest.approx(trustworthiness(points, X, n_neighbors=k), abs=1e-9)
    }


def test_angular_trustworthiness_equals_scikit_learn(pair):
    X, points, _ = pair
    found = value(Trustworthiness(k=7, metric="angular"), embedding_view(points, X))["trustworthiness"]
    assert found == pytest.approx(trustworthiness(X, points, n_neighbors=7, metric="cosine"), abs=1e-9)


def test_ranks_are_exact_for_tight_distant_clusters():
    rng = np.random.default_rng(1)
    d = DOUBLE_WIDTH + 1
    X = 50 * rng.standard_normal((4, d))[np.arange(200) % 4] + 1e-2 * rng.standard_normal((200, d)) + 30
    X, points = X.astype(np.float32), rng.standard_normal((200, 2))
    found = value(Trustworthiness(k=9), embedding_view(points, X))["trustworthiness"]
    oracle = trustworthiness(X.astype(np.float64), points.astype(np.float32), n_neighbors=9)
    assert found == pytest.approx(oracle, abs=1e-9)


def test_ranks_count_nearer_rows():
    X = np.array([[0.0], [1.0], [3.0], [3.5], [10.0]])
    index = np.array([[4, 1], [0, 2], [3, 0], [2, 4], [3, 0]])
    np.testing.assert_array_equal(ranks(X, index, "euclidean"), [[4, 1], [1, 2], [1, 3], [1, 4], [1, 4]])


def test_isometric_embedding_scores_one_and_random_half():
    rng = np.random.default_rng(2)
    points = rng.standard_normal((300, 2))
    same = embedding_view(points @ rotation(0, 2) * 7 + 2, points)
    assert value(Trustworthiness(), same)["trustworthiness"] == 1.0
    assert value(Continuity(), same)["continuity"] == 1.0
    other = embedding_view(rng.standard_normal((300, 2)), points)
    assert value(Trustworthiness(), other)["trustworthiness"] == pytest.approx(0.5, abs=0.03)
    assert value(Continuity(), other)["continuity"] == pytest.approx(0.5, abs=0.03)


def test_merging_lowers_trustworthiness_and_splitting_lowers_continuity():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((200, 2)) + np.where(np.arange(200)[:, None] < 100, 0, [[50, 0]])
    glued = np.where(np.arange(200)[:, None] < 100, X, X - [[50, 0]])
    assert value(Trustworthiness(), embedding_view(glued, X))["trustworthiness"] < 0.8
    assert value(Continuity(), embedding_view(glued, X))["continuity"] > 0.95
    assert value(Trustworthiness(), embedding_view(X, glued))["trustworthiness"] > 0.95
    assert value(Continuity(), embedding_view(X, glued))["continuity"] < 0.8


def test_silhouette_equals_definition(pair):
    _, points, labels = pair
    result = Silhouette()(embedding_view(points, labels=labels))
    D = np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=2)
    by_hand = []
    for i, c in enumerate(labels):
        own = D[i, labels == c].sum() / ((labels == c).sum() - 1)
        other = min(D[i, labels == o].mean() for o in set(labels) - {c})
        by_hand.append((other - own) / max(own, other))
    assert result.values["silhouette"] == pytest.approx(np.mean(by_hand), abs=1e-5)
    np.testing.assert_allclose(result.arrays["silhouette"], by_hand, atol=1e-4)


def test_silhouette_of_distant_classes_and_of_one_class():
    points = np.random.default_rng(4).standard_normal((40, 2)) + 1e4 * (np.arange(40)[:, None] % 2)
    found = value(Silhouette(), embedding_view(points, labels=np.arange(40) % 2))
    assert found["silhouette"] == pytest.approx(1, abs=1e-3)
    assert value(Silhouette(), embedding_view(points, labels=np.zeros(40, int))) == {}
    assert value(Silhouette(), embedding_view(points, labels=np.arange(40))) == {}


def test_neighbourhood_hit_equals_scikit_learn_neighbours(pair):
    _, points, labels = pair
    near = NearestNeighbors(n_neighbors=7).fit(points).kneighbors(return_distance=False)
    found = value(NeighbourhoodHit(k=7), embedding_view(points, labels=labels))
    assert found["hit"] == pytest.approx(np.mean(labels[near] == labels[:, None]))
    assert found["hit"] > found["chance"] == pytest.approx(29 / 149)


def test_random_hit_equals_chance():
    rng = np.random.default_rng(5)
    labels = rng.choice(4, 3000, p=[0.1, 0.2, 0.3, 0.4])
    found = value(NeighbourhoodHit(), embedding_view(rng.standard_normal((3000, 2)), labels=labels))
    assert found["hit"] == pytest.approx(found["chance"], abs=0.015)


@pytest.mark.parametrize("metric", [Trustworthiness, Continuity, NeighbourhoodHit])
def test_k_too_large_is_rejected_before_a_run(metric):
    with pytest.raises(ValueError, match="k=50: below"):
        metric(k=50).neighbours_wanted(50)
    with pytest.raises(ValueError, match="k=0"):
        metric(k=0)


@pytest.mark.parametrize("metric", [Silhouette, Trustworthiness, Continuity, NeighbourhoodHit])
def test_mismatched_points_are_rejected(metric):
    view = embedding_view(np.zeros((30, 2)))
    view.labels = view.labels[:20]
    with pytest.raises(ValueError, match="do not fit"):
        metric()(view)
    view = embedding_view(np.full((30, 2), np.nan), np.zeros((30, 2)))
    with pytest.raises(ValueError, match="not finite"):
        metric()(view)
