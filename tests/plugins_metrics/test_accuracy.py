"""Accuracy against scikit-learn and worked examples."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from kdbench_metrics.accuracy import Accuracy

NAN = float("nan")


def view(logits, labels, history=None):
    return SimpleNamespace(
        logits=np.asarray(logits, np.float32), labels=np.asarray(labels), history=history or {}
    )


def measured(history, **params):
    """Accuracy of a network whose final predictions are all correct."""
    return Accuracy(**params)(view(np.eye(3), np.arange(3), history))


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((400, 12)).astype(np.float32), rng.integers(0, 12, 400)
    values = Accuracy()(view(logits, labels)).values
    assert values["accuracy"] == values["last"] == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    assert values["top5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=np.arange(12)))


def test_tied_logits_count_as_one_guess():
    values = Accuracy()(view(np.zeros((10, 10)), np.arange(10))).values
    assert values == {"accuracy": 0.1, "last": 0.1, "top5": 0.5}


def test_top5_is_absent_with_five_classes():
    assert set(Accuracy()(view(np.eye(5), np.arange(5))).values) == {"accuracy", "last"}


# -- selection


def test_best_epoch_is_selected_on_validation():
    history = {"test_accuracy": [0.2, 0.9, 0.5, 0.4]}
    assert "best_validation" not in measured(history).values
    history["validation_accuracy"] = [0.1, 0.3, 0.6, 0.6]
    values = measured(history).values
    assert values["best_validation"] == 0.5  # the first of two tied epochs
    assert values["accuracy"] == values["last"] == 1.0


def test_epochs_without_evaluation_are_skipped():
    history = {"test_accuracy": [NAN, 0.3, NAN, 0.5], "validation_accuracy": [NAN, 0.4, NAN, 0.2]}
    values = measured(history, last_k=2).values
    assert values["best_validation"] == 0.3
    assert values["median_last"] == pytest.approx(0.4)


def test_setting_of_one_evaluation():
    result = measured({"test_accuracy": [NAN, 0.3]}, selection="median-last", last_k=20)
    assert (result.values["accuracy"], result.setting) == (0.3, "ranked by the one evaluation")


def test_each_rule_reports_its_value_and_setting():
    history = {"test_accuracy": [0.9, 0.1, 0.2, 0.6], "validation_accuracy": [0.5, 0.8, 0.1, 0.2]}
    found = {
        (s, k): measured(history, selection=s, last_k=k)
        for s, k in (("last", 20), ("best-validation", 20), ("median-last", 3), ("median-last", 20))
    }
    assert {k: (pytest.approx(r.values["accuracy"]), r.setting) for k, r in found.items()} == {
        ("last", 20): (1.0, "ranked by the last epoch"),
        ("best-validation", 20): (0.1, "ranked by the best epoch on validation"),
        ("median-last", 3): (0.2, "ranked by the median of the last 3 evaluations"),
        ("median-last", 20): (0.4, "ranked by the median of all 4 evaluations"),
    }
    for (_, last_k), result in found.items():  # all rules are recorded for any selection
        assert result.values["last"] == 1.0
        assert result.values["best_validation"] == 0.1
        assert result.values["median_last"] == pytest.approx(0.2 if last_k == 3 else 0.4)


def test_median_uses_only_last_k_evaluations():
    history = {"test_accuracy": [0.0] * 50 + [0.5] * 19 + [0.6]}
    assert measured(history).values["median_last"] == 0.5
    assert measured(history, last_k=60).values["median_last"] == 0.0


@pytest.mark.parametrize("selection", ["best-validation", "median-last"])
def test_rule_without_evaluations_is_rejected(selection):
    with pytest.raises(ValueError, match=f"selection='{selection}'"):
        measured({}, selection=selection)


def test_only_best_validation_needs_validation_split():
    assert [Accuracy(selection=s).needs_validation for s in ("last", "best-validation", "median-last")] == [
        False, True, False,
    ]  # fmt: skip


# -- bad input


@pytest.mark.parametrize(
    ("params", "message"), [({"selection": "best"}, "one of last"), ({"last_k": 0}, "last_k=0")]
)
def test_parameters_out_of_range_are_rejected(params, message):
    with pytest.raises(ValueError, match=message):
        Accuracy(**params)


@pytest.mark.parametrize(
    ("logits", "labels", "history", "message"),
    [
        (np.zeros((3, 4)), [0, 1], {}, "do not fit"),
        (np.zeros((0, 4)), [], {}, "do not fit"),
        (np.full((2, 4), np.nan), [0, 1], {}, "not finite"),
        (np.eye(3), [0, 1, 2], {"validation_accuracy": [0.1], "test_accuracy": [0.1, 0.2]}, "paired"),
    ],
)
def test_invalid_input_is_rejected(logits, labels, history, message):
    with pytest.raises(ValueError, match=message):
        Accuracy()(view(logits, np.asarray(labels, np.int64), history))
