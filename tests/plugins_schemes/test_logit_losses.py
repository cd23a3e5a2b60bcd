"""Losses on logits against NumPy in float64, and their general properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import pearsonr

from kdbench_schemes._common import cross_entropy, soft_kl
from kdbench_schemes.controls import permuted_wrong, virtual_teacher_kl
from kdbench_schemes.dist import correlation_distance, softened
from kdbench_schemes.dkd import decoupled_kl
from kdbench_schemes.logit_standardization import standardised
from kdbench_schemes.logits_mse import squared_distance
from kdbench_schemes.multi_teacher import ensemble_logits

B, K = 7, 5


@pytest.fixture
def logits():
    """(student, teacher, labels) as float64 arrays: (7, 5), (7, 5), (7,)."""
    rng = np.random.default_rng(3)
    return 2 * rng.normal(size=(B, K)), 3 * rng.normal(size=(B, K)), rng.integers(0, K, B)


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) of rows of probabilities, averaged over rows."""
    return float((p * (np.log(p) - np.log(q))).sum(1).mean())


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.asarray(a)) for a in arrays]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_kl_equals_kl_of_soft_targets(logits, temperature):
    student, teacher, _ = logits
    expected = kl(softmax(teacher / temperature, 1), softmax(student / temperature, 1))
    found = soft_kl(*tensors(student, teacher), temperature=temperature)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_soft_kl_at_high_temperature_is_logit_regression(logits):
    """Hinton et al., eq. (4): in the limit of high temperatures distillation is regression on logits."""
    student, teacher, _ = logits
    centred = [z - z.mean(1, keepdims=True) for z in (student, teacher)]
    expected = ((centred[0] - centred[1]) ** 2).sum(1).mean() / (2 * K)
    t = 1e4
    assert float(t**2 * soft_kl(*tensors(student, teacher), temperature=t)) == pytest.approx(
        expected, rel=1e-3
    )


def test_soft_kl_has_no_gradient_to_teacher(logits):
    student, teacher = (z.requires_grad_() for z in tensors(*logits[:2]))
    soft_kl(student, teacher, temperature=2.0).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_losses_use_full_precision_under_autocast(logits):
    student, teacher = (z.bfloat16() for z in tensors(*logits[:2]))
    expected = soft_kl(student.double(), teacher.double(), temperature=4.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = soft_kl(student, teacher, temperature=4.0)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_with_smoothed_labels(logits, smoothing):
    student, _, labels = logits
    target = (1 - smoothing) * np.eye(K)[labels] + smoothing / K
    expected = -(target * log_softmax(student, 1)).sum(1).mean()
    found = cross_entropy(*tensors(student, labels), label_smoothing=smoothing)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_squared_distance_of_both_variants(logits):
    student, teacher, _ = logits
    squares = (student - teacher) ** 2
    code, paper = (squared_distance(*tensors(student, teacher), variant=v) for v in ("code", "paper"))
    assert float(code) == pytest.approx(squares.mean(), rel=1e-12)
    assert float(paper) == pytest.approx(0.5 * squares.sum(1).mean(), rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_kl_against_numpy(logits, temperature):
    student, teacher, labels = logits
    p, q = softmax(teacher / temperature, 1), softmax(student / temperature, 1)
    at = np.eye(K, dtype=bool)[labels]
    pairs = [np.stack([x[at], 1 - x[at]], 1) for x in (p, q)]
    rest = [x[~at].reshape(B, K - 1) / (1 - x[at])[:, None] for x in (p, q)]
    tckd, nckd = decoupled_kl(*tensors(student, teacher, labels), temperature=temperature)
    assert float(tckd) == pytest.approx(kl(*pairs), rel=1e-9)
    assert float(nckd) == pytest.approx(kl(*rest), rel=1e-9)


def test_decoupled_terms_add_up_to_kl(logits):
    """DKD, eq. (6), image by image: KL = TCKD + (1 - p) NCKD."""
    student, teacher, labels = tensors(*logits)
    for i in range(B):
        one = slice(i, i + 1)
        tckd, nckd = decoupled_kl(student[one], teacher[one], labels[one], temperature=1.0)
        p = float(teacher[i].softmax(0)[labels[i]])
        assert float(tckd + (1 - p) * nckd) == pytest.approx(
            float(soft_kl(student[one], teacher[one])), rel=1e-9
        )


def test_decoupled_kl_of_certain_teacher_is_finite():
    teacher, student = torch.tensor([[80.0, 0.0, -40.0]]), torch.zeros(1, 3, requires_grad=True)
    tckd, nckd = decoupled_kl(student, teacher, torch.tensor([0]), temperature=1.0)
    (tckd + nckd).backward()
    assert float(tckd) == pytest.approx(math.log(3), rel=1e-6)
    assert student.grad.isfinite().all()


def test_correlation_distance_against_scipy(logits):
    student, teacher, _ = logits
    expected = 1 - np.mean([pearsonr(a, b)[0] for a, b in zip(student, teacher, strict=True)])
    assert float(correlation_distance(*tensors(student, teacher))) == pytest.approx(expected, rel=1e-12)


def test_correlation_distance_is_invariant_to_scale_and_shift(logits):
    student, teacher = tensors(*logits[:2])
    scale, shift = torch.rand(B, 1, dtype=torch.float64) + 0.1, torch.randn(B, 1, dtype=torch.float64)
    before = float(correlation_distance(student, teacher))
    assert float(correlation_distance(scale * student + shift, teacher)) == pytest.approx(before, rel=1e-9)
    assert float(correlation_distance(scale * teacher + shift, teacher)) == pytest.approx(0, abs=1e-12)
    assert float(correlation_distance(-teacher, teacher)) == pytest.approx(2)


def test_correlation_of_very_small_probabilities():
    """A class that no image has probability for counts as much as any other: an epsilon beside the product of the
    spreads would drop it."""
    rows = torch.randn(1, 64)
    assert float(correlation_distance(1e-7 * rows, 1e-7 * rows)) == pytest.approx(0, abs=1e-5)


def test_constant_row_has_zero_correlation_and_finite_gradient():
    student = torch.ones(2, 4, requires_grad=True)
    loss = correlation_distance(student, torch.randn(2, 4))
    loss.backward()
    assert float(loss) == 1
    assert student.grad.isfinite().all()


def test_softened(logits):
    student = logits[0]
    np.testing.assert_allclose(softened(*tensors(student), 4.0), softmax(student / 4, 1), rtol=1e-12)


def test_standardised_logits_have_zero_mean_and_unit_std(logits):
    student = logits[0]
    expected = (student - student.mean(1, keepdims=True)) / student.std(1, ddof=1, keepdims=True)
    np.testing.assert_allclose(standardised(*tensors(student)), expected, rtol=1e-6)
    np.testing.assert_allclose(standardised(*tensors(7 * student - 3)), expected, rtol=1e-6)


def test_average_of_probabilities_and_of_logits():
    rng = np.random.default_rng(1)
    several, t = rng.normal(size=(3, B, K)) * 4, 2.0
    by_probability = ensemble_logits(*tensors(several), average="probabilities", temperature=t)
    np.testing.assert_allclose(
        softmax(by_probability.numpy() / t, 1), softmax(several / t, 2).mean(0), rtol=1e-9
    )
    by_logit = ensemble_logits(*tensors(several), average="logits", temperature=t)
    np.testing.assert_allclose(by_logit, several.mean(0), rtol=1e-12)


def test_average_of_equal_teachers_is_that_teacher(logits):
    teacher = logits[1]
    for average in ("probabilities", "logits"):
        found = ensemble_logits(*tensors(np.stack([teacher] * 3)), average=average, temperature=4.0).numpy()
        np.testing.assert_allclose(softmax(found, 1), softmax(teacher, 1), rtol=1e-9)


def test_virtual_teacher_of_both_variants(logits):
    student, _, labels = logits
    right, t = 0.9, 20.0
    teacher = np.full((B, K), (1 - right) / (K - 1))
    teacher[np.arange(B), labels] = right
    code = kl(softmax(teacher / t, 1), softmax(student, 1))
    powers = teacher ** (1 / t)
    paper = kl(powers / powers.sum(1, keepdims=True), softmax(student / t, 1))
    for variant, expected in (("code", code), ("paper", paper)):
        found = virtual_teacher_kl(*tensors(student, labels), correct=right, temperature=t, variant=variant)
        assert float(found) == pytest.approx(expected, rel=1e-9)


def test_permuted_wrong_keeps_prediction_confidence_and_entropy():
    torch.manual_seed(0)
    logits = torch.randn(200, 6)
    permuted = permuted_wrong(logits)
    assert torch.equal(permuted.argmax(1), logits.argmax(1))
    assert torch.equal(permuted.amax(1), logits.amax(1))
    assert torch.equal(permuted.sort(1).values, logits.sort(1).values)
    assert not torch.equal(permuted, permuted_wrong(logits))


def test_permutations_are_uniform():
    torch.manual_seed(0)
    logits = torch.tensor([[9.0, 1.0, 2.0, 3.0]]).expand(6000, 4)
    orders, counts = permuted_wrong(logits)[:, 1:].unique(dim=0, return_counts=True)
    assert len(orders) == 6
    assert (counts - 1000).abs().max() < 150  # five standard deviations


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: soft_kl(s, t, temperature=3.0),
        lambda s, t: squared_distance(s, t, variant="code"),
        lambda s, t: squared_distance(s, t, variant="paper"),
        lambda s, t: decoupled_kl(s, t, t.argmax(1), temperature=3.0)[0],
        lambda s, t: decoupled_kl(s, t, t.argmax(1), temperature=3.0)[1],
        lambda s, t: correlation_distance(softened(s, 3.0), softened(t, 3.0)),
        lambda s, t: correlation_distance(softened(s, 3.0).T, softened(t, 3.0).T),
        lambda s, t: soft_kl(standardised(s), standardised(t), temperature=2.0),
    ],
)
def test_loss_is_minimal_for_student_equal_to_teacher(loss, logits):
    teacher = torch.from_numpy(logits[1])
    student = teacher.clone().requires_grad_()
    least = loss(student, teacher)
    least.backward()
    assert float(least) == pytest.approx(0, abs=1e-12)
    assert student.grad.abs().max() < 1e-12
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        moved = teacher + 0.3 * torch.randn(B, K, generator=rng, dtype=torch.float64)
        assert loss(moved, teacher) > 1e-4
