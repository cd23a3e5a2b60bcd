"""The losses against a few lines of NumPy in float64, and what is known of their gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from kdbench_semisup import losses

N, C = 64, 6


def logits(seed, scale=3.0):
    return scale * np.random.default_rng(seed).standard_normal((N, C))


WEAK, STRONG = logits(0), logits(1)
LABELS = np.random.default_rng(2).integers(0, C, N)
EACH = np.arange(N)


def both(function, expected):
    """Float64 to ten digits, float32 to five, bfloat16 as the float32 of its values."""
    assert float(function(torch.tensor(WEAK), torch.tensor(STRONG))) == pytest.approx(expected, rel=1e-10)
    weak, strong = torch.tensor(WEAK).float(), torch.tensor(STRONG).float()
    got = function(weak, strong)
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(expected, rel=1e-4)
    half = function(weak.bfloat16(), strong.bfloat16())
    assert float(half) == pytest.approx(float(function(weak.bfloat16().float(), strong.bfloat16().float())))


def test_mean_square():
    expected = ((softmax(WEAK, axis=1) - softmax(STRONG, axis=1)) ** 2).sum() / (N * C)
    both(losses.mean_square, expected)
    assert float(losses.mean_square(torch.tensor(WEAK), torch.tensor(WEAK))) == 0


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.95])
def test_pseudo_label(threshold):
    p = softmax(WEAK, axis=1)
    used = p.max(1) > threshold
    both(lambda w, s: losses.pseudo_label(w, threshold)[0], -(np.log(p.max(1)) * used).sum() / N)
    assert float(losses.pseudo_label(torch.tensor(WEAK), threshold)[1]) == pytest.approx(used.mean())


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.95])
def test_hard_consistency(threshold):
    p = softmax(WEAK, axis=1)
    used = p.max(1) >= threshold
    each = -log_softmax(STRONG, axis=1)[EACH, p.argmax(1)]
    both(lambda w, s: losses.hard_consistency(w, s, threshold)[0], (each * used).sum() / N)
    assert float(
        losses.hard_consistency(torch.tensor(WEAK), torch.tensor(STRONG), threshold)[1]
    ) == pytest.approx(used.mean())


def test_hard_consistency_with_a_threshold_a_class():
    thresholds = np.linspace(0.3, 0.99, C)
    p = softmax(WEAK, axis=1)
    used = p.max(1) >= thresholds[p.argmax(1)]
    expected = (-log_softmax(STRONG, axis=1)[EACH, p.argmax(1)] * used).sum() / N
    both(lambda w, s: losses.hard_consistency(w, s, torch.tensor(thresholds))[0], expected)


def test_a_probability_at_the_threshold_counts_in_fixmatch_and_not_in_pseudo_label():
    sure = torch.tensor([[0.0, -math.inf]], dtype=torch.float64)
    assert float(losses.hard_consistency(sure, torch.zeros(1, 2).double(), 1.0)[1]) == 1
    assert float(losses.pseudo_label(sure, 1.0)[1]) == 0


@pytest.mark.parametrize(("temperature", "threshold"), [(1.0, 0.0), (0.4, 0.8), (0.4, 0.0)])
def test_soft_consistency(temperature, threshold):
    used = softmax(WEAK, axis=1).max(1) >= threshold
    each = entropy(softmax(WEAK / temperature, axis=1), softmax(STRONG, axis=1), axis=1)
    both(
        lambda w, s: losses.soft_consistency(w, s, temperature=temperature, threshold=threshold)[0],
        (each * used).sum() / N,
    )


def test_entropy():
    both(lambda w, s: losses.entropy(w), entropy(softmax(WEAK, axis=1), axis=1).mean())


@pytest.mark.parametrize(
    "loss",
    [
        losses.mean_square,
        lambda w, s: losses.hard_consistency(w, s, 0.5)[0],
        lambda w, s: losses.soft_consistency(w, s, temperature=0.5, threshold=0.5)[0],
    ],
)
def test_the_gradient_flows_into_the_second_view_alone(loss):
    weak, strong = (torch.tensor(z, requires_grad=True) for z in (WEAK, STRONG))
    loss(weak, strong).backward()
    assert weak.grad is None
    assert strong.grad.abs().sum() > 0


def test_the_pi_models_paper_lets_it_flow_into_both():
    weak, strong = (torch.tensor(z, requires_grad=True) for z in (WEAK, STRONG))
    losses.mean_square(weak, strong, detach=False).backward()
    assert weak.grad.abs().sum() > 0


@pytest.mark.parametrize("most", [0.0, 0.3, 1.0])
def test_annealed_cross_entropy_leaves_out_what_is_known(most):
    p = softmax(WEAK, axis=1)[EACH, LABELS]
    counted = p <= most
    expected = -np.log(p[counted]).mean() if counted.any() else 0.0
    got = losses.annealed_cross_entropy(torch.tensor(WEAK), torch.tensor(LABELS), most)
    assert float(got) == pytest.approx(expected)


def test_annealing_thresholds():
    """UDA, section 3.1: alpha (1 - 1/K) + 1/K, alpha = 1 - exp(-5t), t or exp(5(t - 1))."""
    at = losses.annealing_threshold
    assert at("none", 0.0, 10) == 1
    assert at("linear", 0.5, 10) == pytest.approx(0.55)
    assert at("log", 0.2, 4) == pytest.approx(0.25 + 0.75 * (1 - np.exp(-1)))
    assert at("exp", 0.8, 4) == pytest.approx(0.25 + 0.75 * np.exp(-1))
    assert at("exp", 1.0, 4) == 1


@pytest.mark.parametrize("warm_up", [True, False])
def test_class_thresholds(warm_up):
    """FlexMatch, eqs. (7), (11), (12)."""
    selected = np.array([-1] * 30 + [0] * 20 + [1] * 5 + [2] * 40)
    counts = np.array([20, 5, 40, 0])
    pool = 90  # rows beyond those of the pool are never predicted
    largest = max(counts.max(), pool - counts.sum()) if warm_up else counts.max()
    beta = counts / largest
    got = losses.class_thresholds(torch.tensor(selected), 4, pool, threshold=0.95, warm_up=warm_up)
    np.testing.assert_allclose(got.numpy(), 0.95 * beta / (2 - beta), rtol=1e-6)


def test_class_thresholds_start_at_nought():
    for warm_up in (True, False):
        got = losses.class_thresholds(torch.full((9,), -1), 4, 9, threshold=0.95, warm_up=warm_up)
        assert torch.equal(got, torch.zeros(4))


def test_sharpening():
    p = softmax(WEAK, axis=1)
    expected = p**2 / (p**2).sum(1, keepdims=True)
    np.testing.assert_allclose(losses.sharpen(torch.tensor(p), 0.5).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(losses.sharpen(torch.tensor(p), 1.0).numpy(), p, rtol=1e-12)


def test_mixing():
    x = np.random.default_rng(0).standard_normal((5, 3, 2, 2))
    share, partner = np.linspace(0.5, 1, 5), np.array([3, 0, 4, 1, 2])
    expected = np.stack([share[i] * x[i] + (1 - share[i]) * x[partner[i]] for i in range(5)])
    got = losses.mix(torch.tensor(x), torch.tensor(partner), torch.tensor(share))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_mixmatchs_terms():
    q = softmax(STRONG, axis=1)
    both(
        lambda w, s: losses.soft_cross_entropy(w, losses.wide(s).softmax(1)),
        -(q * log_softmax(WEAK, axis=1)).sum() / N,
    )
    both(
        lambda w, s: losses.brier(w, losses.wide(s).softmax(1)),
        ((q - softmax(WEAK, axis=1)) ** 2).sum() / (N * C),
    )


def test_ramps():
    line = [losses.linear_ramp(t, 0.1, 0.6) for t in (0.0, 0.1, 0.35, 0.6, 1.0)]
    assert line == pytest.approx([0, 0, 0.5, 1, 1])
    assert losses.linear_ramp(0.0, 0.0, 0.0) == 1
    gauss = [losses.gaussian_ramp(t, 0.4) for t in (0.0, 0.2, 0.4, 1.0)]
    assert gauss == pytest.approx([np.exp(-5), np.exp(-1.25), 1, 1])
    assert losses.gaussian_ramp(0.0, 0.0) == 1


def test_labelled_batches_need_labels():
    with pytest.raises(ValueError, match="without labels"):
        losses.cross_entropy(torch.zeros(2, 3), None)
