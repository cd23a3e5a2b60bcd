"""NT-Xent against NumPy; SimCLR's views against torchvision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torchvision.transforms import functional as tv

from kdbench_schemes.contrastive import Views, grey, nt_xent, turned


@pytest.fixture
def images():
    """uint8 (64, 3, 16, 16) with some grey and some black pixels."""
    drawn = torch.randint(
        0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    drawn[:8] = drawn[:8, :1]
    drawn[8] = 0
    return drawn


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_against_numpy(temperature):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 6, 4))
    views = np.concatenate([one, other])
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    similarity = views @ views.T / temperature
    total = 0.0
    for i in range(12):
        rest = [j for j in range(12) if j != i]
        total += logsumexp(similarity[i, rest]) - similarity[i, (i + 6) % 12]
    found = nt_xent(torch.from_numpy(one), torch.from_numpy(other), temperature=temperature)
    assert float(found) == pytest.approx(total / 12, rel=1e-12)


def test_nt_xent_is_invariant_to_scale_rotation_and_image_order():
    one, other = torch.randn(2, 6, 4, dtype=torch.float64)
    before = nt_xent(one, other)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    order = torch.randperm(6)
    for changed in (
        (one * 7, other * 0.1),
        (one @ turn, other @ turn),
        (one[order], other[order]),
        (other, one),
    ):
        torch.testing.assert_close(nt_xent(*changed), before)


def test_nt_xent_of_identical_views_is_chance_level():
    same = torch.ones(8, 3)
    assert float(nt_xent(same, same)) == pytest.approx(math.log(15), rel=1e-6)


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.03, 0.25])
def test_hue_rotation_equals_torchvision(images, turn):
    floats = images.float() / 255
    found = turned(floats, torch.full((64, 1, 1), turn))
    expected = torch.stack([tv.adjust_hue(x, turn) for x in floats])
    assert (found - expected).abs().max() < 2e-5


def test_grey_equals_torchvision(images):
    floats = images.float() / 255
    torch.testing.assert_close(grey(floats), tv.rgb_to_grayscale(floats), atol=1e-3, rtol=0)


def test_views_keep_shape_and_dtype_and_depend_on_seed(images):
    views = Views()
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(views(images))
    assert made[0].dtype == torch.uint8
    assert made[0].shape == images.shape
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert len(made[0].flatten(1).unique(dim=0)) > 60


def test_nearly_full_crops_without_jitter_equal_image_or_mirror():
    """At an aspect ratio of 3/4 about 13 % of the width are cut off, at most all of it on one side."""
    torch.manual_seed(0)
    gradient = torch.arange(16, dtype=torch.uint8).mul(16).expand(256, 3, 16, 16).contiguous()
    seen = Views(strength=0.0, smallest=1.0)(gradient).float()
    mirrored = seen[..., 0] > seen[..., -1]
    assert 90 < mirrored[:, 0, 0].sum() < 166
    upright = torch.where(mirrored[..., None], seen.flip(-1), seen)
    assert 20 < (upright - gradient.float()).abs().max() < (1 - math.sqrt(3 / 4)) * 256 + 1


def test_crops_have_the_requested_area():
    """On a horizontal ramp the range of values is the crop's width."""
    torch.manual_seed(0)
    ramp = torch.linspace(0, 255, 64).to(torch.uint8).expand(2000, 1, 64, 64)
    seen = Views(strength=0.0, smallest=0.25)(ramp).float()
    width = (seen.amax((1, 2, 3)) - seen.amin((1, 2, 3))) / 255
    assert 0.4 < width.min() < 0.5  # sqrt(0.25 * 3/4)
    assert width.max() > 0.95


def test_views_of_images_with_one_channel(images):
    torch.manual_seed(0)
    assert Views()(images[:, :1]).shape == (64, 1, 16, 16)
