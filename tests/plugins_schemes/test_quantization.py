"""Quantised weights against NumPy, their storage size, and the gradient of the points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kdbench_schemes.quantization import (
    in_buckets,
    out_of_buckets,
    quantile_points,
    quantised_at,
    quantised_names,
    size_in_bits,
    uniformly_quantised,
)


def rounded(weight: np.ndarray, bits: int, bucket: int) -> np.ndarray:
    """Bucket by bucket: to 0..1, to the nearest of 2^bits levels, and back."""
    out = weight.reshape(-1).copy()
    for start in range(0, len(out), bucket):
        part = out[start : start + bucket]
        low, width = part.min(), part.max() - part.min()
        if width:
            out[start : start + bucket] = (
                np.round((part - low) / width * (2**bits - 1)) / (2**bits - 1) * width + low
            )
    return out.reshape(weight.shape)


@pytest.mark.parametrize(
    ("shape", "bucket"), [((8, 4, 3, 3), 256), ((8, 4, 3, 3), 50), ((5, 7), 2), ((1, 3), 64)]
)
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_uniform_quantisation_against_numpy(shape, bucket, bits):
    weight = np.random.default_rng(0).normal(size=shape)
    found = uniformly_quantised(torch.from_numpy(weight), bits=bits, bucket=bucket)
    np.testing.assert_allclose(found, rounded(weight, bits, bucket), rtol=1e-12, atol=1e-12)


def test_bucket_has_at_most_2_to_the_bits_values_and_keeps_extremes():
    weight = torch.randn(4, 256)
    found = uniformly_quantised(weight, bits=3, bucket=256)
    assert all(len(row.unique()) <= 8 for row in found)
    torch.testing.assert_close(found.amin(1), weight.amin(1))
    torch.testing.assert_close(found.amax(1), weight.amax(1))
    assert (found - weight).abs().max() <= (weight.amax(1) - weight.amin(1)).max() / 14 + 1e-6


def test_quantisation_is_idempotent_and_precise_with_many_bits():
    weight = torch.randn(300, dtype=torch.float64)
    once = uniformly_quantised(weight, bits=3, bucket=64)
    torch.testing.assert_close(uniformly_quantised(once, bits=3, bucket=64), once)
    torch.testing.assert_close(uniformly_quantised(weight, bits=16, bucket=64), weight, atol=1e-4, rtol=0)


def test_equal_weights_do_not_change():
    weight = torch.full((10,), 0.25)
    assert torch.equal(uniformly_quantised(weight, bits=2, bucket=4), weight)


def test_out_of_buckets_inverts_in_buckets():
    weight = torch.randn(3, 5, 7)
    assert torch.allclose(out_of_buckets(*in_buckets(weight, 16), weight), weight, atol=1e-6)


def test_weights_are_rounded_to_nearest_point():
    weight, points = torch.rand(500, dtype=torch.float64), torch.tensor([0.9, 0.1, 0.4], dtype=torch.float64)
    weight[0], weight[1] = 0.0, 1.0  # so that the bucket is 0..1
    expected = points[(weight[:, None] - points).abs().argmin(1)]
    torch.testing.assert_close(quantised_at(weight, points, bucket=500), expected)


def test_point_gradient_is_sum_over_its_weights():
    """Polino et al., eq. (6), here with the bucket's width."""
    weight = torch.tensor([0.0, 0.1, 0.2, 1.8, 2.0])
    points = torch.tensor([0.1, 0.95], requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    quantised_at(weight, points, bucket=5).backward(upstream)
    assert points.grad.tolist() == [2 * 7.0, 2 * 24.0]


def test_initial_points_are_quantiles():
    weight = torch.rand(4000, generator=torch.Generator().manual_seed(0)) ** 3
    points = quantile_points(weight, bits=2, bucket=4000)
    scaled = in_buckets(weight, 4000)[0].flatten()
    np.testing.assert_allclose(points, np.quantile(scaled, [0.125, 0.375, 0.625, 0.875]), atol=2e-3)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 1), nn.Linear(5, 2)
    )


def test_ends_biases_and_normalisation_are_not_quantised():
    assert quantised_names(network(), ends=False) == ["1.weight", "3.weight"]
    assert quantised_names(network(), ends=True) == ["0.weight", "1.weight", "3.weight", "4.weight"]


def test_network_with_fewer_than_three_layers_is_rejected():
    with pytest.raises(ValueError, match="ends=False: must be True for a network"):
        quantised_names(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), ends=False)


def test_size_counts_bits_scales_points_and_unquantised_parameters():
    sizes = {"0": 108 + 4, "1.bias": 6, "bn": 4 * 6, "3.bias": 5, "4": 10 + 2}
    kept = sum(sizes.values()) * 32
    quantised = 216 * 4 + 3 * 2 * 32 + 30 * 4 + 1 * 2 * 32  # 216 weights are three buckets of 100
    names = ["1.weight", "3.weight"]
    found, whole = size_in_bits(network(), names, bits=4, bucket=100)
    assert (found, whole) == (kept + quantised, (kept // 32 + 246) * 32)
    with_points, _ = size_in_bits(network(), names, bits=4, bucket=100, points=16)
    assert with_points == found + 2 * 16 * 32
