"""Losses on activations against NumPy in float64: values, minima and invariances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy, norm, ortho_group

from kdbench_schemes.amtml import integrated_target, kl_to
from kdbench_schemes.attention_transfer import attention_loss
from kdbench_schemes.crd import contrastive_loss
from kdbench_schemes.fitnets import hint_loss
from kdbench_schemes.pkt import pkt_loss
from kdbench_schemes.reviewkd import hierarchical_context_loss
from kdbench_schemes.rkd import angle_loss, distance_loss
from kdbench_schemes.similarity import similarity_loss
from kdbench_schemes.vid import vid_loss

B = 6
ROTATION = ortho_group.rvs(7, random_state=0)


@pytest.fixture
def rows():
    """Student (6, 7) and teacher (6, 4) activations."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(B, 7)), rng.normal(size=(B, 4))


@pytest.fixture
def maps():
    """Student (6, 3, 4, 4) and teacher (6, 5, 4, 4) activations."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(B, 3, 4, 4)), rng.normal(size=(B, 5, 4, 4))


def value(loss, *arrays, **more) -> float:
    return loss(*(torch.from_numpy(np.asarray(a)) for a in arrays), **more).item()


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def averaged(maps: np.ndarray, side: int) -> np.ndarray:
    """(b, c, h, h) averaged in blocks down to `side`."""
    b, c, h, _ = maps.shape
    return maps.reshape(b, c, side, h // side, side, h // side).mean((3, 5))


def huber(a: np.ndarray, b: np.ndarray) -> float:
    d = np.abs(a - b)
    return float(np.where(d < 1, d**2 / 2, d - 0.5).mean())


# -- by their formulas


def attention(f: np.ndarray) -> np.ndarray:
    return unit((f**2).sum(1).reshape(len(f), -1))


def test_attention_loss(maps):
    q_s, q_t = map(attention, maps)
    assert value(attention_loss, *maps) == pytest.approx(((q_s - q_t) ** 2).mean(), rel=1e-12)
    distance = np.linalg.norm(q_s - q_t, axis=1)
    beta = 1 / (16 * B)  # times 10^3, the default weight
    assert value(attention_loss, *maps, variant="paper") == pytest.approx(
        beta / 2 * distance.sum(), rel=1e-12
    )


def test_attention_is_compared_at_smaller_size(maps):
    student, teacher = maps
    larger = np.random.default_rng(2).normal(size=(B, 2, 8, 8))
    small = averaged(larger, 4)
    assert value(attention_loss, larger, teacher) == pytest.approx(value(attention_loss, small, teacher))
    assert value(attention_loss, student, larger) == pytest.approx(value(attention_loss, student, small))


def test_similarity_loss(rows):
    grams = [unit(f @ f.T) for f in rows]
    expected = ((grams[0] - grams[1]) ** 2).sum() / B**2
    assert value(similarity_loss, *rows) == pytest.approx(expected, rel=1e-12)


def test_distance_loss(rows):
    relative = []
    for f in rows:
        d = np.array([[np.linalg.norm(x - y) for y in f] for x in f])
        relative.append(d / d[d > 0].mean())
    assert value(distance_loss, *rows) == pytest.approx(huber(*relative), rel=1e-12)


def test_angle_loss(rows):
    cosines = []
    for f in rows:
        found = np.zeros((B, B, B))
        for i, j, k in itertools.product(range(B), repeat=3):
            if i not in (j, k):
                found[i, j, k] = unit(f[j] - f[i]) @ unit(f[k] - f[i])
        cosines.append(found)
    assert value(angle_loss, *rows) == pytest.approx(huber(*cosines), rel=1e-12)


def test_pkt_loss(rows):
    p_s, p_t = ((unit(f) @ unit(f).T + 1) / 2 for f in rows)
    p_s, p_t = (p / p.sum(1, keepdims=True) for p in (p_s, p_t))
    expected = entropy(p_t, p_s, axis=1).sum() / B**2
    assert value(pkt_loss, *rows) == pytest.approx(expected, rel=1e-4)  # but for the epsilon


def test_vid_loss_is_gaussian_likelihood(maps):
    _, teacher = maps
    mean, variance = np.random.default_rng(3).normal(size=teacher.shape), np.array([0.1, 0.5, 1, 2, 9])
    density = norm.logpdf(teacher, mean, np.sqrt(variance)[:, None, None])
    expected = -density.mean() - np.log(2 * np.pi) / 2
    assert value(vid_loss, mean, teacher, variance) == pytest.approx(expected, rel=1e-12)


def test_hint_loss(maps):
    _, teacher = maps
    predicted = teacher + 0.5
    assert value(hint_loss, predicted, teacher) == pytest.approx(0.125)
    assert value(hint_loss, predicted[..., :1, :1], teacher[..., 0, 0]) == pytest.approx(0.125)


@pytest.mark.parametrize(("side", "levels"), [(8, (8, 4, 2, 1)), (4, (4, 2, 1)), (2, (2, 1)), (1, (1,))])
def test_hierarchical_context_loss(side, levels):
    rng = np.random.default_rng(side)
    student, teacher = rng.normal(size=(2, B, 3, side, side))
    errors = [((averaged(student, n) - averaged(teacher, n)) ** 2).mean() for n in levels]
    weights = 0.5 ** np.arange(len(levels))
    expected = (weights * errors).sum() / weights.sum()
    assert value(hierarchical_context_loss, student, teacher) == pytest.approx(expected, rel=1e-12)


def test_contrastive_loss_equals_published_sum_over_negatives():
    """With explicit lists of negatives, the constant as a factor, and the epsilon of the authors' code."""
    rng = np.random.default_rng(4)
    images, n, scale, epsilon = 9, 12, 3.7, 1e-7
    similarities, own = rng.normal(size=(B, images)), rng.permutation(images)[:B]
    lists = rng.integers(0, images, (B, n))
    expected = 0.0
    for row, mine, negatives in zip(similarities, own, lists, strict=True):
        p = np.exp(row) / scale
        noise = n / images
        expected -= np.log(p[mine] / (p[mine] + noise + epsilon))
        expected -= np.log(noise / (p[negatives] + noise + epsilon)).sum()
    counts = np.array([np.bincount(x, minlength=images) for x in lists], dtype=float)
    found = value(contrastive_loss, similarities, own, counts, np.log(scale))
    assert found == pytest.approx(expected / B, rel=1e-6)


def test_integrated_target_uses_weights_per_image():
    rng = np.random.default_rng(5)
    teachers, weights = 3 * rng.normal(size=(3, B, 5)), softmax(rng.normal(size=(B, 3)), 1)
    expected = np.einsum("bm,mbk->bk", weights, softmax(teachers / 4, 2))
    found = integrated_target(*map(torch.from_numpy, (teachers, np.log(weights))), temperature=4.0)
    np.testing.assert_allclose(found.exp().numpy(), expected, rtol=1e-12)
    student = rng.normal(size=(B, 5))
    divergence = entropy(expected, np.exp(log_softmax(student / 4, 1)), axis=1).mean()
    assert value(kl_to, found.numpy(), student, temperature=4.0) == pytest.approx(divergence, rel=1e-10)


# -- what holds whatever the numbers

LEAST = {
    "attention": (attention_loss, (B, 3, 4, 4)),
    "similarity": (similarity_loss, (B, 7)),
    "distance": (distance_loss, (B, 7)),
    "angle": (angle_loss, (B, 7)),
    "pkt": (pkt_loss, (B, 7)),
    "hcl": (hierarchical_context_loss, (B, 3, 8, 8)),
    "hint": (hint_loss, (B, 3, 4, 4)),
}


@pytest.mark.parametrize("name", LEAST)
def test_minimum_at_equality_and_no_gradient_to_teacher(name):
    loss, shape = LEAST[name]
    rng = np.random.default_rng(6)
    teacher = torch.from_numpy(rng.normal(size=shape)).requires_grad_()
    student = teacher.detach().clone().requires_grad_()
    least = loss(student, teacher)
    least.backward()
    assert least.item() == pytest.approx(0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.abs().max().item() == pytest.approx(0, abs=1e-6)
    other = torch.from_numpy(rng.normal(size=shape)).requires_grad_()
    more = loss(other, teacher)
    more.backward()
    assert more.item() > 1e-3 or name == "pkt"
    assert more.item() > 1e-5
    assert other.grad is not None
    assert other.grad.abs().max() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_attention_is_invariant_to_sign_and_scale(maps, variant):
    student, teacher = maps
    expected = value(attention_loss, student, teacher, variant=variant)
    scales = np.linspace(0.5, 3, B)[:, None, None, None]  # of each image's own
    assert value(attention_loss, -scales * student, 7 * teacher, variant=variant) == pytest.approx(expected)
    assert value(attention_loss, student[:, ::-1].copy(), teacher, variant=variant) == pytest.approx(expected)


def test_rkd_is_invariant_to_rotation_scale_and_translation(rows):
    student, teacher = rows
    moved = 3 * student @ ROTATION + np.arange(7)
    for loss in (distance_loss, angle_loss):
        assert value(loss, moved, teacher) == pytest.approx(value(loss, student, teacher), rel=1e-9)
        assert value(loss, moved, student) == pytest.approx(0, abs=1e-20)


def test_similarity_is_invariant_to_rotation_and_scale(rows):
    student, teacher = rows
    turned = 3 * student @ ROTATION
    assert value(similarity_loss, turned, teacher) == pytest.approx(value(similarity_loss, student, teacher))
    assert value(similarity_loss, turned, student) == pytest.approx(0, abs=1e-20)


def test_pkt_is_invariant_to_scale(rows):
    student, teacher = rows
    scales = np.linspace(0.5, 3, B)[:, None]
    turned = scales * student @ ROTATION
    assert value(pkt_loss, turned, teacher) == pytest.approx(value(pkt_loss, student, teacher), rel=1e-6)


def test_losses_are_invariant_to_image_order(rows):
    order = np.random.default_rng(7).permutation(B)
    for loss in (similarity_loss, distance_loss, angle_loss, pkt_loss):
        assert value(loss, *(f[order] for f in rows)) == pytest.approx(value(loss, *rows))


def test_losses_of_equal_images_and_zero_layers_are_finite(rows):
    for loss in (similarity_loss, distance_loss, angle_loss, pkt_loss):
        for student in (np.repeat(rows[0][:1], B, 0), np.zeros((B, 7))):
            given = torch.from_numpy(student).requires_grad_()
            found = loss(given, torch.from_numpy(rows[1]))
            found.backward()
            assert found.isfinite()
            assert given.grad is not None
            assert given.grad.isfinite().all()


def test_duplicate_image_keeps_angle_gradient_bounded():
    """Two copies of an image, equal up to rounding in one network and slightly different in the other."""
    rng = np.random.default_rng(9)
    student, teacher = rng.normal(size=(2, 32, 8)).astype(np.float32)
    for nudge in (0, 1e-7):
        given = student.copy()
        given[1] = given[0] + nudge * rng.normal(size=8)
        seen = teacher.copy()
        seen[1] = seen[0] + 1e-2 * rng.normal(size=8)
        features = torch.from_numpy(given).requires_grad_()
        angle_loss(features, torch.from_numpy(seen)).backward()
        norms = features.grad.norm(dim=1)
        assert norms[:2].max() < 10 * norms[2:].max()


def test_best_variance_equals_mean_squared_error(maps):
    _, teacher = maps
    mean = np.random.default_rng(8).normal(size=teacher.shape)
    best = ((teacher - mean) ** 2).mean((0, 2, 3))
    least = value(vid_loss, mean, teacher, best)
    for factor in (0.8, 1.25):
        assert value(vid_loss, mean, teacher, factor * best) > least


def test_contrastive_loss_prefers_positive_to_negatives():
    similarities = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([[0.0, 2, 0], [1, 0, 1]], dtype=torch.float64)
    contrastive_loss(similarities, torch.tensor([0, 1]), counts, torch.tensor(0.0)).backward()
    assert similarities.grad is not None
    signs = similarities.grad.sign()
    assert torch.equal(signs, torch.tensor([[-1.0, 1, 0], [1, -1, 1]], dtype=torch.float64))


def test_half_precision_is_computed_in_float32(rows, maps):
    def halved(arrays):
        return [torch.from_numpy(a).bfloat16() for a in arrays]

    for loss, arrays in [(similarity_loss, rows), (angle_loss, rows), (attention_loss, maps)]:
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(*halved(arrays))
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(loss(*(a.double() for a in halved(arrays))).item(), rel=1e-4)
