"""Weights with few distinct values, and what storing them takes (Polino, Pascanu & Alistarh, "Model compression
via distillation and quantization", ICLR 2018; arXiv 1802.05668)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

FLOAT_BITS = 32


def in_buckets(weight: torch.Tensor, bucket: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A tensor as rows of at most `bucket` weights scaled to 0..1, with each row's low end and width (section 2.1,
    eq. (2)).

    The last row is filled up with the last weight. A row of equal weights has width 0 and is 0 throughout.

    Returns:
        (rows, bucket), (rows, 1), (rows, 1).
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
    """The reverse of `in_buckets`, in the shape of `like`."""
    return (rows * width + low).flatten()[: like.numel()].view_as(like)


def uniformly_quantised(weight: torch.Tensor, *, bits: int, bucket: int) -> torch.Tensor:
    """Each weight at the nearest of 2^bits evenly spaced values between its bucket's extremes (section 2.1,
    deterministic rounding). Any shape, which is kept."""
    rows, low, width = in_buckets(weight, bucket)
    steps = 2**bits - 1
    return out_of_buckets((rows * steps).round() / steps, low, width, weight)


def quantised_at(weight: torch.Tensor, points: torch.Tensor, *, bucket: int) -> torch.Tensor:
    """Each weight, scaled to its bucket, at the nearest of `points`, (n,) in any order (section 4).

    The gradient of a point is the sum over the weights that were moved to it (eq. (6)); none flows to the weights.
    """
    import torch

    rows, low, width = in_buckets(weight.detach(), bucket)
    points = points.sort().values
    between = ((points[1:] + points[:-1]) / 2).detach()
    nearest = torch.bucketize(rows, between)
    return out_of_buckets(points[nearest], low, width, weight)


def quantile_points(weight: torch.Tensor, *, bits: int, bucket: int) -> torch.Tensor:
    """2^bits points between 0 and 1 that equally many of the scaled weights lie near: the starting points."""
    import torch

    ordered = in_buckets(weight.detach(), bucket)[0].flatten().sort().values
    n = 2**bits
    middles = (torch.arange(n, device=weight.device) + 0.5) / n
    return ordered[(middles * len(ordered)).long()]


def quantised_names(model: nn.Module, *, ends: bool) -> list[str]:
    """Parameters that are quantised: matrices and kernels, without the first and the last unless `ends`. Biases
    and batch normalisation stay as they are.

    Raises:
        ValueError: nothing is left.
    """
    names = [name for name, p in model.named_parameters() if p.ndim > 1]
    names = names if ends else names[1:-1]
    if not names:
        raise ValueError(f"ends={ends!r}: True for a network without layers between its first and its last")
    return names


def size_in_bits(
    model: nn.Module, names: Sequence[str], *, bits: int, bucket: int, points: int = 0
) -> tuple[int, int]:
    """What storing a network takes, quantised and not, in bits.

    A quantised tensor takes `bits` a weight, two floats a bucket for its ends, and `points` floats of its own. All
    other parameters, and the statistics of batch normalisation, take 32 bits a number.
    """
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    numbers = {name: t.numel() for name, t in state.items() if t.is_floating_point()}
    quantised = sum(
        numbers[name] * bits + (-(-numbers[name] // bucket) * 2 + points) * FLOAT_BITS for name in names
    )
    kept = sum(n for name, n in numbers.items() if name not in set(names)) * FLOAT_BITS
    return quantised + kept, sum(numbers.values()) * FLOAT_BITS
