"""Metrics of layers against scikit-learn and NumPy, their invariances, and analytic cases."""

from __future__ import annotations

import time

import numpy as np
import pytest
from metric_views import clusters, layer_view, rotation
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from kdbench_metrics.cka import Cka, u_centred
from kdbench_metrics.dimension import EffectiveRank, IntrinsicDimension
from kdbench_metrics.neural_collapse import NeuralCollapse
from kdbench_metrics.probes import RIDGES, KnnAccuracy, LinearProbe, fold_numbers, majority, ridge_predictions


def values(metric, view):
    return metric(view).values


# -- neighbours


def test_knn_accuracy_is_leave_one_out():
    X, labels = clusters(0, 120, 8, 4, noise=2.5)
    found = values(KnnAccuracy(k=1), layer_view(X, labels))
    ours = cross_val_predict(KNeighborsClassifier(1), X, labels, cv=LeaveOneOut())
    assert found["accuracy"] == found["nearest"] == np.mean(ours == labels)
    assert 0.3 < found["accuracy"] < 1


def test_majority_vote_with_ties_to_nearest():
    votes = np.array([[3, 1, 1], [2, 1, 0], [1, 2, 2], [2, 1, 1]])
    np.testing.assert_array_equal(majority(votes), [1, 2, 2, 1])
    np.testing.assert_array_equal(majority(np.array([[5, 7, 7, 5]])), [5])
    X, labels = clusters(1, 150, 5, 3, noise=3)
    by_hand = []
    for i in range(len(X)):
        near = np.argsort(np.linalg.norm(X - X[i].astype(np.float64), axis=1))[1:8]
        count = np.bincount(labels[near], minlength=3)
        by_hand.append(next(labels[j] for j in near if count[labels[j]] == count.max()))
    assert values(KnnAccuracy(k=7), layer_view(X, labels))["accuracy"] == np.mean(by_hand == labels)


# -- linear probe


@pytest.mark.parametrize("d", [5, 300])
def test_probe_equals_scikit_learn_ridge_classifier(d):
    X, labels = clusters(2, 150, d, 4, noise=4)
    K = np.asarray(X, np.float64) @ X.T
    inside, outside = np.arange(100), np.arange(100, 150)
    centred = X[inside] - X[inside].mean(0, dtype=np.float64)
    for ridge in (1e-3, 1.0):
        alpha = ridge * np.square(centred).sum(1).mean()
        oracle = RidgeClassifier(alpha=alpha).fit(X[inside].astype(np.float64), labels[inside])
        trained, held = ridge_predictions(K, inside, outside, labels, (ridge,))
        np.testing.assert_array_equal(trained, oracle.predict(X[inside]))
        np.testing.assert_array_equal(held, oracle.predict(X[outside]))


def test_ridge_has_best_leave_one_out_accuracy():
    X, labels = clusters(3, 40, 30, 3, noise=6)
    X = X.astype(np.float64)
    scale = np.square(X - X.mean(0)).sum(1).mean()
    good = []
    for ridge in RIDGES:
        predicted = cross_val_predict(RidgeClassifier(alpha=ridge * scale), X, labels, cv=LeaveOneOut())
        good.append(np.mean(predicted == labels))
    best = max(r for r, g in zip(RIDGES, good, strict=True) if g == max(good))
    assert len(set(good)) > 1
    everything = np.arange(40)
    one, other = (ridge_predictions(X @ X.T, everything, everything, labels, r)[0] for r in (RIDGES, (best,)))
    np.testing.assert_array_equal(one, other)


def test_probe_of_separable_classes_and_of_noise():
    rng = np.random.default_rng(4)
    labels = np.arange(400) % 2
    X = rng.standard_normal((400, 30))
    assert values(LinearProbe(), layer_view(X, labels))["accuracy"] == pytest.approx(0.5, abs=0.1)
    X[:, 7] += 10 * labels
    found = values(LinearProbe(), layer_view(X, labels))
    assert found["accuracy"] == found["train_accuracy"] == 1.0


def test_probe_is_invariant_to_rotation_scale_and_translation():
    X, labels = clusters(5, 200, 12, 5, noise=3)
    before = values(LinearProbe(), layer_view(X, labels))
    assert values(LinearProbe(), layer_view(3 * X @ rotation(0, 12) + 1, labels)) == before


def test_folds_are_a_stratified_partition():
    labels = np.repeat(np.arange(10), 13)
    held = fold_numbers(labels, 5)
    assert sorted(np.bincount(held)) == [26] * 5
    for c in range(10):
        assert max(np.bincount(held[labels == c], minlength=5)) <= 3
    assert not np.array_equal(held[:13], np.sort(held[:13]))  # at random within a class


def test_probe_of_one_class_is_rejected():
    with pytest.raises(ValueError, match="of 1 classes"):
        LinearProbe()(layer_view(np.eye(10)))


# -- CKA


def hsic(K, L):
    """Song et al. 2012, equation 5."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    whole = one @ K @ one * (one @ L @ one) / ((n - 1) * (n - 2))
    return (np.trace(K @ L) + whole - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3))


def with_teacher(X, taps):
    """A view at tap E with a teacher that has layers `taps`."""
    teacher = layer_view(X)
    teacher.taps = tuple(taps)
    teacher.features_at = lambda tap: np.asarray(taps[tap], np.float32)
    return layer_view(X, teacher=teacher)


def cka_of(X, Y, **params):
    return Cka(**params).alignments(np.asarray(X, np.float32), [np.asarray(Y, np.float32)])[0]


def test_cka_equals_equation():
    rng = np.random.default_rng(6)
    X, Y = rng.standard_normal((50, 6)), rng.standard_normal((50, 9))
    Y[:, :3] += X[:, :3]
    K, L = X @ X.T, Y @ Y.T
    expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    assert cka_of(X, Y) == pytest.approx(expected, rel=1e-4)
    order = np.random.default_rng(0).permutation(50)  # numerator and denominators are summed first
    parts = [
        [hsic(a[np.ix_(rows, rows)], b[np.ix_(rows, rows)]) for a, b in ((K, L), (K, K), (L, L))]
        for rows in np.array_split(order, 3)
    ]
    cross, own, theirs = np.sum(parts, axis=0)
    assert cka_of(X, Y, batch_size=20) == pytest.approx(cross / np.sqrt(own * theirs), rel=1e-4)


def test_u_centred_matrices_have_zero_row_sums():
    K = np.random.default_rng(7).standard_normal((9, 9))
    A = u_centred(K + K.T)
    np.testing.assert_allclose(A.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_array_equal(np.diag(A), 0)


def test_cka_is_invariant_to_rotation_scale_and_translation():
    X = np.random.default_rng(8).standard_normal((300, 10))
    assert cka_of(X, 5 * X @ rotation(1, 10) + 3) == pytest.approx(1, abs=1e-5)
    stretched = X * np.arange(1, 11) ** 2
    assert cka_of(X, stretched) < 0.9  # but on its stretching
    assert cka_of(X, stretched) == pytest.approx(cka_of(stretched, X))


def test_cka_of_unrelated_wide_layers_is_zero():
    rng = np.random.default_rng(9)
    found = [cka_of(rng.standard_normal((64, 2000)), rng.standard_normal((64, 2000))) for _ in range(10)]
    assert abs(np.mean(found)) < 0.02
    assert np.ptp(found) > 0


def test_cka_has_no_value_for_constant_layer():
    X, _ = clusters(10, 80, 6, 4)
    view = with_teacher(X, {"A": np.ones((80, 3)), "D": X[:, ::-1], "E": X**3})
    result = Cka()(view)
    assert set(result.values) == {"teacher_D", "teacher_E", "highest", "cka"}
    assert result.values["teacher_D"] == result.values["highest"] == pytest.approx(1, abs=1e-5)
    assert result.values["cka"] == result.values["teacher_E"] < 0.99
    assert list(result.arrays["taps"]) == ["A", "D", "E"]
    assert np.isnan(result.arrays["cka"][0])
    assert set(result.figures) == {"cka"}


def test_cka_of_three_images_is_rejected():
    with pytest.raises(ValueError, match="at least 4"):
        cka_of(np.eye(3), np.eye(3))


# -- wide layers


def test_wide_layers_take_seconds():
    """1,000 images and a layer of 16,384; the limit is five times the processor's time that the slowest takes."""
    X, labels = clusters(18, 1000, 16_384, 100, noise=4)
    view = layer_view(X, labels, logits=np.eye(100)[labels], head=(np.ones((100, 64)), 0))
    for metric in (LinearProbe(), EffectiveRank(), NeuralCollapse()):
        start = time.process_time()
        metric(view)
        assert time.process_time() - start < 10, type(metric).__name__


# -- bad input


@pytest.mark.parametrize(
    ("metric", "params", "message"),
    [
        (KnnAccuracy, {"k": 0}, "k=0"),
        (KnnAccuracy, {"metric": "cosine"}, "metric='cosine'"),
        (LinearProbe, {"folds": 1}, "folds=1"),
        (LinearProbe, {"max_points": 3}, "max_points=3"),
        (Cka, {"batch_size": 3}, "batch_size=3"),
        (EffectiveRank, {"max_points": 1}, "max_points=1"),
        (IntrinsicDimension, {"discard": 1.0}, "discard=1.0"),
    ],
)
def test_parameters_out_of_range_are_rejected(metric, params, message):
    with pytest.raises(ValueError, match=message):
        metric(**params)


@pytest.mark.parametrize("metric", [LinearProbe, EffectiveRank, NeuralCollapse])
def test_non_finite_activations_are_rejected(metric):
    with pytest.raises(ValueError, match="not finite"):
        metric()(layer_view([[1.0, np.nan], [0.0, 1.0]], [0, 1]))
