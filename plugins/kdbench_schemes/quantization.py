"""Quantised weights and their storage size (Polino, Pascanu & Alistarh, "Model compression
via distillation and quantization", ICLR 2018; arXiv 1802.05668)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

FLOAT_BITS = 32


def in_buckets(weight: torch.Tensor, bucket: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Split a tensor into rows of at most `bucket` weights, each scaled to 0..1 (section 2.1, eq. (2)).

    The last row is padded with the last weight. A row of equal weights has width 0 and is 0 everywhere.

    Parameters
    ----------
    weight
        Tensor of any shape.
    bucket
        Largest number of weights in a row.

    Returns
    -------
    tuple[Tensor, Tensor, Tensor]
        Scaled rows (rows, bucket), their minima (rows, 1) and their widths (rows, 1).
    """
    import torch

    flat = weight.flatten()
    size = min(bucket, len(flat))
    if missing := -len(flat) % size:
        flat = torch.cat([flat, flat[-1:].expand(missing)])
    rows = flat.view(-1, size)
    low, high = rows.aminmax(dim=1, keepdim=True)
    width = high - low
    return (rows - low) / torch.where(width > 0, width, 1.0), low, width


def out_of_buckets(
    rows: torch.Tensor, low: torch.Tensor, width: torch.Tensor, like: torch.Tensor
) -> torch.Tensor:
    """Inverse of `in_buckets`, in the shape of `like`."""
    return (rows * width + low).flatten()[: like.numel()].view_as(like)


def uniformly_quantised(weight: torch.Tensor, *, bits: int, bucket: int) -> torch.Tensor:
    """Round each weight to 2^bits evenly spaced values between its bucket's extremes.

    Section 2.1, deterministic rounding. The shape does not change.
    """
    rows, low, width = in_buckets(weight, bucket)
    steps = 2**bits - 1
    return out_of_buckets((rows * steps).round() / steps, low, width, weight)


def quantised_at(weight: torch.Tensor, points: torch.Tensor, *, bucket: int) -> torch.Tensor:
    """Round each weight, scaled to its bucket, to the nearest of `points`, (n,) in any order (section 4).

    The gradient of a point is the sum over the weights rounded to it (eq. (6)); no gradient flows to the weights.
    """
    import torch

    rows, low, width = in_buckets(weight.detach(), bucket)
    points = points.sort().values
    between = ((points[1:] + points[:-1]) / 2).detach()
    nearest = torch.bucketize(rows, between)
    return out_of_buckets(points[nearest], low, width, weight)


def quantile_points(weight: torch.Tensor, *, bits: int, bucket: int) -> torch.Tensor:
    """The initial points: 2^bits quantiles of the scaled weights, between 0 and 1."""
    import torch

    ordered = in_buckets(weight.detach(), bucket)[0].flatten().sort().values
    n = 2**bits
    middles = (torch.arange(n, device=weight.device) + 0.5) / n
    return ordered[(middles * len(ordered)).long()]


def quantised_names(model: nn.Module, *, ends: bool) -> list[str]:
    """Names of the parameters to quantise: matrices and kernels, without the first and the last unless `ends`.

    Biases and batch normalisation are not quantised.

    Parameters
    ----------
    model
        The network.
    ends
        Include the first and the last layer.

    Returns
    -------
    list[str]
        Parameter names.

    Raises
    ------
    ValueError
        No parameter would be quantised.
    """
    names = [name for name, p in model.named_parameters() if p.ndim > 1]
    names = names if ends else names[1:-1]
    if not names:
        raise ValueError(f"ends={ends!r}: must be True for a network with fewer than three layers")
    return names


def size_in_bits(
    model: nn.Module, names: Sequence[str], *, bits: int, bucket: int, points: int = 0
) -> tuple[int, int]:
    """Storage size of a network in bits, with and without quantisation.

    A quantised tensor needs `bits` per weight, two floats per bucket, and `points` floats. All other parameters, and
    the statistics of batch normalisation, need 32 bits per number.
    """
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    numbers = {name: t.numel() for name, t in state.items() if t.is_floating_point()}
    quantised = sum(
        numbers[name] * bits + (-(-numbers[name] // bucket) * 2 + points) * FLOAT_BITS for name in names
    )
    rest = sum(n for name, n in numbers.items() if name not in set(names)) * FLOAT_BITS
    return quantised + rest, sum(numbers.values()) * FLOAT_BITS
