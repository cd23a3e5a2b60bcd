"""Superclass output correlation against np.corrcoef, analytic cases and invariances."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from kdbench.errors import KdbenchError
from kdbench_lee2021.superclass_correlation import SuperclassCorrelation


def view(logits, superclass_of):
    groups = None if superclass_of is None else np.asarray(superclass_of)
    names = () if groups is None else tuple(f"s{i}" for i in range(groups.max() + 1))
    return SimpleNamespace(
        logits=np.asarray(logits, np.float32), superclass_of=groups, superclass_names=names
    )


@pytest.fixture
def correlated():
    rng = np.random.default_rng(3)
    groups = rng.permutation(np.repeat(np.arange(4), 5))
    shared = rng.standard_normal((300, 4))
    return (shared[:, groups] + rng.standard_normal((300, 20))).astype(np.float32), groups


@pytest.mark.parametrize("of", ["logits", "softmax"])
def test_correlations_equal_numpy_corrcoef(correlated, of):
    logits, groups = correlated
    result = SuperclassCorrelation(of=of)(view(logits, groups))
    outputs = logits.astype(np.float64)
    if of == "softmax":
        outputs = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    rho = np.corrcoef(outputs.T)
    for s in range(4):
        members = np.flatnonzero(groups == s)
        pairs = [rho[a, b] for i, a in enumerate(members) for b in members[i + 1 :]]
        assert len(pairs) == 10
        assert result.arrays["r"][s] == pytest.approx(np.mean(pairs), abs=1e-12)
        assert result.arrays["r2"][s] == pytest.approx(np.mean(np.square(pairs)), abs=1e-12)
    assert result.values["r"] == pytest.approx(result.arrays["r"].mean())
    assert result.values["r2"] == pytest.approx(result.arrays["r2"].mean())
    others = rho[(groups[:, None] != groups) & np.triu(np.ones_like(rho, bool), 1)]
    assert result.values["r_between"] == pytest.approx(others.mean())
    assert result.setting == f"n=300, {of}"


def test_identical_and_opposite_outputs():
    x = np.random.default_rng(0).standard_normal(50)
    result = SuperclassCorrelation()(view(np.stack([x, x, x, -x], 1), [0, 0, 1, 1]))
    np.testing.assert_allclose(result.arrays["r"], [1, -1])
    np.testing.assert_allclose(result.arrays["r2"], [1, 1])
    assert result.values["r"] == pytest.approx(0, abs=1e-12)


def test_invariant_to_scale_and_offset_of_a_class(correlated):
    logits, groups = correlated
    rng = np.random.default_rng(5)
    moved = logits * rng.uniform(0.5, 20, 20) + rng.normal(0, 5, 20)
    before, after = (SuperclassCorrelation()(view(z, groups)) for z in (logits, moved))
    np.testing.assert_allclose(after.arrays["r"], before.arrays["r"], atol=1e-5)


def test_invariant_to_image_order_and_equivariant_to_superclass_order(correlated):
    logits, groups = correlated
    before = SuperclassCorrelation()(view(logits, groups)).arrays["r"]
    after = SuperclassCorrelation()(view(logits[::-1], 3 - groups)).arrays["r"]
    np.testing.assert_allclose(after, before[::-1], atol=1e-12)


def test_constant_outputs_and_single_classes_are_excluded():
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((40, 6))
    logits[:, 2] = 0.1
    result = SuperclassCorrelation()(view(logits, [0, 0, 0, 1, 2, 2]))
    rho = np.corrcoef(logits.astype(np.float32).T[[0, 1, 4, 5]])
    np.testing.assert_allclose(result.arrays["r"], [rho[0, 1], np.nan, rho[2, 3]], atol=1e-12)
    assert result.values["r"] == pytest.approx((rho[0, 1] + rho[2, 3]) / 2)


def test_undefined_value_is_absent():
    result = SuperclassCorrelation()(view(np.ones((30, 4)), [0, 0, 1, 1]))
    assert result.values == {}


@pytest.mark.parametrize("groups", [None, [0, 1, 2]])
def test_dataset_without_superclasses_error_has_hint(groups):
    with pytest.raises(KdbenchError, match="no superclass") as error:
        SuperclassCorrelation()(view(np.eye(3), groups))
    assert "cifar100" in error.value.hint


@pytest.mark.parametrize("logits", [np.zeros((5, 3)), np.zeros((1, 4)), np.full((5, 4), np.inf)])
def test_invalid_logits_are_rejected(logits):
    with pytest.raises(ValueError, match="logits"):
        SuperclassCorrelation()(view(logits, [0, 0, 1, 1]))


def test_parameter_out_of_range_is_rejected():
    with pytest.raises(ValueError, match=r"of='probabilities'.*'softmax'"):
        SuperclassCorrelation(of="probabilities")
