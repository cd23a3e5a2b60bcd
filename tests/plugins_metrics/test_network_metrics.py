"""Fidelity, calibration and superclass confusion against SciPy, scikit-learn, torchmetrics and worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from metric_views import network_view
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import confusion_matrix, log_loss

from kdbench_metrics.calibration import Calibration
from kdbench_metrics.fidelity import Fidelity
from kdbench_metrics.superclass_confusion import SuperclassConfusion


def some(seed: int, n: int = 300, classes: int = 7, scale: float = 2.0):
    rng = np.random.default_rng(seed)
    return (scale * rng.standard_normal((n, classes))).astype(np.float32), rng.integers(0, classes, n)


# -- fidelity


def fidelity(student, teacher, independent=None):
    labels = np.zeros(len(student), int)
    other = None if independent is None else network_view(independent, labels)
    view = network_view(
        student, labels, teacher=network_view(teacher, labels), independent_teacher=other
    )  # fmt: skip
    return Fidelity()(view)


def test_fidelity_equals_scipy_and_scikit_learn():
    student, teacher, other = (some(seed)[0] for seed in range(3))
    values = fidelity(student, teacher, other).values
    p = [softmax(x.astype(np.float64), axis=1) for x in (teacher, other, student)]
    assert values["kl"] == pytest.approx(entropy(p[0], p[2], axis=1).mean(), rel=1e-9)
    assert values["kl_independent"] == pytest.approx(entropy(p[1], p[2], axis=1).mean(), rel=1e-9)
    assert values["agreement"] == np.mean(student.argmax(1) == teacher.argmax(1))
    assert values["agreement_gain"] == pytest.approx(values["agreement"] - values["agreement_independent"])


def test_copy_of_teacher_has_perfect_fidelity():
    teacher, other = some(0)[0], some(1)[0]
    values = fidelity(teacher, teacher, other).values
    assert (values["agreement"], values["kl"]) == (1.0, 0.0)
    assert values["agreement_independent"] < 0.5
    # adding a constant to the logits of an image changes no probability
    moved = fidelity(teacher + np.arange(len(teacher))[:, None], teacher).values
    assert moved["kl"] == pytest.approx(0, abs=1e-6)


def test_direction_of_kl_divergence():
    sure, even = np.log([[0.9, 0.1]]), np.zeros((1, 2))
    assert fidelity(even, sure).values["kl"] == pytest.approx(0.9 * np.log(1.8) + 0.1 * np.log(0.2))
    assert fidelity(sure, even).values["kl"] == pytest.approx(-0.5 * np.log(4 * 0.9 * 0.1), rel=1e-6)


def test_no_control_without_independent_teacher():
    assert set(fidelity(*(some(s)[0] for s in (0, 1))).values) == {"agreement", "kl"}


def test_fidelity_of_very_large_logits_is_finite():
    sure = 1e4 * np.eye(3, dtype=np.float32)
    assert fidelity(sure, sure).values["kl"] == 0
    assert fidelity(np.roll(sure, 1, axis=1), sure).values["kl"] == pytest.approx(1e4)


def test_teacher_with_other_classes_is_rejected():
    with pytest.raises(ValueError, match="teacher's logits are"):
        fidelity(some(0, classes=4)[0], some(1, classes=5)[0])


# -- calibration


def by_the_book(p: np.ndarray, labels: np.ndarray, bins: int) -> tuple[float, float]:
    """ECE and MCE computed image by image and bin by bin."""
    gaps, weights = [], []
    for m in range(bins):
        inside = [i for i in range(len(p)) if m / bins < p[i].max() <= (m + 1) / bins]
        if inside:
            right = np.mean([p[i].argmax() == labels[i] for i in inside])
            gaps.append(abs(right - np.mean([p[i].max() for i in inside])))
            weights.append(len(inside) / len(p))
    return float(np.dot(gaps, weights)), max(gaps)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_equals_equations(bins):
    logits, labels = some(3)
    values = Calibration(bins=bins)(network_view(logits, labels)).values
    p = softmax(logits.astype(np.float64), axis=1)
    ece, mce = by_the_book(p, labels, bins)
    assert values["ece"] == pytest.approx(ece, rel=1e-9)
    assert values["mce"] == pytest.approx(mce, rel=1e-9)
    assert values["nll"] == pytest.approx(log_loss(labels, p, labels=np.arange(7)), rel=1e-9)
    assert values["brier"] == pytest.approx(np.square(p - np.eye(7)[labels]).sum(1).mean(), rel=1e-9)


def test_calibration_agrees_with_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.classification")
    import torch

    logits, labels = some(4, n=2000, classes=10)
    values = Calibration(bins=15)(network_view(logits, labels)).values
    p = torch.softmax(torch.from_numpy(logits), 1)
    for name, norm in (("ece", "l1"), ("mce", "max")):
        found = functional.multiclass_calibration_error(p, torch.from_numpy(labels), 10, n_bins=15, norm=norm)
        assert values[name] == pytest.approx(float(found), abs=1e-5)


def test_perfectly_calibrated_network_has_zero_ece():
    logits = np.log(np.tile([0.75, 0.25], (400, 1)))
    values = Calibration()(network_view(logits, np.arange(400) % 4 // 3)).values
    assert values["ece"] == pytest.approx(0, abs=1e-6)
    assert values["overconfidence"] == pytest.approx(0, abs=1e-6)
    wrong = Calibration()(network_view(20 * np.eye(2), [1, 0])).values
    assert wrong["ece"] == wrong["overconfidence"] == pytest.approx(1)
    assert wrong["brier"] == pytest.approx(2)


def test_reliability_bins_contain_all_images():
    logits, labels = some(5)
    arrays = Calibration(bins=20)(network_view(logits, labels)).arrays
    assert arrays["count"].sum() == len(labels)
    assert np.isnan(arrays["accuracy"][:2]).all()  # of seven classes none can be below 1/7
    filled = arrays["count"] > 0
    edge = np.arange(20) / 20
    assert ((arrays["confidence"] > edge) & (arrays["confidence"] <= edge + 0.05))[filled].all()


# -- superclasses


def confusion_view(logits, labels, groups, names=()):
    return network_view(logits, labels, superclass_of=np.asarray(groups), superclass_names=names)


def test_confusion_equals_scikit_learn():
    logits, labels = some(6, classes=6)
    groups = np.array([0, 1, 2, 0, 1, 2])
    result = SuperclassConfusion()(confusion_view(logits, labels, groups, ("a", "b", "c")))
    chosen = logits.argmax(1)
    np.testing.assert_array_equal(
        result.arrays["confusion"], confusion_matrix(groups[labels], groups[chosen], labels=[0, 1, 2])
    )
    wrong = chosen != labels
    assert result.values["within"] == np.mean(groups[chosen[wrong]] == groups[labels[wrong]])
    assert result.values["superclass_accuracy"] == np.mean(groups[chosen] == groups[labels])
    assert result.values["chance"] == pytest.approx(1 / 5)
    assert list(result.arrays["names"]) == ["a", "b", "c"]
    assert set(result.figures) == {"confusion"}


def test_errors_within_and_outside_superclass():
    groups = [0, 0, 1, 1]
    inside = SuperclassConfusion()(confusion_view(np.eye(4)[[1, 0, 3, 2]], np.arange(4), groups)).values
    assert inside == {"superclass_accuracy": 1.0, "within": 1.0, "chance": pytest.approx(1 / 3)}
    outside = SuperclassConfusion()(confusion_view(np.eye(4)[[2, 3, 0, 1]], np.arange(4), groups)).values
    assert (outside["within"], outside["superclass_accuracy"]) == (0.0, 0.0)


def test_within_is_absent_without_errors():
    values = SuperclassConfusion()(confusion_view(np.eye(4), np.arange(4), [0, 0, 1, 1])).values
    assert values == {"superclass_accuracy": 1.0}


def test_chance_equals_share_of_uniform_errors():
    rng = np.random.default_rng(7)
    groups, labels = np.array([0, 0, 0, 1, 2, 2]), rng.integers(0, 6, 20_000)
    chosen = (labels + rng.integers(1, 6, len(labels))) % 6
    values = SuperclassConfusion()(confusion_view(np.eye(6)[chosen], labels, groups)).values
    assert values["within"] == pytest.approx(values["chance"], abs=0.01)
