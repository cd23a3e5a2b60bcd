"""Accuracy of a network, against scikit-learn and by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from kdbench_metrics.accuracy import Accuracy


def view(logits, labels, history=None):
    return SimpleNamespace(
        logits=np.asarray(logits, np.float32), labels=np.asarray(labels), history=history or {}
    )


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((400, 12)).astype(np.float32), rng.integers(0, 12, 400)
    values = Accuracy()(view(logits, labels)).values
    assert values["accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    assert values["top5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=np.arange(12)))


def test_equal_logits_are_one_guess_not_a_hit_for_every_class():
    values = Accuracy()(view(np.zeros((10, 10)), np.arange(10))).values
    assert values == {"accuracy": 0.1, "top5": 0.5}


def test_top5_is_left_out_where_it_is_always_one():
    assert set(Accuracy()(view(np.eye(5), np.arange(5))).values) == {"accuracy"}


def test_the_test_set_never_chooses_the_epoch():
    history = {"test_accuracy": [0.2, 0.9, 0.5, 0.4]}
    assert "at_best_validation" not in Accuracy()(view(np.eye(3), np.arange(3), history)).values
    history["validation_accuracy"] = [0.1, 0.3, 0.6, 0.6]
    values = Accuracy()(view(np.eye(3), np.arange(3), history)).values
    assert values["at_best_validation"] == 0.5  # the first of the two best by validation
    assert values["accuracy"] == 1.0


def test_epochs_without_a_measurement_are_passed_over():
    nan = float("nan")
    history = {"test_accuracy": [nan, 0.3, nan, 0.5], "validation_accuracy": [nan, 0.4, nan, 0.2]}
    assert Accuracy()(view(np.eye(3), np.arange(3), history)).values["at_best_validation"] == 0.3


@pytest.mark.parametrize(
    ("logits", "labels", "history", "message"),
    [
        (np.zeros((3, 4)), [0, 1], {}, "do not fit"),
        (np.zeros((0, 4)), [], {}, "do not fit"),
        (np.full((2, 4), np.nan), [0, 1], {}, "not finite"),
        (np.eye(3), [0, 1, 2], {"validation_accuracy": [0.1], "test_accuracy": [0.1, 0.2]}, "paired"),
    ],
)
def test_bad_input_is_refused(logits, labels, history, message):
    with pytest.raises(ValueError, match=message):
        Accuracy()(view(logits, np.asarray(labels, np.int64), history))
