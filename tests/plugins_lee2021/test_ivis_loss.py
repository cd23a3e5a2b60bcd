"""Converged ivis loss from an embedding's loss history."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from kdbench.api import Embedding
from kdbench_lee2021.ivis_loss import IvisLoss


def view(losses, diagnostics=None, params=None, n=50):
    embedding = Embedding(
        points=np.zeros((n, 2), np.float32),
        reducer="ivis-torch",
        params=params or {},
        n_features=64,
        loss_history=tuple(losses),
        diagnostics=diagnostics or {},
    )
    return SimpleNamespace(embedding=embedding)


def test_values_of_a_loss_history():
    losses = [9.0] * 10 + list(range(20, 0, -1)) + [0.5, 3.0]
    result = IvisLoss()(view(losses, {"loss_eval": 0.25, "k": 15.0, "n": 50}))
    assert result.values == {
        "last": 3.0,
        "min": 0.5,
        "tail20": (sum(range(1, 19)) + 3.5) / 20,
        "n_epochs": 32,
        "eval": 0.25,
    }
    assert result.setting == "n=50, k=15"
    np.testing.assert_array_equal(result.arrays["loss"], losses)


def test_short_history_uses_all_epochs_and_has_no_eval():
    result = IvisLoss()(view([3.0, 1.0]))
    assert result.values == {"last": 1.0, "min": 1.0, "tail20": 2.0, "n_epochs": 2}
    assert result.setting == "n=50"


def test_setting_uses_k_of_diagnostics_before_params():
    assert IvisLoss()(view([1.0], {"k": 20}, {"k": 150})).setting == "n=50, k=20"
    assert IvisLoss()(view([1.0], {}, {"k": 150})).setting == "n=50, k=150"


def test_missing_or_non_finite_losses_are_rejected():
    with pytest.raises(ValueError, match=r"'ivis-torch' reports no loss history"):
        IvisLoss()(view([]))
    with pytest.raises(ValueError, match="not finite from epoch 1 on"):
        IvisLoss()(view([1.0, float("nan"), 2.0]))
